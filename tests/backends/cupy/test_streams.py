"""Streams and memory: whose order work is in, and that faults of it are noticed."""

from __future__ import annotations

import gc
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import DeviceArray, unwrap
from cuda_host.fake_memory import Tensor
from normcore_cupy.ordering import Ordering

import normcore as nc
from normcore.affine import Affine
from normcore.array_backend import selection
from normcore.array_backend.abstract import IN_ANY_ORDER

pytestmark = build.needs_compiler
F = nc.functional


def host(array):
    return np.array(unwrap(array)) if isinstance(array, DeviceArray) else array.numpy(force=True)


@pytest.fixture
def tensor(torch, x):
    made = torch.torch.from_numpy(x.copy())
    torch.uses(made, writes=True)
    return made


def order_of(cupy):
    return [line for line in cupy.log if "dlpack" not in line]


# -- whose stream, whose memory --------------------------------------------------------------


def test_tensors_are_worked_on_in_their_librarys_stream(backend, cupy, torch, tensor, x):
    scaler = nc.StandardScaler(backend=backend).fit(x)
    out = torch.torch.empty_like(tensor)
    cupy.log.clear()
    result = scaler.transform(tensor)
    assert order_of(cupy) == ["7 waits for 0", "launch on 7", "0 waits for 7"]
    np.testing.assert_array_equal(host(result), scaler.transform(x))
    assert scaler.transform(tensor, out=out) is out
    np.testing.assert_array_equal(host(out), host(result))
    assert len(cupy.streams) == 1


def test_one_stream_needs_no_order(backend, cupy, torch, tensor, x):
    scaler = nc.StandardScaler(backend=backend).fit(x)
    torch.uses(tensor, writes=False)
    cupy.order.synchronize(7)
    torch.stream = 0
    cupy.log.clear()
    scaler.transform(tensor)
    assert order_of(cupy) == ["launch on 0"]


