"""Statistics as functions of arrays."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from functional_examples import SHAPES, example
from numpy.testing import assert_allclose, assert_array_equal, assert_array_max_ulp

from normcore import functional


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


@pytest.mark.parametrize("weight", [5e-324, 1e-250, 1e300, 1e307, 1e308])
def test_moments_refuse_weights_whose_products_float64_cannot_hold(backend, weight):
    x = np.array([[1e10, 2.0], [2e10, 2.0], [4e10, np.nan], [1.5e10, 2.0]])
    weights = np.full(4, weight)
    words = "large that their sum" if weight > 1.0 else "weights hold nothing above"
    with pytest.raises(ValueError, match=words):
        functional.moments(x, channel_axis=1, weights=weights, skipna=True)


def test_moments_of_data_that_are_not_finite_take_weights_of_any_size(backend):
    x = np.array([[np.inf, np.nan], [1e10, 1e10], [2e10, 2e10], [4e10, 4e10]])
    found = functional.moments(x, channel_axis=1, weights=np.full(4, 1e307))
    assert not np.isfinite(found.mean).any()
    weights = np.array([5e-324, 1.0, 1.0, 2.0])
    found = functional.moments(x, channel_axis=1, weights=weights, skipna=True)
    assert_array_equal(found.mean, [np.inf, 2.75e10])
    with pytest.raises(ValueError, match="float64 in channel 0; divide"):
        functional.moments(x, channel_axis=1, weights=np.array([0.0, *[1e307] * 3]), skipna=True)


@pytest.mark.parametrize("size", [1e-119, 1e-100, 1e-60, 1e60, 1e150])
@pytest.mark.parametrize("weight", [1e-240, 1e-200, 1e200])
def test_moments_of_products_that_leave_float64(size, weight):
    """Of weights and squares, each of which float64 holds."""
    x, weights = np.array([[1.0], [2.0], [4.0]]) * size, np.array([1.0, 3.0, 1.0]) * weight
    found = functional.moments(x, channel_axis=1, weights=weights)
    assert_allclose(found.mean / size, [2.2], rtol=1e-14)
    assert_allclose(found.std() / size, [np.sqrt(0.96)], rtol=1e-14)


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
