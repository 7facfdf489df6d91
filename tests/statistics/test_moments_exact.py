"""Moments of the CPU backend against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from normcore_cpu.backend import CpuBackend
from normcore_cpu.instruction_sets import available

import normcore as nc
from normcore.testing.exact import exact_moments, ulp_error

MEAN_ULP, VAR_ULP = 1.0, 4.0


def assert_exact(moments: nc.Moments, x: np.ndarray, weights: np.ndarray | None = None) -> None:
    """Compare the moments of a 2-D array's columns with exact arithmetic."""
    for c in range(x.shape[1]):
        exact = exact_moments(x[:, c], weights)
        assert ulp_error(moments.mean[c], exact.mean) <= MEAN_ULP, f"mean of column {c}"
        assert ulp_error(moments.var()[c], exact.m2 / exact.count) <= VAR_ULP, f"var of column {c}"


@pytest.fixture(autouse=True, params=available(), scope="module")
def instruction_set(request):
    """Run every test with each build of the kernels."""
    with nc.use_backend(CpuBackend(request.param)):
        yield request.param


def observe(x: np.ndarray, **options: object) -> nc.Moments:
    return nc.functional.moments(x, channel_axis=1, **options)


RNG = np.random.default_rng(0)
ROWS = 9000  # enough for sums in fixed point, with two columns too