def test_results_are_memory_of_pytorch_and_no_views(backend, cupy, torch, tensor):
    """A view that autograd does not know could not be changed in place."""
    y, moments = F.batch_norm(tensor, backend=backend)
    dx, dgamma, dbeta = F.batch_norm_backward(tensor, tensor, moments, backend=backend)
    for each in (y, dx, dgamma, dbeta):
        assert isinstance(each, torch.torch.Tensor)
        assert not each._is_view()
        torch.uses(each, writes=True)
    assert y.stride() == tensor.stride()
    held = {
        kept.untyped_storage().data_ptr() for kept in torch._kept if not isinstance(kept, tuple)
    }
    for each in (y, dx, dgamma, dbeta):
        assert each.untyped_storage().data_ptr() in held
    expected, theirs = F.batch_norm(host(tensor))
    np.testing.assert_array_equal(host(y), expected)
    wanted = F.batch_norm_backward(host(tensor), host(tensor), theirs)
    for got, each in zip((dx, dgamma, dbeta), wanted, strict=True):
        np.testing.assert_allclose(host(got), each, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32"])
def test_tensors_of_any_dtype_keep_their_memory_order(backend, torch, dtype):
    lib = torch.torch
    x = (lib.arange(240.0).reshape(2, 5, 4, 6) % 11).to(getattr(lib, dtype))
    x = x.to(memory_format=lib.channels_last)
    y, _ = F.batch_norm(x, backend=backend)
    assert y.dtype == (lib.float64 if dtype == "int32" else x.dtype)
    assert y.stride() == x.stride()
    expected = F.batch_norm(x.double().numpy())[0]
    np.testing.assert_allclose(y.double().numpy(), expected, atol=0.01)


CALLS = {
    "moments": lambda x, b: F.moments(x, channel_axis=1, backend=b).parts,
    "extrema": lambda x, b: F.extrema(x, channel_axis=1, backend=b).max,
    "quantiles": lambda x, b: F.quantiles(x, 0.3, channel_axis=1, backend=b).values,
    "batch norm": lambda x, b: F.batch_norm(x, backend=b)[0],
    "backward": lambda x, b: F.batch_norm_backward(x, x, F.batch_norm(x, backend=b)[1], backend=b),
    "inference": lambda x, b: F.batch_norm_inference(x, np.ones(3), np.ones(3), backend=b),
    "renorm": lambda x, b: F.batch_renorm(
        x, np.ones(3), np.ones(3), r_max=2.0, d_max=1.0, backend=b
    )[0],
    "layer norm": lambda x, b: F.layer_norm(x, np.ones(3), backend=b)[0],
    "layer norm, backward": lambda x, b: F.layer_norm_backward(
        x, x, F.layer_norm(x, backend=b)[1], np.ones(3), backend=b
    ),
    "rms norm": lambda x, b: F.rms_norm(x, backend=b)[0],
    "group norm": lambda x, b: F.group_norm(x, 3, backend=b)[0],
    "group norm, backward": lambda x, b: F.group_norm_backward(
        x, x, F.group_norm(x, 3, backend=b)[1], 3, backend=b
    ),
    "a layer": lambda x, b: nc.LayerNorm(3, backend=b)(x),
    "a scaler": lambda x, b: nc.RobustScaler(backend=b).fit_transform(x),
    "a layer in training": lambda x, b: nc.BatchNorm(3, backend=b)(x),
    "virtual batches": lambda x, b: F.batch_norm(x, virtual_batch_size=300, backend=b)[0],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stream", [7, 0])
def test_whatever_a_call_does_is_in_order(backend, cupy, torch, tensor, call, stream):
    """Nothing is on a stream that is not ordered with the tensor's, nor freed on another's."""
    torch.uses(tensor, writes=True)
    if stream == 0:
        cupy.order.synchronize(7)
    torch.stream = stream
    launched = len(cupy.log)
    result = CALLS[call](tensor, backend)
    assert {line for line in cupy.log[launched:] if "launch" in line} <= {f"launch on {stream}"}
    for each in result if isinstance(result, tuple) else (result,):
        if isinstance(each, torch.torch.Tensor):
            torch.uses(each, writes=True)
        elif isinstance(each, DeviceArray):
            cupy.used(each, writes=False)
    torch.uses(tensor, writes=True)
    del result, each
    gc.collect()
    assert cupy.order.races == []


@pytest.mark.parametrize("call", CALLS)
def test_arrays_of_cupy_are_worked_on_in_their_own_stream(backend, cupy, x, call):
    with cupy.cuda.Stream(non_blocking=True) as stream:
        native = cupy.asarray(x)
        cupy.log.clear()
        CALLS[call](native, backend)
        assert {line for line in cupy.log if "launch" in line} <= {f"launch on {stream.ptr}"}
    gc.collect()
    assert cupy.order.races == []


def test_arrays_of_both_libraries_in_one_call(backend, cupy, torch, tensor):
    """What CuPy computed is waited for, and is not freed while PyTorch's stream reads it."""
    gamma = cupy.asarray(np.arange(3.0)) + 1.0
    y, _ = F.batch_norm(tensor, gamma, backend=backend)
    del gamma
    gc.collect()
    np.testing.assert_array_equal(host(y), F.batch_norm(host(tensor), np.arange(3.0) + 1.0)[0])


def test_a_layer_takes_batches_of_both_libraries(backend, cupy, torch, tensor, x):
    layer, expected = nc.BatchNorm(3, backend=backend), nc.BatchNorm(3)
    for batch in (tensor, cupy.asarray(x), x, tensor):
        layer(batch)
        expected(x)
        gc.collect()
    np.testing.assert_allclose(layer.running_var, expected.running_var, rtol=1e-14)


@pytest.mark.parametrize("method", [None, "pooled", "algorithm2"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_what_a_batch_replaces_is_not_freed_before_the_streams_meet(
    backend, cupy, torch, tensor, x, momentum, method
):
    layer = nc.BatchNorm(3, momentum=momentum, backend=backend)
    with nc.population_statistics([layer], method=method) if method else nullcontext():
        for batch in (cupy.asarray(x), tensor, cupy.asarray(x), tensor):
            layer(batch)
    gc.collect()
    assert cupy.order.races == []


def test_a_pytorch_that_does_not_use_cuda_has_no_stream(backend, cupy, torch, x):
    torch.initialized = False  # PyTorch for the CPU; another library lends the memory
    scaler = nc.StandardScaler(backend=backend).fit(x)
    cupy.log.clear()
    scaler.transform(Tensor(x.copy()))
    assert order_of(cupy) == ["launch on 0"]


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("kind", ["PooledMemory", "UnownedMemory"])
def test_memory_that_may_be_pytorchs_is_in_order_with_it(cupy, x, kind, monkeypatch):
    """That of the CUDA array interface, and all of it where CuPy's own is known no more."""
    from normcore_cupy.backend import CupyBackend

    native = cupy.asarray(x)
    if kind == "PooledMemory":
        monkeypatch.delattr(cupy.cuda.memory, kind)
    else:
        monkeypatch.setattr("cuda_host.fake_memory.PooledMemory", type(kind, (), {}))
    backend = CupyBackend()
    scaler = nc.StandardScaler(backend=backend).fit(x)
    cupy.log.clear()
    y = scaler.transform(native)
    assert cupy.log == ["0 waits for 7", "launch on 0", "7 waits for 0"]
    np.testing.assert_array_equal(host(y), scaler.transform(x))


@pytest.mark.usefixtures("torch")
def test_the_stream_comes_back_after_an_error(backend, cupy, tensor):
    cupy.log.clear()
    with pytest.raises(ValueError, match=r"activation"):
        F.batch_norm(tensor, activation="tanh", backend=backend)
    assert cupy.log[-1] == "0 waits for 7"
    assert len(cupy.streams) == 1
    native = backend.adopt(tensor)[:, :, None]
    with pytest.raises(ValueError, match=r"activation"):
        backend.rescale(native, Affine(), activation="tanh")
    assert cupy.log[-1] == "7 waits for 0"


def test_tensors_of_another_device_are_worked_on_there(backend, cupy, torch, tensor):
    cupy.device = 1
    with pytest.raises(TypeError, match=r"on CUDA device 0, but device 1 is the current one"):
        F.extrema(backend.device.xp.asarray(host(tensor)), channel_axis=1, backend=backend)
    result = F.batch_norm(tensor, backend=backend)[0]
    assert isinstance(result, torch.torch.Tensor)
    assert cupy.device == 1


# -- faults that must be noticed -------------------------------------------------------------


def context(*, theirs: bool, before: bool, memory: bool):
    """Return a context that leaves out one of its parts."""

    @contextmanager
    def of_torch(self, torch, device):
        cuda = self._cupy.cuda
        current = cuda.get_current_stream()
        stream = self._external(torch.cuda.current_stream(device).cuda_stream)
        allocator = self._allocator(torch, device) if memory else None
        with self._entered(), cuda.using_allocator(allocator):
            if before:
                stream.wait_event(current.record())
            with stream if theirs else nullcontext():
                yield
            current.wait_event(stream.record())

    return of_torch


FAULTS = {
    "another stream": {"theirs": False, "before": True, "memory": True},
    "no wait for what CuPy computed": {"theirs": True, "before": False, "memory": True},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("of", ["weights", "gamma"])
def test_a_fault_of_order_is_caught(backend, cupy, tensor, monkeypatch, fault, of):
    monkeypatch.setattr(Ordering, "_of_torch", context(**FAULTS[fault]))
    vector = cupy.asarray(np.arange(1.0 * len(tensor) if of == "weights" else 3.0)) + 1.0
    if of == "weights":
        F.moments(tensor, channel_axis=1, weights=vector, backend=backend)
    else:
        F.batch_norm(tensor, vector, backend=backend)
    assert any("unordered" in race for race in cupy.order.races)
    cupy.order.races.clear()


@pytest.mark.parametrize("where", ["the pool of their stream", "the pool of CuPy's stream"])
def test_a_result_in_other_memory_is_caught(backend, cupy, torch, tensor, monkeypatch, where):
    """A tensor may be used, and let go of, on any stream of PyTorch's."""
    if where == "the pool of their stream":
        fault = context(theirs=True, before=True, memory=False)
        monkeypatch.setattr(Ordering, "_of_torch", fault)
    else:
        monkeypatch.setattr(selection, "in_order_with", lambda *arguments: IN_ANY_ORDER)
        monkeypatch.setattr(Ordering, "_of_torch", lambda *arguments: IN_ANY_ORDER)
    y, _ = F.batch_norm(tensor, backend=backend)
    torch.stream = 8
    cupy.order.wait(8, cupy.order.record(7))
    torch.uses(y, writes=False)
    del y
    torch._kept.clear()
    gc.collect()
    assert any("may still use it" in race for race in cupy.order.races)
    cupy.order.races.clear()


def test_memory_freed_while_another_stream_uses_it_is_caught(cupy):
    array = cupy.empty(8)
    with cupy.cuda.Stream(non_blocking=True):
        cupy.used(array, writes=True)
    del array
    gc.collect()
    assert any("may still use it" in race for race in cupy.order.races)
    cupy.order.races.clear()
    array = cupy.empty(8)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        cupy.used(array, writes=True)
    cupy.cuda.get_current_stream().wait_event(stream.record())
    del array
    gc.collect()
    assert cupy.order.races == []


# -- what is kept between calls, and what a graph is given -----------------------------------


def copies(cupy):
    return sum(each.engine == "to device" for each in cupy.order.timeline)


def test_coefficients_go_to_the_device_once(backend, cupy, x):
    native = cupy.asarray(x)
    scaler = nc.StandardScaler(backend=backend).fit(native)
    scaler.transform(native)
    before = copies(cupy)
    for _ in range(3):
        scaler.transform(native)
    assert copies(cupy) == before
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.wait_event(cupy.streams[0].record())
        scaler.transform(native)
    assert copies(cupy) == before + 1, "those of another stream are not in order with this one"
    cupy.streams[0].wait_event(stream.record())
    scaler.fit(cupy.asarray(x * 2.0))
    np.testing.assert_array_equal(
        host(scaler.transform(native)), nc.StandardScaler().fit(x * 2.0).transform(x)
    )


def test_a_graph_is_given_what_needs_no_memory(backend, cupy, x):
    scaler = nc.StandardScaler(backend=backend).fit(x)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        native, out = cupy.asarray(x), cupy.empty(x.shape, np.float64)
        scaler.transform(native, out=out)
        stream.begin_capture()
        scaler.transform(native, out=out)
        message = r"cannot be captured into a CUDA graph: it needs \d+ bytes.*torch\.cuda\.graph"
        for call in (
            lambda: scaler.transform(native),
            lambda: F.batch_norm(native, backend=backend),
            lambda: F.moments(native, channel_axis=1, backend=backend),
        ):
            with pytest.raises(RuntimeError, match=message):
                call()
        with pytest.raises(RuntimeError, match="CUDA graph: it copies numbers from the host"):
            F.batch_norm_inference(native, x[0], x[1] ** 2, out=out, backend=backend)
        stream.end_capture()
        np.testing.assert_array_equal(host(out), scaler.transform(x))
        scaler.transform(native)


def test_layers_are_unchanged_where_a_graph_refuses(backend, cupy, x):
    layer = nc.BatchNorm(3, backend=backend)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        native = cupy.asarray(x)
        layer(native)
        before = {name: id(value) for name, value in vars(layer).items()}
        stream.begin_capture()
        with pytest.raises(RuntimeError, match=r"CUDA graph"):
            layer(native)
        with pytest.raises(RuntimeError, match=r"CUDA graph"):
            layer.backward(native)
        stream.end_capture()
        assert {name: id(value) for name, value in vars(layer).items()} == before


def test_copies_overlap_kernels_on_the_timeline(cupy, x):
    """With pinned buffers for two chunks, one is copied while kernels work on the other."""
    from normcore_cupy.backend import CupyBackend

    backend = CupyBackend(chunk_bytes=1 << 14)
    batch = np.tile(x, (40, 1))
    cupy.kernel_seconds = 2e-7  # about what a copy of a chunk takes
    cupy.order.timeline.clear()
    nc.StandardScaler(backend=backend).fit(batch)
    timeline = cupy.order.timeline
    kernels = [each for each in timeline if each.engine == "kernel"]
    inward = [each for each in timeline if each.engine == "to device"]
    assert len({each.stream for each in kernels}) == 2

    def overlapped(copy):
        return any(
            each.stream != copy.stream and each.start < copy.stop and copy.start < each.stop
            for each in kernels
        )

    assert sum(map(overlapped, inward)) > 0.8 * len(inward)
    elapsed = max(each.stop for each in timeline) - min(each.start for each in timeline)
    assert elapsed < 0.8 * sum(each.stop - each.start for each in timeline)
