"""Bad input and a full device: clear errors of the CuPy backend, and everything as it was."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import DeviceArray, unwrap
from cuda_host.fake_cupy import installed
from cuda_host.fake_memory import CUDADriverError, CUDARuntimeError, Tensor
from normcore_cupy import backend as cupy_backend
from normcore_cupy.compiler import CompileError

import normcore as nc
from normcore.affine import Affine

pytestmark = build.needs_compiler


def state(thing):
    """Return all that an object remembers; comparable by identity, as arrays are replaced.

    But for the device's copies of a layer's vectors, which are made when they are first used.
    """
    return {key: id(value) for key, value in vars(thing).items() if key != "_vectors"}


def host(array):
    return np.array(unwrap(array)) if isinstance(array, DeviceArray) else array


# -- memory is out -------------------------------------------------------------------------

ADVICE = {
    "device": r"Results so far are intact\. Free arrays .* NumPy array with backend='cupy'",
    "host": r"in chunks of \d+ bytes already: free arrays .*CupyBackend\(chunk_bytes=\.\.\.\)",
}
KERNELS = {
    "moments": lambda b, x, plane, out: b.moments(x, weights=plane).to_host().parts,
    "extrema": lambda b, x, plane, out: b.extrema(x).to_host().max,
    "brackets": lambda b, x, plane, out: b.brackets(
        x, np.full((4, 3), 99999.0), np.full((4, 3), 1e5 + 1), weights=plane
    ).inside[3][1],
    "rescale": lambda b, x, plane, out: b.rescale(x, Affine(center=1.0), mask=plane, out=out),
    "backward_reduce": lambda b, x, plane, out: b.backward_reduce(x, x, 1e5, mask=plane)[1],
    "backward_elemt": lambda b, x, plane, out: b.backward_elemt(x, x, 1.0, 2.0, 3.0, 4.0, out=out),
}


def failing_everywhere(cupy, call):
    """Call with one allocation that fails, from the first on, until none does; yield errors."""
    for number in itertools.count():
        cupy.allocations_left = number
        try:
            result = call()
        except MemoryError as error:
            cupy.allocations_left = None
            yield error
        else:
            cupy.allocations_left = None
            yield result
            return


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_any_allocation_of_a_kernel_may_fail(cupy, x, kernel, place):
    """Also those of CuPy's own functions, and pinned memory; what there is to do fits the place."""
    backend = cupy_backend.CupyBackend(chunk_bytes=4096 if kernel == "brackets" else 512)
    view, plane = x[:40, :, None], (np.arange(40) % 3 * 1.0)[:, None]
    out = np.full(view.shape, -7.0)
    if place == "device":
        view, plane, out = (cupy.asarray(each) for each in (view, plane, out))

    def call():
        return host(KERNELS[kernel](backend, view, plane, out))

    expected = call().copy()
    *errors, result = failing_everywhere(cupy, call)
    assert len(errors) >= (1 if place == "device" else 6)
    for error in errors:
        assert type(error) is MemoryError
        assert isinstance(error.__cause__, MemoryError | CUDARuntimeError)
        with pytest.raises(MemoryError, match=ADVICE[place]):
            raise error
    np.testing.assert_array_equal(result, expected)
    assert len(cupy.streams) == 1
    assert cupy._made == (0 if place == "device" else 2), "a stream was lost"


def failing(error):
    """Return a function that raises, whatever it is given."""

    def fail(*arguments, **options):
        raise error

    return fail


def test_memory_for_the_code_of_a_kernel_may_be_out(backend, cupy, x, monkeypatch):
    monkeypatch.setattr(cupy, "RawModule", failing(CUDADriverError(2)))
    with pytest.raises(MemoryError, match=rf"CUDA_ERROR_OUT_OF_MEMORY.*{ADVICE['device']}"):
        backend.extrema(cupy.asarray(x[:, :, None]))
    monkeypatch.undo()
    with installed(monkeypatch):  # the undo took it away
        backend.extrema(cupy.asarray(x[:, :, None]))


def test_memory_may_be_out_in_a_merge(backend, cupy, x):
    moments = backend.moments(cupy.asarray(x[:, :, None]))
    before = moments.to_host()
    error, merged = failing_everywhere(cupy, lambda: backend.merge(moments, moments))
    with pytest.raises(MemoryError, match=ADVICE["device"]):
        raise error
    assert moments.to_host() == before
    assert merged.to_host() == before.merge(before)