def cancelling(spread: float, columns: int) -> np.ndarray:
    """Return values over a wide range, their negatives, and what is left of them: 1e-3 a row."""
    x = RNG.normal(size=(ROWS // 2, columns)) * np.exp(spread * RNG.normal(size=(ROWS // 2, 1)))
    x = np.concatenate([x, -x, np.full((1, columns), 1e-3 * (ROWS + 1))])
    return RNG.permutation(x)


DATA = {
    "normal": RNG.normal(size=(ROWS, 5)),
    "mean cancels": RNG.normal(size=(ROWS, 3)) - RNG.normal(size=(ROWS, 1)).mean(),
    "offset 1e7 in float32": RNG.normal(1e7, 1.0, size=(ROWS, 3)).astype(np.float32),
    "mean 1e12 times std": RNG.normal(1e12, 1.0, size=(ROWS, 3)),
    "mean 1e12 times std, small": RNG.normal(1e-3, 1e-15, size=(ROWS, 3)),
    "two values": (RNG.random(size=(ROWS, 7)) < 0.3).astype(float),
    "wide range": np.exp(10 * RNG.normal(size=(ROWS, 3))),
    "sorted": np.sort(RNG.normal(3.0, 1.0, size=(ROWS, 3)), axis=0),
    "float16": RNG.normal(5.0, 1.0, size=(ROWS, 17)).astype(np.float16),
    "int16": RNG.integers(-1000, 1000, size=(ROWS, 3)).astype(np.int16),
    "zeros and tiny ones": RNG.normal(size=(ROWS, 3)).astype(np.float32)
    * RNG.choice([0.0, 1e-12, 1e-30, 1.0], size=(ROWS, 3)).astype(np.float32),
    "drifts": RNG.normal(size=(ROWS, 3)).astype(np.float32) + np.arange(ROWS)[:, None] / 100,
    "grows": RNG.normal(size=(ROWS, 3)) * 2.0 ** np.linspace(-60, 60, ROWS)[:, None],
    "one large column": RNG.normal(size=(ROWS, 18)) * np.where(np.arange(18) == 5, 1e200, 1.0),
    "subnormal float32": RNG.normal(0, 1e-41, size=(ROWS, 3)).astype(np.float32),
    "tiny ones now and then": np.where(
        RNG.random(size=(ROWS, 17)) < 3e-4, 1e-12, RNG.normal(size=(ROWS, 17))
    ).astype(np.float32),
    "heavy tail in float32": (
        RNG.normal(size=(ROWS, 17)) * np.exp(6 * RNG.normal(size=(ROWS, 17)))
    ).astype(np.float32),
    "cancels over a wide range": cancelling(8.0, 3),
    "cancels over a wide range in float32": cancelling(3.0, 17).astype(np.float32),
    "all as large": 1.99 * RNG.choice([-1.0, 1.0], size=(ROWS, 17)),
    "outlier": np.concatenate([RNG.normal(size=(ROWS - 1, 2)), np.full((1, 2), 1e9)]),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_whole(name: str, order: str) -> None:
    x = DATA[name]
    arranged = np.repeat(x, 2, axis=0)[::2] if order == "strided" else np.asarray(x, order=order)
    assert_exact(observe(arranged), x)


@pytest.mark.parametrize("name", DATA)
def test_thousand_chunks_merged_in_random_order(name: str) -> None:
    x = DATA[name]
    chunks = np.array_split(x, 1000)
    assert len(chunks) == 1000
    states = [observe(chunk) for chunk in chunks]
    rng = np.random.default_rng(1)
    while len(states) > 1:  # any pair may merge next, not only neighbours
        i, j = rng.choice(len(states), size=2, replace=False)
        states[i] = states[i].merge(states[j])
        states.pop(j)
    assert_exact(states[0], x)


@pytest.mark.parametrize("table", ["breast_cancer", "wine", "diabetes"])
def test_real_tables(table: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    x = getattr(datasets, f"load_{table}")().data
    assert_exact(observe(x), x)
    total = nc.Moments.empty(x.shape[1])
    for chunk in np.array_split(x[np.random.default_rng(2).permutation(len(x))], 100):
        total = total.merge(observe(chunk))
    assert_exact(total, x)


def test_weights() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(1e6, 1.0, size=(700, 5))
    weights = rng.exponential(size=700)
    weights[::7] = 0.0
    x[::7] = np.nan  # weight 0 hides whatever is there
    moments = observe(x, weights=weights)
    keep = weights > 0
    assert_exact(moments, x[keep], weights[keep])
    total = sum(map(Fraction, weights.tolist()))
    assert all(ulp_error(count, total) <= 0.5 for count in moments.count)


def test_whole_weights_equal_repetition() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 4))
    repeats = rng.integers(0, 5, size=300)
    moments = observe(x, weights=repeats)
    assert_exact(moments, np.repeat(x, repeats, axis=0))
    assert (moments.count == repeats.sum()).all()


def test_skipna() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(1e5, 1.0, size=(ROWS, 20))
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:, 3] = np.nan
    moments = observe(x, skipna=True)
    for c in range(20):
        column = x[~np.isnan(x[:, c]), c]
        assert moments.count[c] == len(column)
        if len(column):
            assert_exact(moments.select([c]), column[:, None])
    assert np.isnan(moments.mean[3])
    assert np.isnan(moments.var()[3])


def test_without_skipna_nan_and_infinity_propagate() -> None:
    x = np.ones((600, 4))
    x[500, 1], x[10, 2], x[10, 3], x[400, 3] = np.nan, np.inf, np.inf, -np.inf
    moments = observe(x)
    np.testing.assert_array_equal(moments.mean, [1, np.nan, np.inf, np.nan])
    np.testing.assert_array_equal(moments.var(), [0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(moments.count, 600)


@pytest.mark.parametrize("magnitude", [1e200, 1e-170, 1e300, 1e-290])
def test_squares_beyond_float64(magnitude: float) -> None:
    x = np.random.default_rng(6).normal(2.0, 1.0, size=(700, 3)) * magnitude
    moments = observe(x[:300]).merge(observe(x[300:]))
    for c in range(3):
        exact = exact_moments(x[:, c])
        assert ulp_error(moments.mean[c], exact.mean) <= MEAN_ULP
        # Compare squares: the standard deviation itself is irrational.
        square = Fraction(float(moments.std()[c])) ** 2
        assert abs(square / (exact.m2 / exact.count) - 1) <= Fraction(8, 2**52)


def test_one_column_of_extremes_among_ordinary_ones() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(900, 3))
    expected = observe(x).parts[:, [0, 2]]
    x[:, 1] *= 1e250
    np.testing.assert_array_equal(observe(x).parts[:, [0, 2]], expected)
    x[:400, 1] = 0.0  # a tile of zeros fits every exponent
    exact = exact_moments(x[:, 1])
    assert ulp_error(observe(x).mean[1], exact.mean) <= MEAN_ULP


@pytest.mark.parametrize("value", [0.1, 1e300, 5e-324, -7e7, 0.0])
@pytest.mark.parametrize("rows", [1, 7, 100_000])
def test_constants_have_no_variance(value: float, rows: int) -> None:
    moments = observe(np.full((rows, 2), value))
    np.testing.assert_array_equal(moments.mean, value)
    np.testing.assert_array_equal(moments.m2, 0.0)


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("value", [0.1, 1e300, 5e-324, -7e7])
def test_weighted_constants_have_no_variance(value: float, backend: str | None) -> None:
    x, weights = np.full(1001, value), RNG.random(1001)
    merged = nc.Moments.empty(1)
    for rows in np.array_split(np.arange(1001), 37):
        part = nc.functional.moments(
            x[rows], channel_axis=None, weights=weights[rows], backend=backend
        )
        merged = merged.merge(part)
    assert (merged.mean[0], merged.m2[0]) == (value, 0.0)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 40), st.integers(1, 3)),
        elements=st.floats(-1e6, 1e6, allow_subnormal=False),
    ),
    st.integers(0, 40),
)
def test_any_values_split_anywhere(x: np.ndarray, split: int) -> None:
    moments = observe(x[:split]).merge(observe(x[split:])) if split < len(x) else observe(x)
    for c in range(x.shape[1]):
        exact = exact_moments(x[:, c])
        magnitude = max(map(abs, map(Fraction, x[:, c].tolist())))
        # One ulp, or what two float64 can hold of the sum where the mean cancels beyond it.
        error = abs(Fraction(float(moments.mean[c])) - exact.mean)
        assert ulp_error(moments.mean[c], exact.mean) <= 1 or error <= magnitude * Fraction(
            1, 2**96
        )
        if exact.m2 > Fraction(1, 10**280):
            assert ulp_error(moments.var()[c], exact.m2 / exact.count) <= VAR_ULP


