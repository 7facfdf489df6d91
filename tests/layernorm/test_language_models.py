"""What language models do with layer and RMS norm: an offset of gamma, a residual added first."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import functional
from normcore.layout.bfloat16 import cast

NORMS = {
    "layer": (functional.layer_norm, functional.layer_norm_backward),
    "rms": (functional.rms_norm, functional.rms_norm_backward),
}
each_norm = pytest.mark.parametrize("name", NORMS)
SHAPE = (4, 3, 10)
DTYPES = ["f8", "f4", "f2", "bfloat16"]


@pytest.fixture(params=["cpu", "reference"])
def backend(request):
    with nc.use_backend(request.param):
        yield request.param


def draw(shape=SHAPE, seed=0, dtype="f8"):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    return cast(np.random.default_rng(seed).normal(1.0, 3.0, shape), dtype)


def signed(values):
    """Return numbers beside their signs, which tell zeros apart."""
    wide = cast(values, np.float64)
    return np.stack([wide, np.signbit(wide)])


@each_norm
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [1.0, -0.5])
def test_an_offset_is_added_to_gamma_in_float64(backend, name, dtype, offset):
    forward, backward = NORMS[name]
    x, dy, gamma = draw(dtype=dtype), draw(seed=1, dtype=dtype), draw((10,), 2, dtype)
    gamma = (gamma / 512).astype(gamma.dtype)  # of which bfloat16 keeps nothing beside 1
    whole = offset + cast(gamma, np.float64)
    y, moments = forward(x, gamma, gamma_offset=offset)
    assert y.dtype == x.dtype
    assert_array_equal(y, forward(x, whole)[0])
    gradients = backward(dy, x, moments, gamma, gamma_offset=offset)
    for found, expected in zip(gradients, backward(dy, x, moments, whole), strict=True):
        assert_array_equal(found, expected)
    assert_array_equal(forward(x, gamma_offset=offset)[0], forward(x)[0])  # there is no gamma


def test_the_offset_is_that_of_gemma(backend):
    """Its layer, in float32: ``x * rsqrt(mean(x**2) + eps) * (1 + weight)``."""
    x, weight = draw(dtype="f4"), draw((10,), 1, "f4")
    found, _ = functional.rms_norm(x, weight, gamma_offset=1.0, eps=1e-6)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * (1.0 + weight)
    assert_allclose(found, expected, rtol=1e-6)


def test_gamma_stays_as_it_is():
    gamma = np.ones(10)
    functional.rms_norm(draw(), gamma, gamma_offset=1.0)
    assert_array_equal(gamma, 1.0)


@each_norm
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_residual_is_added_and_rounded_first(backend, name, dtype):
    forward, _ = NORMS[name]
    x, residual, gamma = draw(dtype=dtype), draw(seed=1, dtype=dtype), draw((10,), 2)
    y, total, moments = forward(x, gamma, residual=residual)
    expected = cast(cast(x, np.float64) + cast(residual, np.float64), x.dtype)
    assert total.dtype == x.dtype
    assert_array_equal(total, expected)
    plain, of_total = forward(total, gamma)
    assert_array_equal(y, plain)
    assert_array_equal(moments.parts, of_total.parts)


def test_sums_are_those_of_ieee_754(backend):
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308])
    x, residual = (each.reshape(-1, 9) for each in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        _, total, _ = functional.rms_norm(x, residual=residual)
        assert_array_equal(signed(total)[:, ~np.isnan(total)],
                           signed(x + residual)[:, ~np.isnan(total)])  # fmt: skip
        assert_array_equal(total, x + residual)


@each_norm
def test_any_strides_and_out(backend, name):
    forward, _ = NORMS[name]
    memory = np.random.default_rng(3).normal(size=(8, 10, 6))
    x, residual = memory[::2, :, ::2].transpose(0, 2, 1), memory[0, :, 0][None, None, ::-1]
    residual = np.broadcast_to(residual, x.shape)
    y, total, _ = forward(x, residual=residual)
    assert_array_equal(total, x + residual)
    plain, _ = forward(x + residual)
    assert_allclose(y, plain, rtol=1e-14)
    x = x.copy()
    for out in (np.empty(SHAPE), x):
        assert forward(x, residual=residual, out=out)[0] is out
        assert_allclose(out, plain, rtol=1e-14)


def test_integers_do_not_wrap(backend):
    x = np.full((2, 3), 100, np.int8)
    y, total, _ = functional.layer_norm(x, residual=x)
    assert y.dtype == total.dtype == np.float64
    assert_array_equal(total, 200.0)


@each_norm
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_tensors(name, dtype):
    torch = pytest.importorskip("torch")
    x, residual = (torch.from_numpy(draw(seed=seed)).to(getattr(torch, dtype)) for seed in (0, 1))
    y, total, _ = NORMS[name][0](x, residual=residual)
    assert y.dtype == total.dtype == x.dtype
    assert torch.equal(total, x + residual)
    assert torch.equal(y, NORMS[name][0](total)[0])


@each_norm
def test_bad_input(backend, name):
    forward, _ = NORMS[name]
    x = draw()
    for residual, error, words in (
        (x[:1], ValueError, r"residual has shape \(1, 3, 10\), but x has \(4, 3, 10\)"),
        (x.astype("f4"), TypeError, "residual has dtype float32, but x has float64"),
        (np.ma.MaskedArray(x), TypeError, "^residual is a masked array"),
        (x.astype(complex), TypeError, "complex128"),
    ):
        with pytest.raises(error, match=words):
            forward(x, residual=residual)
    for offset, error in (("1", TypeError), (np.nan, ValueError), (np.inf, ValueError)):
        with pytest.raises(error, match="gamma_offset"):
            forward(x, np.ones(10), gamma_offset=offset)


LAYERS = {"layer": nc.LayerNorm, "rms": nc.RMSNorm}


@each_norm
def test_layers_start_as_the_identity(name):
    layer = LAYERS[name](10, gamma_offset=1.0)
    assert_array_equal(layer.gamma, 0.0)
    assert_array_equal(layer(draw()), LAYERS[name](10)(draw()))
    assert "gamma_offset=1.0" in repr(layer)
    assert "gamma_offset" not in repr(LAYERS[name](10))
    assert LAYERS[name](10, gamma_offset=1.0, affine=False).gamma is None
    with pytest.raises(TypeError, match="gamma_offset must be a number"):
        LAYERS[name](10, gamma_offset="1")


@each_norm
def test_layers_of_a_residual_network(backend, name):
    layer = LAYERS[name](10, gamma_offset=1.0)
    layer.gamma = draw((10,), 3)
    x, residual, dy = (draw(seed=seed) for seed in range(3))
    y, total = layer(x, residual=residual)
    assert_array_equal(total, x + residual)
    gradients = layer.backward(dy)
    plain = LAYERS[name](10)
    plain.gamma = 1.0 + layer.gamma
    assert_array_equal(y, plain(total))
    for found, expected in zip(gradients, plain.backward(dy), strict=True):
        assert_array_equal(found, expected)
    assert layer(x, out=x, residual=residual)[0] is x
    assert_array_equal(x, y)
    assert_array_equal(layer.backward(dy)[0], gradients[0])  # of the sum, which is still there
    with pytest.raises(ValueError, match="residual has shape"):
        layer(residual, residual=residual[:1])
    assert_array_equal(layer.backward(dy)[0], gradients[0])
