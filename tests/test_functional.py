"""Statistics and batch normalization as functions of arrays."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal, assert_array_max_ulp

import normcore as nc
from normcore import functional

SHAPES = [(7, 3), (6, 3, 4), (4, 3, 2, 3), (3, 2, 2, 3, 2)]


def example(shape, seed=0, dtype=np.float64):
    """Channels of different location and spread, on the last axis."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * np.linspace(0.5, 8.0, shape[-1]) + np.arange(shape[-1]) * 3
    return x.astype(dtype)


def plain_batch_norm(x, axis, gamma, beta, eps):
    """The paper's Algorithm 1, word for word."""
    x = np.moveaxis(np.asarray(x, dtype=np.float64), axis, -1)
    positions = tuple(range(x.ndim - 1))
    y = (x - x.mean(positions)) / np.sqrt(x.var(positions) + eps) * gamma + beta
    return np.moveaxis(y, -1, axis)


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    status = nc.backends()[request.param]
    if not status.ready:
        pytest.skip(f"{request.param}: {status.reason}")
    with nc.use_backend(request.param):
        yield request.param


# -- statistics ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_of_every_axis(backend, shape):
    x = example(shape)
    for axis in range(-x.ndim, x.ndim):
        others = tuple(each for each in range(x.ndim) if each != axis % x.ndim)
        moments = functional.moments(x, channel_axis=axis)
        assert_array_equal(moments.count, np.full(shape[axis], x.size // shape[axis]))
        assert_allclose(moments.mean, x.mean(others), rtol=1e-13, atol=1e-14)
        assert_allclose(moments.var(), x.var(others), rtol=1e-13)
        assert_allclose(moments.std(ddof=1), x.std(others, ddof=1), rtol=1e-13)


def test_moments_of_all_data(backend):
    x = example((6, 3, 4))
    moments = functional.moments(x, channel_axis=None)
    assert moments.count.shape == (1,)
    assert_array_equal(moments.count, [72])
    assert_allclose(moments.mean, [x.mean()], rtol=1e-14)
    assert_allclose(moments.var(), [x.var()], rtol=1e-14)


def test_moments_merge(backend):
    x = example((50, 3))
    parts = [functional.moments(part, channel_axis=1) for part in (x[:7], x[7:8], x[8:])]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    whole = functional.moments(x, channel_axis=1)
    assert_array_equal(merged.count, whole.count)
    assert_array_max_ulp(merged.mean, whole.mean, 1)
    assert_array_max_ulp(merged.m2, whole.m2, 4)


def test_moments_weights(backend):
    x = example((6, 3, 4))
    by_sample = np.arange(6.0)
    by_position = np.arange(24.0).reshape(6, 4)
    for weights, full in ((by_sample, np.repeat(by_sample, 4)), (by_position, by_position)):
        moments = functional.moments(x, channel_axis=1, weights=weights)
        rows = np.moveaxis(x, 1, -1).reshape(24, 3)
        mean = np.average(rows, axis=0, weights=full.ravel())
        assert_array_equal(moments.count, np.full(3, full.sum()))
        assert_allclose(moments.mean, mean, rtol=1e-13)
        expected = np.average((rows - mean) ** 2, axis=0, weights=full.ravel())
        assert_allclose(moments.var(), expected, rtol=1e-13)


def test_skipna(backend):
    x = example((9, 2))
    x[3, 0] = np.nan
    assert np.isnan(functional.moments(x, channel_axis=1).mean[0])
    assert np.isnan(functional.extrema(x, channel_axis=1).max[0])
    moments = functional.moments(x, channel_axis=1, skipna=True)
    assert_array_equal(moments.count, [8, 9])
    assert_allclose(moments.mean, np.nanmean(x, axis=0), rtol=1e-14)
    extrema = functional.extrema(x, channel_axis=1, skipna=True)
    assert_array_equal(extrema.min, np.nanmin(x, axis=0))
    assert_array_equal(extrema.max, np.nanmax(x, axis=0))


def test_extrema_of_every_axis(backend):
    x = example((4, 3, 2, 3))
    for axis in range(4):
        others = tuple(each for each in range(4) if each != axis)
        extrema = functional.extrema(x, channel_axis=axis)
        assert_array_equal(extrema.min, x.min(others))
        assert_array_equal(extrema.max, x.max(others))


def test_quantiles_of_every_axis(backend):
    x = example((4, 3, 2, 5))
    ranks = [0.0, 0.3, 0.5, 1.0]
    for view in (x, x.transpose(2, 0, 3, 1), x[:, ::2, :, ::-2]):
        for axis in range(4):
            others = tuple(each for each in range(4) if each != axis)
            expected = np.quantile(view, ranks, axis=others)
            result = functional.quantiles(view, ranks, channel_axis=axis)
            assert_allclose(result.values, expected, rtol=1e-14, atol=1e-14)
            if axis > 0:
                weights = 2.0 * np.ones(len(view))
                weighted = functional.quantiles(view, 1.0, channel_axis=axis, weights=weights)
                assert_array_equal(weighted.values, result.values[-1:])
                assert_array_equal(weighted.count, 2 * result.count)
        whole = functional.quantiles(view, ranks, channel_axis=None)
        assert_allclose(whole.values[:, 0], np.quantile(view, ranks), rtol=1e-14, atol=1e-14)


def test_quantiles_of_several_views_copy_a_few_channels_at_a_time():
    x = np.random.default_rng(0).normal(size=(16, 32, 60, 60))[:, :, 2:-2, 2:-2]
    functional.quantiles(x[:, :2], 0.5, channel_axis=1)
    tracemalloc.start()
    result = functional.quantiles(x, 0.5, channel_axis=1, weights=np.ones(16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 2
    assert_array_equal(result.values[0], np.quantile(x, 0.5, axis=(0, 2, 3), method="inverted_cdf"))


@pytest.mark.parametrize("weight", [5e-324, 1e-300, 1e300])
def test_quantiles_weights_of_any_size(weight):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(150_000, 1)), rng.integers(0, 5, 150_000)
    result = functional.quantiles(x, [0.1, 0.5], channel_axis=1, weights=weights * weight)
    expected = np.quantile(x[:, 0], [0.1, 0.5], weights=weights, method="inverted_cdf")
    assert_array_equal(result.values[:, 0], expected)


@pytest.mark.parametrize("q", [-0.1, 1.5, [0.5, np.nan], [[0.5]]])
def test_quantiles_refuse_ranks(q):
    with pytest.raises(ValueError, match="q must"):
        functional.quantiles(np.ones((3, 2)), q, channel_axis=1)


# -- forward -------------------------------------------------------------------------------


def test_known_numbers(backend):
    # mean 0, var 3, eps 1: the scale is 2 and everything is exact
    x = np.array([[-3.0], [1.0], [1.0], [1.0]])
    y, moments = functional.batch_norm(x, [4.0], [0.5], eps=1.0)
    assert_array_equal(y, [[-5.5], [2.5], [2.5], [2.5]])
    assert_array_equal(moments.count, [4])
    assert_array_equal(moments.mean, [0])
    assert_array_equal(moments.m2, [12])


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.integers(-1000, 1000), min_size=2, max_size=40),
    exponent=st.integers(-20, 4),
)
def test_forward_against_exact_arithmetic(values, exponent):
    eps = Fraction(2) ** exponent
    y, _ = functional.batch_norm(np.array(values, dtype=np.float64)[:, None], eps=float(eps))
    mean = Fraction(sum(values), len(values))
    var = sum((value - mean) ** 2 for value in values) / len(values)
    # an integer square root of 2^-400 times the value: 100 digits
    scale = Fraction(math.isqrt(int((var + eps) * 4**400)), 2**400)
    for value, normalized in zip(values, y[:, 0], strict=True):
        exact = (value - mean) / scale
        # 1 ulp of the mean, as promised, and a few roundings of the quotient
        bound = Fraction(math.ulp(float(mean))) / scale + abs(exact) * Fraction(6, 2**53)
        assert abs(Fraction(float(normalized)) - exact) <= bound


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [False, True])
def test_every_axis(backend, shape, affine):
    x = example(shape)
    for axis in range(-x.ndim, x.ndim):
        gamma = np.linspace(-1, 2, shape[axis]) if affine else None
        beta = np.linspace(0, 1, shape[axis]) if affine else None
        y, moments = functional.batch_norm(x, gamma, beta, axis=axis, eps=1e-3)
        expected = plain_batch_norm(
            x, axis, 1 if gamma is None else gamma, 0 if beta is None else beta, 1e-3
        )
        assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
        assert moments.num_channels == shape[axis]