@pytest.mark.parametrize("error", [CUDARuntimeError(700), CUDADriverError(700)])
def test_other_errors_of_cuda_stay_what_they_are(backend, cupy, x, monkeypatch, error):
    monkeypatch.setattr(cupy.cuda, "alloc_pinned_memory", failing(error))
    with pytest.raises(type(error), match="700"):
        backend.extrema(x[:, :, None])


@pytest.mark.parametrize("place", ["device", "host"])
@pytest.mark.parametrize("name", ["fit", "partial_fit", "transform"])
def test_a_full_device_leaves_a_scaler_as_it_was(cupy, x, name, place):
    backend = cupy_backend.CupyBackend(chunk_bytes=512)
    given = cupy.asarray(x[:40]) if place == "device" else x[:40]
    scaler = nc.StandardScaler(backend=backend).fit(given)
    earlier = host(scaler.transform(given)).copy()
    before = state(scaler)

    def call():
        assert state(scaler) == before
        return getattr(scaler, name)(given)

    *errors, _ = failing_everywhere(cupy, call)
    assert len(errors) >= (1 if name == "transform" else 3)
    if name == "transform":
        assert state(scaler) == before
        np.testing.assert_array_equal(host(scaler.transform(given)), earlier)


@pytest.mark.parametrize("place", ["device", "host"])
def test_a_full_device_leaves_a_batch_norm_as_it_was(cupy, x, place):
    backend = cupy_backend.CupyBackend(chunk_bytes=512)
    given = cupy.asarray(x[:40]) if place == "device" else x[:40]
    layer = nc.BatchNorm(3, backend=backend)
    layer(given)

    def call(method, before):
        assert state(layer) == before
        return method(given)

    for method in (layer, layer.backward):
        *errors, _ = failing_everywhere(cupy, partial(call, method, state(layer)))
        assert len(errors) > 2
    assert layer.num_batches_tracked == 2


@pytest.mark.parametrize("failing", ["creation", "start"])
def test_streams_come_back_where_a_run_cannot_begin(backend, cupy, x, failing, monkeypatch):
    if failing == "creation":
        made = cupy.cuda.Stream
        monkeypatch.setattr(
            cupy.cuda, "Stream", lambda **options: made(**options) if cupy._made < 1 else 1 / 0
        )
    else:
        monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backend.extrema(x[:, :, None])
    monkeypatch.undo()
    with installed(monkeypatch):  # the undo took it away
        backend.extrema(x[:, :, None])
    assert cupy._made == 2, "a stream was lost"


# -- wherever it fails, nothing changes ----------------------------------------------------

