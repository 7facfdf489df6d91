"""On a device: streams, late inputs, CUDA graphs, autocast, memory formats and compilation.

python -m pytest benchmarks/gpu/test_streams.py -q
"""

from __future__ import annotations

import gc

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cupy", exc_type=ImportError)
if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

import cupy  # noqa: E402

import normcore as nc  # noqa: E402
import normcore.torch as nt  # noqa: E402

SHAPE = (32, 64, 56, 56)
LATE = 200_000_000  # cycles, a tenth of a second


def batch(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(SHAPE, device="cuda").to(dtype)


def step(layer: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    x = x.detach().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("side", [False, True])
def test_inputs_that_come_late_are_waited_for(side: bool) -> None:
    """The input is written long after the call returns; and its memory is used again at once."""
    layer, stream = nt.BatchNorm2d(64).cuda(), torch.cuda.Stream()
    value = batch()
    expected = step(nt.BatchNorm2d(64).cuda(), value)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream if side else torch.cuda.current_stream()):
        x = torch.full_like(value, float("nan"))
        torch.cuda._sleep(LATE)
        x.copy_(value)
        found = step(layer, x)
        del x
        gc.collect()
        torch.full_like(value, float("nan"))  # in the memory of what was let go of
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_temporaries_are_not_given_out_while_they_are_in_use() -> None:
    stream, value = torch.cuda.Stream(), batch()
    expected = nt.BatchNorm2d(64).cuda()(value)
    torch.cuda.synchronize()
    layer = nt.BatchNorm2d(64).cuda()
    for _ in range(20):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(LATE // 100)
            y = layer(value)
        noise = [cupy.full((7, 64), 7.0) for _ in range(50)]  # on CuPy's stream, meanwhile
        del noise
        stream.synchronize()
        torch.testing.assert_close(y, expected, rtol=0, atol=0)


@pytest.mark.own_process
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_a_step_is_captured_into_a_graph(kind: str) -> None:
    layer = (nt.BatchNorm2d(64) if kind == "batch" else nt.LayerNorm(56)).cuda()
    static = batch().requires_grad_()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            static.grad = None
            layer(static).square().sum().backward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    static.grad = None
    with torch.cuda.graph(graph):
        y = layer(static)
        y.square().sum().backward()
    for _ in range(3):
        value = batch()
        with torch.no_grad():
            static.copy_(value)
        graph.replay()
        expected = step(layer, value)
        torch.testing.assert_close(y, expected[0], rtol=0, atol=0)
        torch.testing.assert_close(static.grad, expected[1], rtol=0, atol=0)


def test_a_graph_of_cupys_refuses_what_needs_memory() -> None:
    x = cupy.random.standard_normal((1024, 64))
    scaler = nc.StandardScaler().fit(x)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        out = cupy.empty_like(x)
        scaler.transform(x, out=out)
        stream.begin_capture()
        try:
            scaler.transform(x, out=out)
            with pytest.raises(RuntimeError, match="CUDA graph"):
                nc.functional.batch_norm(x)
        finally:
            graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
    cupy.testing.assert_array_equal(out, scaler.transform(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3), nt.BatchNorm2d(64)).cuda()
    with torch.autocast("cuda", dtype):
        y = model(batch())
    assert y.dtype == dtype
    y.float().square().sum().backward()
    assert model[1].weight.grad.dtype == torch.float32


def test_channels_last() -> None:
    x = batch()
    last = x.contiguous(memory_format=torch.channels_last)
    y, dx = step(nt.BatchNorm2d(64).cuda(), last)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)
    expected = step(nt.BatchNorm2d(64).cuda(), x)
    torch.testing.assert_close(y, expected[0])
    torch.testing.assert_close(dx, expected[1], rtol=1e-4, atol=1e-4)


def test_compiled() -> None:
    layer, x = nt.BatchNorm2d(64).cuda(), batch()
    expected, other = step(layer, x), nt.BatchNorm2d(64).cuda()
    found = step(torch.compile(other, fullgraph=True), x)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(other.running_var, layer.running_var)


def test_frozen_and_running_statistics_are_pytorchs() -> None:
    ours, theirs, x = nt.BatchNorm2d(64).cuda(), torch.nn.BatchNorm2d(64).cuda(), batch()
    for _ in range(3):
        ours(x)
        theirs(x)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    y = step(ours.freeze(), x)[0]
    torch.testing.assert_close(y, theirs.eval()(x))
