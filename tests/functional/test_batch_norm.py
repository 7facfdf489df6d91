"""Batch normalization as functions of arrays: forward, inference, and their laws."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from functional_examples import SHAPES, example, plain_batch_norm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal, assert_array_max_ulp

from normcore import functional
from normcore.testing.exact import exact_sqrt


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
    scale = exact_sqrt(var + eps, bits=400)
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
    # moving all of x, the output stays, but for what half a unit of the mean comes to
    unit = np.spacing(np.abs(moments.mean)) / (moments.var() + 1e-6)
    rounding = unit / 2 * np.abs((dy * y).sum(others))
    largest = np.abs(dx).max(others)
    assert (np.abs(dx.sum(others)) <= 1.01 * rounding + 1e-12 * (1 + largest)).all()