FAILURES = {
    "a kernel that does not compile": (
        lambda cupy, x: (cupy.asarray(x), None),
        CompileError,
        r"(?s)NVRTC_ERROR_COMPILATION.*-fmad=false.*normcore.cu\(12\): error: expected a ';'",
    ),
    "another device": (
        lambda cupy, x: (Tensor(x.copy(), device=1), None),
        TypeError,
        r"on CUDA device 1, but device 0 is the current one; enter `with cupy.cuda.Device\(1\):`",
    ),
    "a plane on the host": (
        lambda cupy, x: (cupy.asarray(x), np.ones(700, bool)),
        TypeError,
        r"(mask|sample_weight) is in host memory, but the data is on CUDA device 0; copy one",
    ),
    "a plane on the device": (
        lambda cupy, x: (x, cupy.asarray(np.ones(700, bool))),
        TypeError,
        r"(mask|sample_weight) is on CUDA device 0, but the data is in host memory; copy one",
    ),
    "a dtype without a kernel": (
        lambda cupy, x: (cupy.asarray(x + 1j), None),
        TypeError,
        r"cannot normalize an array of dtype complex128; use real numbers",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_scaler_is_unchanged(backend, cupy, x, failure):
    make, error, message = FAILURES[failure]
    scaler = nc.StandardScaler(backend=nc.get_backend("reference")).fit(x)
    scaler.backend = backend
    before = state(scaler)
    given, weights = make(cupy, x)
    cupy.nvrtc.refuses = True
    calls = [
        lambda: scaler.fit(given, sample_weight=weights),
        lambda: scaler.partial_fit(given, sample_weight=weights),
    ]
    for call in calls if weights is not None else [*calls, lambda: scaler.transform(given)]:
        with pytest.raises(error, match=message):
            call()
        assert state(scaler) == before
    assert not cupy.nvrtc.programs
    cupy.nvrtc.refuses = False
    scaler.fit(cupy.asarray(x), sample_weight=[1.0] * 700)
    np.testing.assert_allclose(host(scaler.mean_), x.mean(axis=0))


@pytest.mark.parametrize("failure", FAILURES)
def test_a_batch_norm_is_unchanged(backend, cupy, x, failure):
    make, error, message = FAILURES[failure]
    layer = nc.BatchNorm(3, backend=backend)
    layer.running_mean = np.arange(3.0)
    given, mask = make(cupy, x)
    cupy.nvrtc.refuses = True
    for mode in (True, False):
        layer.train(mode)
        before = state(layer)
        with pytest.raises(error, match=message):
            layer(given, mask=mask)
        assert state(layer) == before
    cupy.nvrtc.refuses = False
    layer.train()
    layer(cupy.asarray(x), mask=[True] * 700)
    np.testing.assert_allclose(layer.running_mean, 0.9 * np.arange(3.0) + 0.1 * x.mean(axis=0))


# -- one by one ----------------------------------------------------------------------------


def test_host_and_device_do_not_mix(backend, cupy, x):
    native = cupy.asarray(x)
    view, native_view = x[:, :, None], native[:, :, None]
    mask = np.ones((700, 1), dtype=bool)
    with pytest.raises(TypeError, match=r"mask is in host memory, but x is on CUDA device 0"):
        backend.rescale(native_view, Affine(), mask=mask)
    with pytest.raises(TypeError, match=r"dy is in host memory, but x and mask are on CUDA dev"):
        backend.backward_reduce(view, native_view, np.zeros(3), mask=cupy.asarray(mask))
    scaler = nc.StandardScaler(backend=backend).fit(x)
    with pytest.raises(TypeError, match=r"out must be a numpy.ndarray like the input, not a .*Dev"):
        scaler.transform(x, out=cupy.empty(x.shape, np.float64))
    out = np.empty_like(x)
    assert scaler.transform(native, out=out) is out  # comes back when it is done
    np.testing.assert_array_equal(out, scaler.transform(x))


@pytest.mark.parametrize("function", [nc.functional.moments, nc.functional.quantiles])
def test_weights_lie_where_the_data_does(backend, cupy, x, function):
    native, weights = cupy.asarray(x), np.arange(700) % 5
    ranks = () if function is nc.functional.moments else ([0.5],)
    options = {"channel_axis": 1, "backend": backend}
    for data, given, places in (
        (native, weights, r"in host memory, but the data is on CUDA device 0"),
        (x, cupy.asarray(weights), r"on CUDA device 0, but the data is in host memory"),
        (native, Tensor(weights * 1.0, device=1), r"on CUDA device 1, but the data is on CUDA dev"),
    ):
        with pytest.raises(TypeError, match=rf"weights is {places}.*; copy one of them .*cupy"):
            function(data, *ranks, weights=given, **options)
    listed = function(native, *ranks, weights=weights.tolist(), **options)
    there = function(native, *ranks, weights=cupy.asarray(weights), **options)
    for key, value in there.to_host().to_state().items():
        np.testing.assert_array_equal(listed.to_host().to_state()[key], value)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "O"])
def test_dtypes_without_a_kernel(backend, cupy, dtype):
    array = np.zeros((3, 2)).astype(dtype)
    with pytest.raises(TypeError, match=r"use real numbers"):
        backend.adopt(array)
    with pytest.raises(TypeError, match=r"use real numbers"):
        backend.adopt(DeviceArray(array))


def test_an_array_of_the_current_device_is_adopted(backend, cupy, x):
    cupy.device = 1
    backend.adopt(Tensor(x, device=1))


def test_a_forked_child_is_told(backend, monkeypatch, x):
    monkeypatch.setattr(cupy_backend.os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match=r"before this process was forked.*'spawn'"):
        nc.StandardScaler(backend=backend).fit(x)


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("number", [0, -1])
def test_chunks_have_bytes(number):
    with pytest.raises(ValueError, match=r"chunk_bytes must be positive, got"):
        cupy_backend.CupyBackend(chunk_bytes=number)


