"""Quantiles of weighted values against the definition, in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import RobustScaler, get_backend
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import exact_quantiles
from normcore.statistics.exact_weights import (
    UNIT,
    CumulatedWeights,
    as_floats,
    exact_sum,
    from_floats,
    rounded,
    split,
)

Q = np.array([0.0, 0.01, 0.25, 0.3, 0.5, 0.75, 0.9, 1.0])

WEIGHTS = st.lists(
    st.one_of(
        st.floats(0, 1e308, allow_nan=False),
        st.floats(0, 1),
        st.integers(0, 5).map(float),
        st.sampled_from([0.0, 5e-324, 1e-300, 0.1, 1 / 3, 1e300]),
    ),
    min_size=1,
    max_size=40,
).filter(lambda weights: 0 < sum(weights) < 1e308)


def definition(values, weights, q):
    """The first value whose cumulated weight reaches the quantile, but for 2**-44 of it below 1."""
    order = np.argsort(values, kind="stable")
    total = sum(map(Fraction, weights.tolist()))
    target = Fraction(float(q) * (1.0 - 2.0**-44) if q < 1 else 1) * total
    cumulated = Fraction(0)
    for place in order:
        cumulated += Fraction(float(weights[place]))
        if cumulated > 0 and cumulated >= target:
            return values[place]
    raise AssertionError


@given(WEIGHTS)
def test_sums_are_exact(weights):
    given = np.array(weights)
    expected = sum(map(Fraction, weights))
    assert Fraction(exact_sum(given), UNIT) == expected
    for part in split(given):
        assert (part.whole == np.floor(part.whole)).all()
        assert sum(map(int, part.whole)) < 2**53
    sums = np.array([exact_sum(given), exact_sum(given[:1])], dtype=object)
    np.testing.assert_array_equal(from_floats(as_floats(sums)), sums)
    assert rounded(sums)[0] == float(expected)
    cumulated = CumulatedWeights(split(given))
    assert cumulated[-1] == sums[0]
    assert cumulated.first_reaching(int(sums[0]) + 1) == len(weights)
    assert cumulated.first_reaching(1) == np.flatnonzero(given)[0]


@given(WEIGHTS, st.integers(0, 2**32 - 1))
def test_the_definition_holds_for_few(weights, seed):
    given = np.array(weights)
    x = np.random.default_rng(seed).integers(0, 9, (given.size, 1, 1)) * 1.0
    got = get_backend("cpu").quantiles(x, Q, weights=given[:, None])
    expected = [definition(x[:, 0, 0], given, q) for q in Q]
    np.testing.assert_array_equal(got.values[:, 0], expected)
    assert got.count[0] == float(sum(map(Fraction, weights)))


DRAWN = {
    "random": lambda rng, size: rng.random(size),
    "shares": lambda rng, size: np.full(size, 1 / size),
    "tenths": lambda rng, size: rng.integers(1, 4, size) / 10,
    "of any size": lambda rng, size: 10.0 ** rng.uniform(-290, 290, size),
    "many without": lambda rng, size: np.where(rng.random(size) < 0.8, 0.0, rng.random(size)),
    "one heavy": lambda rng, size: np.where(np.arange(size) == 7, 1e9, rng.random(size)),
}


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize(
    "backend", [ReferenceBackend(), get_backend("cpu")], ids=["reference", "cpu"]
)
def test_the_definition_holds_for_many(kind, backend, monkeypatch):
    monkeypatch.setattr(exact_quantiles, "_WHOLE", 500)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 2, 1)).round(2)
    x[rng.random(x.shape) < 0.1] = np.nan
    weights = DRAWN[kind](rng, 4000)
    got = backend.quantiles(x, Q, weights=weights[:, None], skipna=True)
    for channel in range(2):
        there = ~np.isnan(x[:, channel, 0])
        values, used = x[there, channel, 0], weights[there]
        expected = [definition(values, used, q) for q in Q]
        np.testing.assert_array_equal(got.values[:, channel], expected)
        assert got.count[channel] == float(sum(map(Fraction, used.tolist())))
    shuffled = rng.permutation(4000)
    again = backend.quantiles(x[shuffled], Q, weights=weights[shuffled, None], skipna=True)
    np.testing.assert_array_equal(again.values, got.values)
    np.testing.assert_array_equal(again.count, got.count)


def test_equal_values_of_other_digits_are_other_rows(monkeypatch):
    monkeypatch.setattr(exact_quantiles, "_WHOLE", 500)
    size = 4096
    x = np.tile(np.arange(float(size)), 2)
    weights = np.repeat([1.0, 2.0**-60], size)
    q = next(
        each for each in 0.5 * (1 + 2.0**-44) + np.arange(-4, 5) * 2.0**-53
        if each * (1.0 - 2.0**-44) == 0.5
    )  # fmt: skip
    got = get_backend("cpu").quantiles(x[:, None, None], [q, 1.0], weights=weights[:, None])
    expected = [definition(x, weights, each) for each in (q, 1.0)]
    np.testing.assert_array_equal(got.values[:, 0], expected)


@pytest.mark.parametrize("spread", [1, 20, 80])
def test_the_ends_are_the_extrema(spread):
    rng = np.random.default_rng(spread)
    X = rng.standard_normal((1000, 3))
    weights = np.exp(rng.standard_normal(1000) * spread)
    scaler = RobustScaler(quantile_range=(0, 100)).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(scaler.scale_, np.ptp(X, axis=0))


def test_infinite_values_are_counted_once(monkeypatch):
    monkeypatch.setattr(exact_quantiles, "_WHOLE", 10)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2, 1))
    x[::5, 0], x[::7, 1] = np.inf, -np.inf
    weights = rng.random((200, 1)) * 2.0 ** rng.integers(-60, 60, (200, 1))
    weights[0] = 0.0
    got = get_backend("cpu").quantiles(x, [0.5], weights=weights)
    np.testing.assert_array_equal(got.infinite, [39, 28])
    x[3, 1] = np.nan
    got = get_backend("cpu").quantiles(x, [0.5], weights=weights)
    assert np.isnan(got.count).tolist() == [False, True]
    assert np.isnan(got.values[0]).tolist() == [False, True]
