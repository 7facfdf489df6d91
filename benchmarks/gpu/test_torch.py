"""Agreement with PyTorch on CUDA: forward, backward, memory formats, dtypes and streams."""

from __future__ import annotations

import pytest

import normcore as nc
from benchmarks.gpu import common

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no CUDA device", allow_module_level=True)

common.backend()
functional = torch.nn.functional
# Of results of order 1, against float64; bfloat16 has 8 bits.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-6, torch.float16: 3e-3, torch.bfloat16: 2e-2}
SHAPES = [(64, 17), (4096, 256), (8, 3, 33, 31), (16, 64, 14, 14), (2, 5, 4, 6, 7)]


def tensors(
    shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    x, dy = (
        torch.randn(shape, generator=generator, device="cuda", dtype=torch.float64).to(dtype)
        for _ in range(2)
    )
    if channels_last:
        if len(shape) != 4:
            pytest.skip("channels_last is for four dimensions")
        x, dy = (each.contiguous(memory_format=torch.channels_last) for each in (x, dy))
    return x, dy


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_backward(
    shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool
) -> None:
    if dtype == torch.bfloat16:
        pytest.importorskip("ml_dtypes")
    x, dy = tensors(shape, dtype, channels_last)
    gamma = torch.rand(shape[1], device="cuda", dtype=torch.float64) + 0.5
    beta = torch.randn(shape[1], device="cuda", dtype=torch.float64)
    leaf = x.double().requires_grad_()
    wide = [each.clone().requires_grad_() for each in (gamma, beta)]
    expected = functional.batch_norm(leaf, None, None, *wide, training=True, eps=1e-5)
    expected.backward(dy.double())
    y, moments = nc.functional.batch_norm(x, gamma, beta)
    dx, dgamma, dbeta = nc.functional.batch_norm_backward(dy, x, moments, gamma, beta)
    assert isinstance(y, torch.Tensor)
    assert y.device == x.device
    assert y.dtype == x.dtype
    assert y.stride() == x.stride()
    limit = TOLERANCE[dtype]
    torch.testing.assert_close(y.double(), expected.detach(), rtol=limit, atol=limit)
    torch.testing.assert_close(dx.double(), leaf.grad, rtol=limit, atol=limit)
    for got, leaf_of in zip((dgamma, dbeta), wide, strict=True):
        torch.testing.assert_close(got.double(), leaf_of.grad, rtol=1e-9, atol=1e-7)
    mean = x.double().mean([axis for axis in range(x.ndim) if axis != 1])
    torch.testing.assert_close(torch.as_tensor(moments.to_host().mean).cuda(), mean)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inference_and_out(dtype: torch.dtype) -> None:
    x, _ = tensors((16, 8, 5, 5), dtype, False)
    mean, var = torch.randn(8, device="cuda"), torch.rand(8, device="cuda") + 0.5
    expected = functional.batch_norm(x.double(), mean.double(), var.double())
    out = torch.empty_like(x)
    assert nc.functional.batch_norm_inference(x, mean, var, out=out) is out
    torch.testing.assert_close(out.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_tensors_that_record_gradients_and_views() -> None:
    x = torch.randn(64, 6, device="cuda", requires_grad=True)
    scaler = nc.StandardScaler().fit(x)
    assert isinstance(scaler.mean_, torch.Tensor)
    view = x.detach()[::2, ::3]
    torch.testing.assert_close(
        nc.MinMaxScaler().fit_transform(view).amax(0), torch.ones(2, device="cuda")
    )


def test_order_on_pytorchs_current_stream() -> None:
    """Inputs that arrive late, outputs that are read at once, memory that is freed early."""
    data = torch.randn(1 << 16, 16, device="cuda")
    expected, _ = nc.functional.batch_norm(data)
    streams = [torch.cuda.Stream() for _ in range(3)]
    torch.cuda.synchronize()
    for _ in range(20):
        seen = []
        for stream in streams:
            with torch.cuda.stream(stream):
                x, out = torch.full_like(data, -9.0), torch.full_like(data, -9.0)
                torch.cuda._sleep(20_000_000)
                x.copy_(data)
                nc.functional.batch_norm(x, out=out)
                fresh, _ = nc.functional.batch_norm(x)
                del x  # PyTorch may give this memory away, in the order of the stream
                torch.full_like(data, 77.0)
                seen += [out + 0.0, fresh + 0.0]
        torch.cuda.synchronize()
        for each in seen:
            assert torch.equal(each, expected)