def layouts(x):
    """The same values in other memory."""
    yield "fortran", np.asfortranarray(x)
    wide = np.zeros(tuple(2 * each for each in x.shape), x.dtype)
    wide[tuple(slice(None, None, 2) for _ in x.shape)] = x
    yield "strided", wide[tuple(slice(None, None, 2) for _ in x.shape)]
    yield "reversed", np.flip(np.flip(x).copy())
    yield "swapped", np.swapaxes(np.swapaxes(x, 0, -1).copy(), 0, -1)
    frozen = x.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "byte order", x.astype(x.dtype.newbyteorder())
    yield "broadcast", np.broadcast_to(x[..., None], (*x.shape, 2))[..., 1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_layouts(backend, shape, dtype):
    x = example(shape, dtype=dtype)
    dy = example(shape, seed=1, dtype=dtype)
    gamma = np.linspace(1, 2, shape[1])
    y, moments = functional.batch_norm(x, gamma)
    gradients = functional.batch_norm_backward(dy, x, moments, gamma)
    rtol = 1e-12 if dtype == np.float64 else 2e-7
    for name, other in layouts(x):
        before = other.copy()
        result, statistic = functional.batch_norm(other, gamma)
        assert result.dtype == dtype
        assert result.shape == shape
        assert_allclose(result, y, rtol=rtol, atol=1e-13, err_msg=name)
        assert_array_equal(other, before)
        for dy_name, other_dy in layouts(dy):
            results = functional.batch_norm_backward(other_dy, other, statistic, gamma)
            for found, expected in zip(results, gradients, strict=True):
                assert_allclose(
                    found,
                    expected,
                    rtol=1e-5 if dtype == np.float32 else 1e-11,
                    atol=1e-7 if dtype == np.float32 else 1e-12,
                    err_msg=f"{name}, {dy_name}",
                )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_floats_round_once(backend, dtype):
    x = example((40, 3, 4), dtype=dtype)
    gamma, beta = np.array([1.0, -2.0, 0.1]), np.array([0.0, 1.0, 1e-3])
    y, moments = functional.batch_norm(x, gamma, beta)
    wide, _ = functional.batch_norm(x.astype(np.float64), gamma, beta)
    assert y.dtype == dtype
    assert_array_equal(y, wide.astype(dtype))
    dx, dgamma, dbeta = functional.batch_norm_backward(y, x, moments, gamma, beta)
    assert dx.dtype == dtype
    assert dgamma.dtype == dbeta.dtype == np.float64
    wide_dx, wide_dgamma, wide_dbeta = functional.batch_norm_backward(
        y.astype(np.float64), x.astype(np.float64), moments, gamma, beta
    )
    assert_array_equal(dx, wide_dx.astype(dtype))
    assert_array_equal(dgamma, wide_dgamma)
    assert_array_equal(dbeta, wide_dbeta)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.bool_])