def test_tensors_that_cannot_be_viewed(backend, cupy, x, monkeypatch):
    def refuse(array):
        raise BufferError("no")

    monkeypatch.setattr(cupy, "from_dlpack", refuse)
    with pytest.raises(TypeError, match=r"cannot view faketorch.Tensor through DLPack: no$"):
        backend.adopt(Tensor(x))
    tensor = Tensor(x)
    tensor.dtype = "torch.bfloat16"
    with pytest.raises(TypeError, match=r"bfloat16 needs `pip install ml-dtypes`"):
        backend.adopt(tensor)
    tensor.__class__ = type("Metal", (Tensor,), {"__dlpack_device__": lambda self: (8, 0)})
    with pytest.raises(TypeError, match=r"kind 8, which is not CUDA"):
        backend.adopt(tensor)


def test_bfloat16_of_the_host(backend):
    """NumPy cannot take it whatever is installed, so that nothing is to be installed."""
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"NumPy has no bfloat16: convert to float32") as caught:
        backend.adopt(torch.zeros(3, dtype=torch.bfloat16))
    assert "ml-dtypes" not in str(caught.value)


# -- out= overlaps an operand --------------------------------------------------------------

OVERLAPS = {
    "rows, moved by one": lambda a: (a[1:], a[:-1]),
    "columns, moved by one": lambda a: (a[:, 1:], a[:, :-1]),
    "the same, reversed": lambda a: (a[::-1], a),
}


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_an_out_that_overlaps_in_part_is_refused(backend, cupy, x, overlap):
    """Silently wrong otherwise: some threads would read what others have written."""
    F = nc.functional
    memory = cupy.asarray(x)
    given, out = OVERLAPS[overlap](memory)
    ones = np.ones(given.shape[1])
    upstream = cupy.asarray(np.ones(given.shape))
    moments = F.batch_norm(given, backend=backend)[1]
    rows = F.layer_norm(given, backend=backend)[1]
    scaler = nc.StandardScaler(backend=backend).fit(given)
    for call in (
        lambda: F.batch_norm(given, out=out, backend=backend),
        lambda: F.batch_norm_inference(given, ones, ones, out=out, backend=backend),
        lambda: F.batch_norm_backward(upstream, given, moments, out=out, backend=backend),
        lambda: F.batch_norm_backward(given, upstream, moments, out=out, backend=backend),
        lambda: F.layer_norm(given, out=out, backend=backend),
        lambda: F.layer_norm_backward(upstream, given, rows, out=out, backend=backend),
        lambda: F.group_norm(given, 1, out=out, backend=backend),
        lambda: scaler.transform(given, out=out),
    ):
        with pytest.raises(ValueError, match=r"out overlaps the input in part; pass the input"):
            call()
    np.testing.assert_array_equal(host(memory), x)


def test_an_out_that_overlaps_a_vector_or_a_mask_is_refused(backend, cupy, x):
    F = nc.functional
    given, memory = cupy.asarray(x), cupy.zeros(2200)
    out = memory[:2100].reshape(700, 3)
    gamma, mask = memory[5:8], memory.view(np.bool_)[3:703]
    for name, operand in (("gamma", gamma), ("beta", gamma), ("mask", mask)):
        with pytest.raises(ValueError, match=f"out overlaps {name}, which is read"):
            F.batch_norm(given, out=out, backend=backend, **{name: operand})
    with pytest.raises(ValueError, match="out overlaps mean, which is read"):
        F.batch_norm_inference(given, gamma, cupy.ones(3), out=out, backend=backend)
    assert not host(memory).any()


def test_interleaved_and_equal_arrays_do_not_overlap_in_part(backend, cupy, x):
    F = nc.functional
    memory = cupy.zeros((1400, 3))
    given, out = memory[::2], memory[1::2]
    given[...] = cupy.asarray(x)
    expected = F.batch_norm(x)[0]
    F.batch_norm(given, out=out, backend=backend)
    np.testing.assert_array_equal(host(out), expected)
    np.testing.assert_array_equal(host(given), x)
    F.batch_norm(given, out=given[:], backend=backend)
    np.testing.assert_array_equal(host(given), expected)
    F.layer_norm(out, out=out[:], backend=backend)
    np.testing.assert_allclose(host(out), F.layer_norm(expected)[0], rtol=1e-12, atol=1e-12)


def test_an_out_whose_elements_share_memory_is_refused(backend, cupy, x):
    out = cupy.lib.stride_tricks.as_strided(cupy.zeros(3), (700, 3), (0, 8))
    with pytest.raises(ValueError, match=r"out overlaps itself: with strides \(0, 8\)"):
        nc.functional.batch_norm(cupy.asarray(x), out=out, backend=backend)
