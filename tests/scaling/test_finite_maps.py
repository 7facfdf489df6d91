"""Finite data gives infinite results only where the result itself is beyond the dtype."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import normcore as nc

MAX = np.finfo(np.float64).max
TINY = 5e-324
EXTREME = [0.0, 1.0, -1.0, 0.3, 1e-3, 1e5, MAX, -MAX, MAX / 2, -MAX / 2, 1.7e308, -1.7e308, 1e300]
EXTREME += [2.0**970, -(2.0**970), 1e292, 1e-300, TINY, -TINY, 2.0**-1022]
values = st.one_of(st.sampled_from(EXTREME), st.floats(allow_nan=False, allow_infinity=False))
nonzero = values.filter(lambda value: value != 0)


def rounded(value):
    """Round a fraction to 53 bits, with any exponent."""
    if not value:
        return value
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length() - 54
    unit = Fraction(2) ** exponent
    while abs(value) >= 2**53 * unit:
        unit *= 2
    return round(value / unit) * unit


def specified(x, center, scale, gamma, beta):
    """Return the map with every operation rounded once, in float64 without bounds.

    Returns
    -------
    float or None
        None where an intermediate result is below what float64 has with all digits.
    """
    least = Fraction(2) ** -1020
    x, center, scale, gamma, beta = map(Fraction, (x, center, scale, gamma, beta))
    results = [rounded(x - center)]
    results.append(rounded(results[-1] / scale))
    results.append(rounded(results[-1] * gamma))
    results.append(rounded(results[-1] + beta))
    if any(each and abs(each) < least for each in results):
        return None
    result = results[-1]
    if abs(result) >= 2**1024:
        return np.inf if result > 0 else -np.inf
    return float(result)


class Mapped(nc.AffineScaler):
    """Maps by any coefficients."""

    statistic = nc.Extrema

    def __init__(self, coefficients_=None, copy=True, backend=None):
        self.given = coefficients_
        self.copy, self.backend = copy, backend

    def affine(self, extrema):
        center, scale, gamma, beta = self.given
        return nc.Affine(center=center, scale=scale, gamma=gamma, beta=beta)

    def get_params(self, deep=True):
        return {}


@settings(max_examples=400, deadline=None)
@given(x=values, center=values, scale=nonzero, gamma=nonzero, beta=values)
@example(x=-MAX, center=MAX / 3, scale=MAX / 2, gamma=1.0, beta=0.0)
@example(x=-1.414, center=0.0, scale=1.0, gamma=1.6e308, beta=5.6e307)
@example(x=1e300, center=0.0, scale=1e-10, gamma=1e-10, beta=0.0)
@example(x=MAX, center=-MAX, scale=2.0, gamma=1.0, beta=-MAX)
@example(x=MAX, center=1.0, scale=0.5, gamma=0.75, beta=MAX)
def test_maps_are_those_of_float64_without_bounds(x, center, scale, gamma, beta):
    scaler = Mapped((center, scale, gamma, beta)).fit([[0.0, 1.0]])
    for row, method, numbers in (
        ([x, x], scaler.transform, (center, scale, gamma, beta)),
        ([x, x], scaler.inverse_transform, (beta, gamma, scale, center)),
    ):
        expected = specified(x, *numbers)
        if expected is None:
            continue
        y = method(np.array([row]))
        assert y.tolist() == [[expected, expected]]
        in_place = np.array([row, row])
        assert method(in_place, out=in_place).tolist() == [[expected, expected]] * 2


@settings(max_examples=100, deadline=None)
@given(x=st.lists(values, min_size=2, max_size=9), data=st.data())
@example(x=[1.7e308, 1.7e308, -1.7e308], data=None)
@example(x=[MAX, -MAX], data=None)
@example(x=[TINY, 0.0], data=None)
def test_what_was_learned_from_maps_to_finite_numbers(x, data):
    X = np.array(x).reshape(-1, 1)
    for scaler in (
        nc.StandardScaler(),
        nc.StandardScaler(with_std=False),
        nc.StandardScaler(with_mean=False),
        nc.MinMaxScaler(),
        nc.MinMaxScaler((-1e-200, 1e-200)),
        nc.MinMaxScaler((-3, 1e300)),
        nc.RobustScaler(quantile_range=(0, 100)),
        nc.MaxAbsScaler(),
    ):
        y = scaler.fit_transform(X)
        if isinstance(scaler, nc.StandardScaler) and not scaler.with_std:
            continue  # a difference may be beyond float64 itself
        assert np.isfinite(y).all(), scaler
        if isinstance(scaler, nc.MinMaxScaler):
            lo, hi = scaler.feature_range
            assert (y >= lo).all()
            assert (y <= hi).all()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_tables_with_such_columns_beside_ordinary_ones(dtype, layout):
    X = np.random.default_rng(3).normal(size=(5000, 4))
    largest = float(np.finfo(dtype).max)
    X[:, 2] = np.where(X[:, 2] > 0.5, largest, -largest)
    X = np.asarray(X, dtype=dtype, order=layout)
    for cls in (nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler, nc.MaxAbsScaler):
        scaler = cls().fit(X)
        y = scaler.transform(X)
        assert np.isfinite(y).all()
        alone = cls().fit(X[:, [0, 1, 3]])
        np.testing.assert_array_equal(y[:, [0, 1, 3]], alone.transform(X[:, [0, 1, 3]]))
        scale = float(Fraction(_scale(scaler)) / Fraction(largest))
        expected = (X[:, 2].astype(float) / largest - _center(scaler) / largest) / scale
        np.testing.assert_allclose(y[:, 2], expected, rtol=1e3 * np.finfo(dtype).eps, atol=1e-3)
        in_place = X.copy(layout)
        assert scaler.transform(in_place, out=in_place) is in_place
        np.testing.assert_array_equal(in_place, y)


def _center(scaler):
    return {
        nc.StandardScaler: lambda s: s.mean_[2],
        nc.MinMaxScaler: lambda s: s.data_min_[2],
        nc.RobustScaler: lambda s: s.center_[2],
        nc.MaxAbsScaler: lambda s: 0.0,
    }[type(scaler)](scaler)


def _scale(scaler):
    if isinstance(scaler, nc.MinMaxScaler):
        return Fraction(scaler.data_max_[2]) - Fraction(scaler.data_min_[2])
    if isinstance(scaler, nc.RobustScaler):
        q = scaler._statistic.values
        return Fraction(q[2, 2]) - Fraction(q[0, 2])
    return scaler.scale_[2]


def test_infinity_is_refused_there_too():
    X = np.array([[1.7e308, 1.0], [1.7e308, 2.0], [-1.7e308, 3.0]])
    scaler = nc.StandardScaler().fit(X)
    for bad in (np.inf, -np.inf):
        broken = X.copy()
        broken[1, 1] = bad
        with pytest.raises(ValueError, match="contains infinity: column 1, first at row 1"):
            scaler.transform(broken)
        with pytest.raises(ValueError, match="contains infinity: column 1, first at row 1"):
            scaler.transform(broken, out=broken)
        assert broken[0, 0] == 1.7e308


def test_clipping_there_too():
    X = np.array([[-(2.0**1023)], [2.0**1023]])
    scaler = nc.MinMaxScaler(clip=True).fit(X / 2)
    assert scaler.transform(X).tolist() == [[0.0], [1.0]]
    assert nc.MinMaxScaler().fit(X / 2).transform(X).tolist() == [[-0.5], [1.5]]


def test_ranges_beyond_float64():
    X = np.array([[-(2.0**1023)], [-(2.0**1023)], [2.0**1023], [2.0**1023]])
    ranged = nc.MinMaxScaler((-1, 1)).fit(X)
    assert ranged.transform([[-(2.0**1023)], [0.0], [2.0**1023]]).ravel().tolist() == [
        -1.0,
        0.0,
        1.0,
    ]
    assert ranged.inverse_transform([[-1.0], [0.5]]).ravel().tolist() == [-(2.0**1023), 2.0**1022]
    robust = nc.RobustScaler().fit(X)
    assert robust.transform(X).ravel().tolist() == [-0.5, -0.5, 0.5, 0.5]
    assert np.isinf(robust.scale_[0])
    unit = nc.RobustScaler(unit_variance=True).fit(X)
    assert unit.transform(X)[3, 0] == pytest.approx(0.5 * 1.3489795)
    assert np.isinf(ranged.data_range_[0])
    np.testing.assert_allclose(ranged.scale_ * 2.0**1023, 1.0, rtol=1e-15)
    robust.center_ = [0.0]
    assert robust.transform(X).ravel().tolist() == [-0.5, -0.5, 0.5, 0.5]
    robust.scale_ = [2.0**1023]
    assert robust.transform(X).ravel().tolist() == [-1.0, -1.0, 1.0, 1.0]


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_arrays_of_other_libraries(library):
    pytest.importorskip("array_api_compat")
    xp = pytest.importorskip(library)
    X = np.array([[1.7e308, 1.0], [1.7e308, 2.0], [-1.7e308, 3.0]])
    expected = nc.StandardScaler().fit_transform(X)
    y = nc.StandardScaler().fit_transform(xp.asarray(X))
    np.testing.assert_array_equal(np.from_dlpack(y), expected)


def test_copies_of_such_scalers(tmp_path):
    X = np.array([[1.7e308], [1.7e308], [-1.7e308]])
    scaler = nc.StandardScaler().fit(X)
    scaler.save(tmp_path / "s.json")
    for each in (
        copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler)), nc.load(tmp_path / "s.json")
    ):  # fmt: skip
        np.testing.assert_array_equal(each.transform(X), scaler.transform(X))