def test_integers_become_float64(backend, dtype):
    x = (np.arange(24).reshape(8, 3) % 7).astype(dtype)
    y, moments = functional.batch_norm(x)
    expected, _ = functional.batch_norm(x.astype(np.float64))
    assert y.dtype == np.float64
    assert_array_equal(y, expected)
    dx, _, _ = functional.batch_norm_backward(example((8, 3)), x, moments)
    assert dx.dtype == np.float64


def test_large_offset_in_float32(backend):
    rng = np.random.default_rng(2)
    x = (1e7 + rng.normal(size=(500, 2))).astype(np.float32)
    y, _ = functional.batch_norm(x)
    expected = plain_batch_norm(x.astype(np.float64) - 1e7, 1, 1, 0, 1e-5)
    # y is rounded once, and the mean is within 1 ulp of float64
    assert (np.abs(y - expected) <= 0.51 * np.spacing(np.abs(y)) + 2 * math.ulp(1e7)).all()


def test_eight_million_rows():
    x = np.random.default_rng(3).standard_normal((8_000_000, 1), dtype=np.float32)
    x += np.float32(10)
    y, moments = functional.batch_norm(x)
    mean = math.fsum(x[:, 0].tolist()) / len(x)
    assert_array_max_ulp(moments.mean, np.array([mean]), 1)
    wide = x.astype(np.float64)
    wide -= mean
    assert_allclose(moments.var(), [np.square(wide, out=wide).mean()], rtol=1e-12)
    assert abs(float(np.mean(y, dtype=np.float64))) < 1e-9
    assert abs(float(np.std(y, dtype=np.float64)) - 1) < 1e-5


