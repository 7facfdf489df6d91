"""Where normcore promises more than scikit-learn, each promise by name."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from releases import skip_before
from scalers import SCALERS

import normcore as nc


def theirs(name):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    return getattr(preprocessing, name)


def exact_standardized(column):
    """Standardize in rational arithmetic; only the square root and the end round."""
    exact = [Fraction(float(value)) for value in column]
    mean = sum(exact) / len(exact)
    var = sum((value - mean) ** 2 for value in exact) / len(exact)
    std = Fraction(float(var) ** 0.5)
    return np.array([float((value - mean) / std) for value in exact])


def at_an_offset_of_1e7():
    """Return values of float32 whose mean lies half way between two of them."""
    return (1e7 + 0.5 + np.random.default_rng(0).normal(size=(500, 1))).astype(np.float32)


def test_float32_with_an_offset_of_1e7_keeps_every_digit():
    x = at_an_offset_of_1e7()
    ours = nc.StandardScaler().fit_transform(x)
    # One rounding to float32 of a value of size up to 4.
    assert np.abs(ours[:, 0] - exact_standardized(x[:, 0])).max() <= 2.0**-22


@skip_before("scikit-learn", "1.8", "rounds the mean to the dtype of the data")
def test_sklearn_rounds_the_mean_of_float32():
    x = at_an_offset_of_1e7()
    result = theirs("StandardScaler")().fit_transform(x)
    assert np.abs(result[:, 0] - exact_standardized(x[:, 0])).max() > 0.1


@pytest.mark.parametrize("size", [1e200, 1e-170, 5e-300])
def test_standard_scaler_of_extreme_magnitudes(size):
    x = np.random.default_rng(1).normal(3, 1, size=(300, 2))
    scaler = nc.StandardScaler().fit(x * size)
    np.testing.assert_allclose(scaler.scale_ / size, x.std(0), rtol=1e-12)
    np.testing.assert_allclose(
        scaler.transform(x * size), nc.StandardScaler().fit_transform(x), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        scaler.inverse_transform(scaler.transform(x * size)), x * size, rtol=1e-13
    )


@pytest.mark.parametrize("size", [1e200, 1e-170])
def test_standard_scaler_where_sklearn_gives_nothing(size):
    x = np.random.default_rng(1).normal(3, 1, size=(300, 1)) * size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = theirs("StandardScaler")().fit_transform(x)
    assert np.std(result) != pytest.approx(1)
    assert np.std(nc.StandardScaler().fit_transform(x)) == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-16, 1e-170])
@pytest.mark.parametrize("name", ["MinMaxScaler", "RobustScaler"])
def test_data_near_1e_16_is_not_constant(name, size):
    x = np.random.default_rng(2).random((200, 1)) * size
    ours = getattr(nc, name)().fit(x)
    unscaled = getattr(nc, name)().fit_transform(x / size)
    np.testing.assert_allclose(ours.transform(x), unscaled, rtol=1e-9, atol=1e-12)
    assert np.ptp(ours.transform(x)) >= 1
    assert np.ptp(theirs(name)().fit_transform(x)) < 1e-10


@pytest.mark.parametrize("cls", SCALERS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e7 - 0.1, 1e16 + 2, 1e-300, 1e200])
@pytest.mark.parametrize("rows", [1, 2, 7, 1000, 100_003])
def test_constants_have_scale_1_whatever_the_number_of_rows(cls, value, rows):
    x = np.full((rows, 2), value)
    scaler = cls().fit(x)
    np.testing.assert_array_equal(scaler.scale_, 1.0)
    np.testing.assert_array_equal(scaler.transform(x), 0.0)
    np.testing.assert_array_equal(scaler.inverse_transform(scaler.transform(x)), x)


@pytest.mark.parametrize("rows", [1_000, 1_000_000])
def test_varying_columns_stay_varying_whatever_the_number_of_rows(rows):
    # 1e-10 of the mean: scikit-learn calls this constant as soon as there are enough rows.
    x = 1.0 + 1e-10 * (np.arange(rows) % 2)[:, None]
    y = nc.StandardScaler().fit_transform(x)
    np.testing.assert_allclose(np.abs(y), 1.0, rtol=1e-5)


def test_varying_column_that_sklearn_takes_for_constant():
    x = 1.0 + 1e-10 * (np.arange(1_000_000) % 2)[:, None]
    assert np.ptp(theirs("StandardScaler")().fit_transform(x)) < 1e-9


@pytest.mark.parametrize("units", [3, 4, 5, 1000])
def test_bound_between_constant_and_varying(units):
    # Half the rows lie 2 * units spacings above 1, so std is units * eps, and the mean almost 1.
    x = np.array([[1.0], [1.0 + 2 * units * 2.0**-52]] * 50)
    scaler = nc.StandardScaler().fit(x)
    expected = 1.0 if units <= 8 else units * 2.0**-52
    assert scaler.scale_[0] == pytest.approx(expected)


RANGES = [(0, 1), (-1, 1), (0, 0.1), (0.1, 0.7), (-0.3, 7.1), (1e-3, 1e3), (-1e4, 0.3), (5, 5.1)]


@pytest.mark.parametrize("feature_range", RANGES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_training_data_stays_inside_the_range_exactly(feature_range, dtype):
    rng = np.random.default_rng(3)
    offsets = 10.0 ** rng.integers(-3, 4, size=1000) * rng.normal(size=1000)
    X = (rng.normal(size=(20, 1000)) * rng.random(1000) + offsets).astype(dtype)
    X = X[:, np.ptp(X, axis=0) > 0]
    Y = nc.MinMaxScaler(feature_range).fit_transform(X)
    lo, hi = feature_range
    assert Y.dtype == dtype
    # In float64, so that no comparison rounds the ends to the narrower dtype.
    assert float(Y.min()) >= lo
    assert float(Y.max()) <= hi
    spacing = np.spacing(np.asarray(max(abs(lo), abs(hi)), dtype)).astype(np.float64)
    assert (Y.min(0).astype(np.float64) <= lo + spacing).all()
    assert (Y.max(0).astype(np.float64) >= hi - 2 * spacing).all()


def test_sklearn_leaves_the_range():
    X = np.random.default_rng(4).normal(size=(20, 1000)).astype(np.float32)
    Y = theirs("MinMaxScaler")().fit_transform(X)
    assert (Y.max(0) > 1).mean() + (Y.min(0) < 0).mean() > 0.02


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=6),
    ends=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).filter(
        lambda ends: ends[0] < ends[1]
    ),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_training_data_stays_inside_any_range(values, ends, dtype):
    with np.errstate(over="ignore"):
        X = np.array(values).astype(dtype)[:, None]
    assume(np.isfinite(X).all())
    lo, hi = ends
    assume(dtype is np.float64 or has_two_values_inside(lo, hi))
    Y = nc.MinMaxScaler(ends).fit_transform(X).astype(np.float64)
    assert Y.min() >= lo
    assert Y.max() <= hi


def has_two_values_inside(lo, hi):
    low, high = np.float32(lo), np.float32(hi)
    low = np.nextafter(low, np.float32(np.inf)) if float(low) < lo else low
    high = np.nextafter(high, np.float32(-np.inf)) if float(high) > hi else high
    return low < high


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.floats(-1e150, 1e150), min_size=2, max_size=6))
def test_both_ends_of_0_1_are_attained(values):
    X = np.array(values)[:, None]
    scaler = nc.MinMaxScaler().fit(X)
    assume(scaler.scale_[0] != 1 or scaler.data_range_[0] == 1)  # not constant
    Y = scaler.transform(X)
    assert Y.min() == 0
    assert Y.max() == 1


def test_clip_keeps_new_data_inside_after_rounding():
    scaler = nc.MinMaxScaler((-0.1, 0.1), clip=True).fit(np.array([[0], [1]], np.float32))
    Y = scaler.transform(np.array([[-5], [9]], np.float32)).astype(np.float64)
    assert Y.min() >= -0.1
    assert Y.max() <= 0.1


def test_integers_of_any_size_are_read_as_they_are():
    X = np.array([[2**53 + 2], [2**53 + 4], [2**53 + 6]])
    np.testing.assert_array_equal(
        nc.StandardScaler(with_std=False).fit_transform(X), [[-2], [0], [2]]
    )
    small = np.array([[250], [255], [1]], np.uint8)
    assert nc.MinMaxScaler().fit(small).data_range_[0] == 254
