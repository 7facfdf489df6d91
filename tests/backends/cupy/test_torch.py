"""normcore.torch on tensors that pose as a device's: launches, streams, memory, and numbers."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from cuda_host import build

pytestmark = build.needs_compiler
torch_library = pytest.importorskip("torch")

import normcore as nc  # noqa: E402
import normcore.torch as nt  # noqa: E402


@pytest.fixture(autouse=True)
def backend(registered, torch):
    """Return the backend that is chosen for tensors, which pose as a device's."""
    return registered


LAYERS = {
    "BatchNorm1d": (lambda: nt.BatchNorm1d(5), (12, 5)),
    "BatchNorm2d": (lambda: nt.BatchNorm2d(5), (4, 5, 3, 6)),
    "BatchNorm3d": (lambda: nt.BatchNorm3d(5, momentum=None), (4, 5, 3, 2, 2)),
    "without weights": (lambda: nt.BatchNorm2d(5, affine=False), (4, 5, 3, 6)),
    "without running statistics": (
        lambda: nt.BatchNorm2d(5, track_running_stats=False), (4, 5, 3, 6),
    ),
    "float64": (lambda: nt.BatchNorm2d(5, dtype=torch_library.float64), (4, 5, 3, 6)),
    "LayerNorm": (lambda: nt.LayerNorm(6), (4, 5, 6)),
    "RMSNorm": (lambda: nt.RMSNorm(6), (4, 5, 6)),
    "GroupNorm": (lambda: nt.GroupNorm(2, 6), (4, 6, 3)),
}  # fmt: skip


def theirs(layer):
    """Return PyTorch's own layer with the same state."""
    return nt.convert(copy.deepcopy(layer), to="torch")


def example(layer, shape):
    dtype = next(iter(layer.parameters()), torch_library.empty(0)).dtype
    made = np.random.default_rng(0).standard_normal((2, *shape))
    x, dy = torch_library.from_numpy(made).to(dtype)
    return x.clone(), dy.clone()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("stream", [7, 0])
def test_training_has_pytorchs_numbers(cupy, torch, name, stream):
    make, shape = LAYERS[name]
    layer = make()
    for each in layer.parameters():
        torch_library.nn.init.normal_(each)
    expected, (x, dy) = theirs(layer), example(layer, shape)
    torch.stream = stream
    ours, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):
        y, wanted = layer(ours), expected(other)
        torch_library.testing.assert_close(y, wanted)
        y.backward(dy)
        wanted.backward(dy)
        torch.uses(y, writes=True)
    torch_library.testing.assert_close(ours.grad, other.grad, rtol=1e-4, atol=1e-5)
    for one, two in zip(layer.parameters(), expected.parameters(), strict=True):
        torch_library.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5)
    torch_library.testing.assert_close(layer.state_dict(), expected.state_dict())
    assert {line for line in cupy.log if line.startswith("launch")} == {f"launch on {stream}"}
    assert [line for line in cupy.log if "host" in line] == []
    layer.eval()
    expected.eval()
    torch_library.testing.assert_close(layer(x), expected(x))
    del y, ours
    gc.collect()


@pytest.mark.parametrize("at_once", [True, False])
def test_launches(cupy, at_once):
    """Of a batch that the cache holds, or does not."""
    if not at_once:
        cupy.emulated.num_cache_bytes = 0
    layer = nt.BatchNorm2d(5)
    x, dy = example(layer, (4, 5, 3, 6))
    x.requires_grad_()
    y = layer(x)
    names = [name.partition("_")[0] for name in cupy.launched]  # without how arrays are walked
    assert names == (["normalize"] if at_once else ["moments", "rescale"])
    cupy.launched.clear()
    y.backward(dy)
    assert [name for name in cupy.launched if "convert" in name] == []
    assert len(cupy.launched) == (1 if at_once else 2)