@pytest.mark.parametrize("size", [1e200, 1e155, 1e-170])
def test_extreme_sizes(backend, size):
    x = np.array([[1.0], [2.0], [4.0], [9.0]]) * size
    y, _ = functional.batch_norm(x)
    if size > 1:  # eps is nothing next to the variance, which overflows at 1e200
        assert_allclose(y, plain_batch_norm(x / size, 1, 1, 0, 0), rtol=1e-14)
    else:  # the variance is nothing next to eps
        assert_allclose(y, (x - 4 * size) / math.sqrt(1e-5), rtol=1e-14)


def test_gradient_of_large_values(backend):
    x, dy = example((20, 2)), example((20, 2), seed=1)
    _, moments = functional.batch_norm(x, eps=1e-300)
    dx, dgamma, _ = functional.batch_norm_backward(dy, x, moments, eps=1e-300)
    size = 2.0**480  # about 3e144
    _, moments = functional.batch_norm(x * size)
    results = functional.batch_norm_backward(dy, x * size, moments)
    assert_allclose(results[0] * size, dx, rtol=1e-12, atol=1e-15)
    assert_allclose(results[1], dgamma, rtol=1e-13)
    _, moments = functional.batch_norm(x * 1e200)
    results = functional.batch_norm_backward(dy, x * 1e200, moments)
    assert np.isfinite(results[0]).all()
    assert_allclose(results[1], dgamma, rtol=1e-12)


def test_constant_channel(backend):
    x = np.full((1000, 1), 0.1)
    y, moments = functional.batch_norm(x, None, [2.0])
    assert moments.m2[0] == 0
    assert_array_equal(y, np.full((1000, 1), 2.0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_propagate(backend, value):
    x = example((8, 3))
    clean, _ = functional.batch_norm(x)
    x[4, 1] = value
    y, moments = functional.batch_norm(x)
    assert np.isnan(y[4, 1])
    assert np.isnan(moments.var()[1])
    assert np.isnan(y[:, 1]).all()
    assert_array_equal(y[:, [0, 2]], clean[:, [0, 2]])
    y = functional.batch_norm_inference(x, np.zeros(3), np.ones(3))
    assert_array_equal(np.isnan(y[4, 1]), np.isnan(value))
    assert np.isfinite(np.delete(y, 4, axis=0)).all()
    dx, dgamma, _ = functional.batch_norm_backward(np.ones_like(x), x, moments)
    assert np.isnan(dx[:, 1]).all()
    assert np.isnan(dgamma[1])
    assert np.isfinite(dx[:, [0, 2]]).all()
    assert np.isfinite(dgamma[[0, 2]]).all()


def test_activation(backend):
    x = example((30, 3, 2))
    gamma, beta = np.array([1.0, -2.0, 0.0]), np.array([0.3, 0.0, -1.0])
    y, _ = functional.batch_norm(x, gamma, beta)
    rectified, _ = functional.batch_norm(x, gamma, beta, activation="relu")
    assert_array_equal(rectified, np.maximum(y, 0))
    assert (y < 0).any()
    mean, var = np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 0.5])
    y = functional.batch_norm_inference(x, mean, var, gamma, beta)
    rectified = functional.batch_norm_inference(x, mean, var, gamma, beta, activation="relu")
    assert_array_equal(rectified, np.maximum(y, 0))


def test_inference(backend):
    x = example((5, 3, 4))
    mean, var = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0, 0.5])
    gamma, beta = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, -1.0])
    y = functional.batch_norm_inference(x, mean, var, gamma, beta, eps=1e-3)
    column = (slice(None), None)
    expected = (x - mean[column]) / np.sqrt(var + 1e-3)[column] * gamma[column] + beta[column]
    assert_array_equal(y, expected)  # every operation rounds once, in this order
    single = functional.batch_norm_inference(x[:1, :, :1], mean, var, gamma, beta, eps=1e-3)
    assert_array_equal(single, expected[:1, :, :1])


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)])
def test_inference_without_values(backend, shape):
    y = functional.batch_norm_inference(np.ones(shape, np.float32), np.zeros(3), np.ones(3))
    assert y.shape == shape
    assert y.dtype == np.float32