def test_large_array_in_many_ranges() -> None:
    rng = np.random.default_rng(8)
    x = rng.integers(-(2**20), 2**20, size=(60_000, 3)).astype(np.float32)
    values = x.astype(np.int64)
    moments = observe(x)
    for c in range(3):
        total, squares = int(values[:, c].sum()), int((values[:, c] ** 2).sum())
        assert ulp_error(moments.mean[c], Fraction(total, len(x))) <= MEAN_ULP
        variance = Fraction(squares, len(x)) - Fraction(total, len(x)) ** 2
        assert ulp_error(moments.var()[c], variance) <= VAR_ULP


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [
        *((np.float32, bad) for bad in (np.nan, np.inf, 1e36)),
        *((np.float64, bad) for bad in (np.nan, np.inf, 1e300)),
    ],
)
@pytest.mark.parametrize(
    ("shape", "where"),
    [
        ((2048, 16), np.s_[768:1280, 3]),
        ((20_000, 48), np.s_[768:1502, 3]),
        ((4, 5, 20_000), np.s_[1:3, 3, 9000:18_000]),
    ],
)
def test_bad_values_leave_the_other_channels_alone(dtype, bad, shape, where) -> None:
    """Whole tiles of them come after good ones, whose sums must not count twice."""
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    spoilt = x.copy()
    spoilt[where] = bad
    others = np.arange(shape[1]) != 3
    expected = observe(x)
    for options in ({}, {"skipna": True}):
        found = observe(spoilt, **options)
        np.testing.assert_allclose(
            found.mean[others], expected.mean[others], rtol=1e-13, atol=1e-18
        )
        np.testing.assert_allclose(found.var()[others], expected.var()[others], rtol=1e-14)
    if np.isnan(bad):  # the last one skipped them
        kept = spoilt[:, 3].reshape(-1)
        kept = kept[~np.isnan(kept), None]
        exact = exact_moments(kept[:, 0], None)
        assert ulp_error(found.mean[3], exact.mean) <= MEAN_ULP
        assert ulp_error(found.var()[3], exact.m2 / exact.count) <= VAR_ULP