@pytest.mark.parametrize("momentum", [None, 0.25])
def test_batches_are_counted_once_whatever_the_number_of_blocks(cupy, momentum):
    layer = nt.BatchNorm1d(600, momentum=momentum)
    expected = theirs(layer)
    for size in (3, 5, 4, 2):
        x = torch_library.from_numpy(np.random.default_rng(size).normal(size=(size, 600))).float()
        layer(x)
        expected(x)
    assert layer.num_batches_tracked == 4
    torch_library.testing.assert_close(layer.state_dict(), expected.state_dict())
    assert ("update_running" in cupy.launched) == (momentum is None)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_reduced_precision_beside_weights_in_float32(dtype):
    layer = nt.BatchNorm2d(5)
    x, dy = (each.to(getattr(torch_library, dtype)) for each in example(layer, (4, 5, 3, 6)))
    x.requires_grad_()
    y = layer(x)
    assert y.dtype == x.dtype
    y.backward(dy)
    assert x.grad.dtype == x.dtype
    wide = x.detach().double().numpy()
    centred = wide - wide.mean((0, 2, 3), keepdims=True)
    expected = centred / np.sqrt(wide.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(y.detach().double().numpy(), expected, atol=0.02)
    assert layer.weight.grad.dtype == torch_library.float32


def test_channels_last_stays_channels_last():
    layer = nt.BatchNorm2d(5)
    x, dy = example(layer, (4, 5, 3, 6))
    last = x.contiguous(memory_format=torch_library.channels_last).requires_grad_()
    y = layer(last)
    assert y.is_contiguous(memory_format=torch_library.channels_last)
    y.backward(dy)  # in another memory order
    assert last.grad.is_contiguous(memory_format=torch_library.channels_last)
    plain = x.clone().requires_grad_()
    theirs(layer).train()(plain).backward(dy)
    torch_library.testing.assert_close(last.grad, plain.grad, rtol=1e-4, atol=1e-5)


def test_the_result_may_be_changed_in_place_as_relu_does():
    layer = nt.BatchNorm2d(5)
    x, _ = example(layer, (4, 5, 3, 6))
    torch_library.nn.functional.relu(layer(x.requires_grad_()), inplace=True).sum().backward()
    assert x.grad is not None


def test_a_backward_pass_has_the_running_statistics_of_its_forward_pass():
    layer = nt.BatchNorm2d(5)
    x, dy = example(layer, (4, 5, 3, 6))
    ours, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    theirs(layer).eval()(other).backward(dy)
    y = layer.eval()(ours)
    layer.train()(x)  # changes them in place
    y.backward(dy)
    torch_library.testing.assert_close(ours.grad, other.grad)


def test_a_frozen_layer_keeps_its_statistics(cupy):
    layer = nt.BatchNorm2d(5)
    x, _ = example(layer, (4, 5, 3, 6))
    layer(x)
    before = copy.deepcopy(layer.state_dict())
    cupy.launched.clear()
    layer.freeze().train()(x.requires_grad_()).sum().backward()
    torch_library.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
    assert not any("update" in name for name in cupy.launched)


def test_population_statistics_are_merged_on_the_device(cupy):
    layer = nt.BatchNorm2d(5)
    batches = [example(layer, (size, 5, 3, 6))[0] for size in (4, 2, 3)]
    nt.population_statistics(layer, batches)
    assert [line for line in cupy.log if "host" in line] == []
    whole = torch_library.cat(batches)
    torch_library.testing.assert_close(layer.running_mean, whole.mean((0, 2, 3)))
    torch_library.testing.assert_close(layer.running_var, whole.var((0, 2, 3)))


def test_memory_is_out_anywhere_in_a_step(cupy, torch):
    """Whatever allocation fails, the running statistics are as before, or all of them new."""
    layer = nt.BatchNorm2d(5)
    x, dy = example(layer, (4, 5, 3, 6))
    x.requires_grad_()
    layer(x).backward(dy)
    before = copy.deepcopy(layer.state_dict())
    gradient = x.grad.clone()

    def step():
        x.grad = None
        layer(x).backward(dy)

    failures = 0
    for number in range(100):
        layer.load_state_dict(before)
        torch.allocations_left = number
        try:
            step()
        except (MemoryError, torch_library.OutOfMemoryError):
            failures += 1
        else:
            break
        finally:
            torch.allocations_left = None
        assert x.grad is None
        changed = layer.num_batches_tracked != before["num_batches_tracked"]
        assert bool((layer.running_mean != before["running_mean"]).all()) == bool(changed)
    assert failures >= 9  # y, parts, dx, dgamma, dbeta, and twice two in between
    torch_library.testing.assert_close(x.grad, gradient, rtol=0, atol=0)


def test_pytorchs_own_memory_is_out(torch):
    layer = nt.BatchNorm2d(5)
    x, _ = example(layer, (4, 5, 3, 6))
    before = copy.deepcopy(layer.state_dict())
    for number, error in enumerate([torch_library.OutOfMemoryError] * 2 + [MemoryError] * 2):
        torch.allocations_left = number  # y, parts, and then what the kernels want
        with pytest.raises(error, match=r"[oO]ut of memory"):
            layer(x)
        torch.allocations_left = None
        torch_library.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


@pytest.fixture
def captured(cupy, torch):
    """Return a context in which PyTorch captures a graph, and CuPy's current stream is another."""

    @contextmanager
    def capturing():
        stream = cupy.cuda.Stream(non_blocking=True)
        cupy.order.wait(stream.ptr, cupy.order.record(torch.stream))  # as all work is then done
        torch.stream = stream.ptr
        stream.begin_capture()
        try:
            yield
        finally:
            stream.end_capture()
            cupy.order.wait(7, cupy.order.record(stream.ptr))

    return capturing


@pytest.mark.parametrize("name", LAYERS)
def test_a_step_is_captured_into_a_graph(captured, cupy, torch, name):
    """Also where PyTorch's stream is not CuPy's, which is the legacy one in its threads."""
    make, shape = LAYERS[name]
    layer, (x, dy) = make(), example(make(), shape)
    x.requires_grad_()
    layer(x).backward(dy)
    x.grad = None
    cupy.log.clear()
    with captured():
        layer(x).backward(dy)
    assert {line for line in cupy.log if "launch" in line} == {f"launch on {torch.stream}"}
    assert x.grad is not None


def test_a_layer_does_not_learn_of_groups_in_a_graph(captured):
    """Each replay would begin at the running statistics that were there at the capture."""
    layer, groups = nc.BatchNorm(5, affine=False), [slice(0, 2), slice(2, 4)]
    x, _ = example(nt.BatchNorm2d(5), (4, 5, 3, 6))
    for _ in range(2):
        layer(x, groups=groups)
    before = layer._running_statistics()
    with captured(), pytest.raises(RuntimeError, match="capture a module of normcore"):
        layer(x, groups=groups)
    assert all(a is b for a, b in zip(layer._running_statistics(), before, strict=True))
    assert layer.num_batches_tracked == 4


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_of_the_host_is_not_captured(captured, affine, training):
    """A graph would repeat its vectors of now, and never move its running statistics."""
    layer = nc.BatchNorm(5, affine=affine)
    x, _ = example(nt.BatchNorm2d(5), (4, 5, 3, 6))
    for mode in (True, False, training):
        layer.train(mode)(x)
    before = layer.running_mean, layer.num_batches_tracked
    with captured(), pytest.raises(RuntimeError, match="layer's vectors are in host memory"):
        layer(x)
    np.testing.assert_array_equal(layer.running_mean, before[0])
    assert layer.num_batches_tracked == before[1]


def test_a_captured_step_has_counters_of_its_own(backend, captured):
    x, _ = example(nt.BatchNorm2d(5), (4, 5, 3, 6))
    with backend.in_order_with(x):
        kept = backend.device.counters(8)
    with captured(), backend.in_order_with(x):
        assert backend.device.counters(8) is not kept
        assert backend.device.counters(8) is not backend.device.counters(8)


def test_a_tensor_adopted_out_of_order_does_not_spoil_a_capture(backend, captured):
    x, _ = example(nt.BatchNorm2d(5), (4, 5, 3, 6))
    with captured(), pytest.raises(RuntimeError, match="cannot be captured into a CUDA graph"):
        backend.adopt(x)


def test_what_a_graph_cannot_hold_spoils_the_capture_of_the_fake(captured, cupy):
    x, _ = example(nt.BatchNorm2d(5), (4, 5, 3, 6))
    lost = pytest.raises(RuntimeError, match="CaptureInvalidated")
    with lost, captured(), pytest.raises(RuntimeError, match="CaptureImplicit"):
        cupy.from_dlpack(x)


def test_without_cupy_one_error_says_what_to_install():
    code = (
        "import sys; sys.modules['cupy'] = None\n"
        "import torch, normcore.torch as nt\n"
        "torch.Tensor.is_cuda, torch.Tensor.is_cpu = True, False\n"
        "torch.Tensor.__dlpack_device__ = lambda self: (2, 0)\n"
        "try:\n    nt.BatchNorm2d(3)(torch.zeros(2, 3, 4, 4))\n"
        "except RuntimeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'normcore-arrays[cuda13]'" in done.stdout, done.stdout + done.stderr