@pytest.mark.parametrize("shape", [(5, 0), (2, 0, 3)])
def test_no_channels(backend, shape):
    y, moments = functional.batch_norm(np.ones(shape), np.ones(0), np.ones(0))
    assert y.shape == shape
    assert moments.num_channels == 0
    dx, dgamma, dbeta = functional.batch_norm_backward(np.ones(shape), np.ones(shape), moments)
    assert dx.shape == shape
    assert dgamma.shape == dbeta.shape == (0,)


def test_nested_lists(backend):
    x = [[1.0, 2.0], [3.0, 5.0], [4.0, 4.0]]
    y, moments = functional.batch_norm(x)
    assert isinstance(y, np.ndarray)
    assert_array_equal(y, functional.batch_norm(np.array(x))[0])
    dx, _, _ = functional.batch_norm_backward(x, x, moments)
    assert isinstance(dx, np.ndarray)


# -- out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_out(backend, dtype, axis):
    x = example((4, 3, 5), dtype=dtype)
    y, moments = functional.batch_norm(x, axis=axis)
    out = np.full((5, 3, 4), 7, dtype).transpose(2, 1, 0)  # another memory order
    assert functional.batch_norm(x, axis=axis, out=out)[0] is out
    assert_array_equal(out, y)
    in_place = x.copy()
    assert functional.batch_norm(in_place, axis=axis, out=in_place)[0] is in_place
    assert_array_equal(in_place, y)

    mean, var = moments.mean, moments.var()
    out = np.empty_like(x)
    assert functional.batch_norm_inference(x, mean, var, axis=axis, out=out) is out
    assert_array_equal(out, y)

    dy = example((4, 3, 5), seed=5, dtype=dtype)
    dx, _, _ = functional.batch_norm_backward(dy, x, moments, axis=axis)
    out = np.empty_like(x)
    assert functional.batch_norm_backward(dy, x, moments, axis=axis, out=out)[0] is out
    assert_array_equal(out, dx)
    for target in ("dy", "x"):
        arrays = {"dy": dy.copy(), "x": x.copy()}
        functional.batch_norm_backward(**arrays, moments=moments, axis=axis, out=arrays[target])
        assert_array_equal(arrays[target], dx)


def test_out_does_not_fit(backend):
    x = example((6, 3), dtype=np.float32)
    frozen = np.empty_like(x)
    frozen.flags.writeable = False
    mean, var = np.zeros(3), np.ones(3)
    for out, error in (
        (np.empty((3, 6), np.float32), ValueError),
        (np.empty((6, 3), np.float64), TypeError),
        (np.empty((6, 3), np.int64), TypeError),
        (np.empty((6, 3), ">f4"), TypeError),
        (frozen, ValueError),
        ([[0.0] * 3] * 6, TypeError),
    ):
        with pytest.raises(error, match="out"):
            functional.batch_norm(x, out=out)
        with pytest.raises(error, match="out"):
            functional.batch_norm_inference(x, mean, var, out=out)
        with pytest.raises(error, match="out"):
            functional.batch_norm_backward(x, x, nc.Moments.of(6, mean, var), out=out)


def test_out_overlaps_in_part(backend):
    buffer = example((7, 3))
    before = buffer.copy()
    with pytest.raises(ValueError, match="overlap"):
        functional.batch_norm(buffer[1:], out=buffer[:-1])
    assert_array_equal(buffer, before)


# -- masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("training", [True, False])
def test_mask_of_samples(backend, activation, training):
    x, dy = example((12, 3, 4)), example((12, 3, 4), seed=7)
    mask = np.arange(12) % 3 != 1
    gamma, beta = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, -1.0])
    options = {"activation": activation}
    y, moments = functional.batch_norm(x, gamma, beta, mask=mask, **options)
    expected, compressed = functional.batch_norm(x[mask], gamma, beta, **options)
    assert_array_equal(moments.count, compressed.count)
    assert_allclose(y[mask], expected, rtol=1e-13, atol=1e-14)
    assert_array_equal(y[~mask], np.zeros_like(y[~mask]))
    options["training"] = training
    gradients = functional.batch_norm_backward(dy, x, moments, gamma, beta, mask=mask, **options)
    expected = functional.batch_norm_backward(dy[mask], x[mask], compressed, gamma, beta, **options)
    assert_allclose(gradients[0][mask], expected[0], rtol=1e-12, atol=1e-13)
    assert_array_equal(gradients[0][~mask], 0)
    assert_allclose(gradients[1], expected[1], rtol=1e-12)
    assert_allclose(gradients[2], expected[2], rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_mask_of_positions(backend, axis):
    x, dy = example((4, 3, 5, 2)), example((4, 3, 5, 2), seed=7)
    rows, gradient_rows = (
        np.moveaxis(each, axis, -1).reshape(-1, x.shape[axis]) for each in (x, dy)
    )
    rest = np.delete(x.shape, axis)
    mask = np.random.default_rng(8).random(rest) < 0.6
    gamma = np.linspace(1, 2, x.shape[axis])
    y, moments = functional.batch_norm(x, gamma, axis=axis, mask=mask)
    expected, compressed = functional.batch_norm(rows[mask.ravel()], gamma)
    y = np.moveaxis(y, axis, -1)
    assert_allclose(y[mask], expected, rtol=1e-12, atol=1e-13)
    assert_array_equal(y[~mask], 0)
    dx, dgamma, dbeta = functional.batch_norm_backward(dy, x, moments, gamma, axis=axis, mask=mask)
    expected = functional.batch_norm_backward(
        gradient_rows[mask.ravel()], rows[mask.ravel()], compressed, gamma
    )
    dx = np.moveaxis(dx, axis, -1)
    assert_allclose(dx[mask], expected[0], rtol=1e-11, atol=1e-13)
    assert_array_equal(dx[~mask], 0)
    assert_allclose(dgamma, expected[1], rtol=1e-12)
    assert_allclose(dbeta, expected[2], rtol=1e-12)


@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e300])
def test_masked_values_do_not_matter(backend, padding):
    x, dy = example((6, 3, 4)), example((6, 3, 4), seed=7)
    mask = np.arange(24).reshape(6, 4) % 5 != 0
    where = np.broadcast_to(~mask[:, None, :], x.shape)
    y, moments = functional.batch_norm(x, mask=mask)
    gradients = functional.batch_norm_backward(dy, x, moments, mask=mask)
    x[where] = dy[where] = padding
    padded, statistic = functional.batch_norm(x, mask=mask)
    assert_allclose(padded, y, rtol=1e-13, atol=1e-15)
    results = functional.batch_norm_backward(dy, x, statistic, mask=mask)
    for found, expected in zip(results, gradients, strict=True):
        assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_mask_in_place(backend):
    x = example((6, 3))
    mask = np.arange(6) < 4
    y, _ = functional.batch_norm(x, mask=mask)
    functional.batch_norm(x, mask=mask, out=x)
    assert_array_equal(x, y)


def test_inference_mask(backend):
    x = example((6, 3))
    mask = np.arange(6) < 4
    y = functional.batch_norm_inference(x, np.zeros(3), np.ones(3), None, np.ones(3), mask=mask)
    assert_array_equal(y[4:], 0)
    assert_array_equal(
        y[:4], functional.batch_norm_inference(x[:4], np.zeros(3), np.ones(3), None, np.ones(3))
    )


# -- laws ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    data=st.data(),
    offset=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
)
def test_output_is_normalized(shape, data, offset):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    others = tuple(each for each in range(len(shape)) if each != axis % len(shape))
    x = example(shape, seed=data.draw(st.integers(0, 99))) + offset
    if x.size // shape[axis] < 2:
        with pytest.raises(ValueError, match="at least 2 values"):
            functional.batch_norm(x, axis=axis)
        return
    y, moments = functional.batch_norm(x, axis=axis, eps=1e-6)
    # the mean is off by half a unit of its rounding, divided by the scale
    assert_allclose(y.mean(others), 0, atol=1e-14 + 1e-13 * (1 + abs(offset)))
    assert_allclose(y.var(others), moments.var() / (moments.var() + 1e-6), rtol=1e-9)
    dy = example(shape, seed=data.draw(st.integers(0, 99)))
    dx, _, _ = functional.batch_norm_backward(dy, x, moments, axis=axis, eps=1e-6)
    # moving all of x, the output stays
    assert_allclose(dx.sum(others), 0, atol=1e-9 * (1 + np.abs(dx).max()))


# -- bad input -----------------------------------------------------------------------------


GOOD = {"x": np.arange(12.0).reshape(4, 3)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": np.arange(4.0)}, ValueError, "2 dimensions"),
        ({"x": np.array(3.0)}, ValueError, "2 dimensions"),
        ({"x": np.ones((4, 3), complex)}, TypeError, "complex"),
        ({"x": np.array([["a", "b"], ["c", "d"]])}, TypeError, "<U1|str"),
        ({"x": np.array([[None, 1], [2, 3]])}, TypeError, "object"),
        ({"x": np.ma.masked_array(np.ones((4, 3)), np.eye(4, 3))}, TypeError, "masked"),
        ({"x": np.ones((1, 3))}, ValueError, "at least 2 values"),
        ({"x": np.ones((0, 3))}, ValueError, "at least 2 values"),
        ({"x": np.ones((1, 3, 1))}, ValueError, "at least 2 values"),
        ({"axis": 2}, ValueError, "axis 2"),
        ({"axis": -3}, ValueError, "axis -3"),
        ({"axis": None}, TypeError, "axis must be an integer, not None"),
        ({"axis": 1.0}, TypeError, "axis must be an integer, not 1.0"),
        ({"gamma": np.ones(4)}, ValueError, "gamma"),
        ({"gamma": 1.0}, ValueError, "gamma"),
        ({"gamma": np.ones(3, complex)}, TypeError, "gamma"),
        ({"beta": np.ones((3, 1))}, ValueError, "beta"),
        ({"beta": ["a", "b", "c"]}, TypeError, "beta"),
        ({"eps": 0}, ValueError, "eps"),
        ({"eps": -1e-5}, ValueError, "eps"),
        ({"eps": np.nan}, ValueError, "eps"),
        ({"eps": "1e-5"}, TypeError, "eps"),
        ({"activation": "gelu"}, ValueError, "activation"),
        ({"mask": np.ones(3, bool)}, ValueError, "mask"),
        ({"mask": np.ones((4, 3), bool)}, ValueError, "mask"),
        ({"mask": np.ones(4)}, TypeError, "mask"),
        ({"mask": [True, False, False, False]}, ValueError, "under the mask"),
    ],
)
def test_bad_input(backend, changes, error, message):
    out = np.full((4, 3), 7.0)
    arguments = {**GOOD, **changes}
    if np.shape(arguments["x"]) == out.shape:
        arguments["out"] = out
    with pytest.raises(error, match=message):
        functional.batch_norm(**arguments)
    assert_array_equal(out, 7.0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mean": np.zeros(2)}, ValueError, "mean"),
        ({"var": np.ones(4)}, ValueError, "var"),
        ({"var": np.array([1.0, -1.0, 1.0])}, ValueError, "negative in channel 1"),
        ({"eps": 0.0}, ValueError, "eps"),
    ],
)
def test_bad_input_of_inference(changes, error, message):
    arguments = {**GOOD, "mean": np.zeros(3), "var": np.ones(3), **changes}
    with pytest.raises(error, match=message):
        functional.batch_norm_inference(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dy": np.ones((3, 4))}, ValueError, "dy has shape"),
        ({"dy": np.ones((4, 3, 1))}, ValueError, "dy has shape"),
        ({"dy": np.ones((4, 3), np.float32)}, TypeError, "dy has dtype float32"),
        ({"dy": np.ones((4, 3), complex)}, TypeError, "complex"),
        ({"gamma": np.ones(2)}, ValueError, "gamma"),
        ({"moments": nc.Moments.of(4, np.zeros(2), np.ones(2))}, ValueError, "2 channels"),
        ({"eps": -1}, ValueError, "eps"),
        ({"activation": "tanh"}, ValueError, "activation"),
    ],
)
def test_bad_input_of_backward(changes, error, message):
    moments = functional.moments(GOOD["x"], channel_axis=1)
    out = np.full((4, 3), 7.0)
    arguments = {**GOOD, "dy": np.ones((4, 3)), "moments": moments, "out": out, **changes}
    with pytest.raises(error, match=message):
        functional.batch_norm_backward(**arguments)
    assert_array_equal(out, 7.0)
