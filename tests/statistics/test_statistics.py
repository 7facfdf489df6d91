"""The monoid laws of the statistics, and their states."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import normcore as nc
from normcore.statistics import Statistic
from normcore.statistics.brackets import Brackets, Quantiles


def moments(x: np.ndarray) -> nc.Moments:
    return nc.functional.moments(x, channel_axis=1, backend="cpu")


def extrema(x: np.ndarray) -> nc.Extrema:
    return nc.functional.extrema(x, channel_axis=1, backend="cpu")


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, size=(50, 4))


@pytest.mark.parametrize("observe", [moments, extrema])
def test_empty_is_neutral_to_the_bit(observe, x) -> None:
    statistic = observe(x)
    empty = type(statistic).empty(4)
    assert statistic.merge(empty) == statistic
    assert empty.merge(statistic) == statistic
    assert empty.merge(empty) == empty
    assert observe(x[:0]) == empty


@pytest.mark.parametrize("observe", [moments, extrema])
def test_merge_leaves_its_operands(observe, x) -> None:
    a, b = observe(x[:20]), observe(x[20:])
    before = copy.deepcopy(a), copy.deepcopy(b)
    merged = a.merge(b)
    assert merged is not a
    assert (a, b) == before


@pytest.mark.parametrize("observe", [moments, extrema])
def test_merge_commutes(observe, x) -> None:
    a, b = observe(x[:20]), observe(x[20:])
    left, right = a.merge(b), b.merge(a)
    for name in ("count", "mean", "m2") if observe is moments else ("count", "min", "max"):
        np.testing.assert_array_max_ulp(getattr(left, name), getattr(right, name), maxulp=1)


@pytest.mark.parametrize("observe", [moments, extrema])
def test_merge_refuses_what_does_not_fit(observe, x) -> None:
    statistic = observe(x)
    with pytest.raises(ValueError, match="4 and 3 channels"):
        statistic.merge(observe(x[:, :3]))
    other = extrema(x) if observe is moments else moments(x)
    with pytest.raises(TypeError, match="cannot merge"):
        statistic.merge(other)


@pytest.mark.parametrize("observe", [moments, extrema])
def test_state_and_pickle_are_exact(observe, x) -> None:
    statistic = observe(x * 1e200)
    state = statistic.to_state()
    assert all(array.dtype == np.float64 for array in state.values())
    assert type(statistic).from_state(state) == statistic
    assert pickle.loads(pickle.dumps(statistic)) == statistic
    key = next(iter(state))
    with pytest.raises(ValueError, match=key):
        type(statistic).from_state({name: value for name, value in state.items() if name != key})
    with pytest.raises(ValueError, match=key):
        type(statistic).from_state({**state, key: np.zeros((2, 2, 2))})


@pytest.mark.parametrize("observe", [moments, extrema])
def test_select(observe, x) -> None:
    statistic = observe(x)
    some = statistic.select([2, 0])
    assert some.num_channels == 2
    for name in ("count", "mean", "m2") if observe is moments else ("count", "min", "max"):
        np.testing.assert_array_equal(getattr(some, name), getattr(statistic, name)[[2, 0]])


def test_moments_of_nothing_are_nan_without_a_warning() -> None:
    empty = nc.Moments.empty(2)
    np.testing.assert_array_equal(empty.count, 0)
    for values in (empty.mean, empty.var(), empty.std(), empty.var(ddof=1)):
        assert np.isnan(values).all()
    one = nc.Moments.of(1, [2.0, 3.0], 0.0)
    np.testing.assert_array_equal(one.mean, [2.0, 3.0])
    np.testing.assert_array_equal(one.var(), 0.0)
    assert np.isnan(one.var(ddof=1)).all()


def test_extrema_of_nothing_are_nan() -> None:
    empty = nc.Extrema.empty(2)
    assert np.isnan(empty.min).all()
    assert np.isnan(empty.max).all()


def test_moments_of_plain_values() -> None:
    made = nc.Moments.of([10, 3], [0.1, -1e-300], [5.0, 0.0])
    np.testing.assert_array_equal(made.mean, [0.1, -1e-300])
    np.testing.assert_array_equal(made.var(), [0.5, 0.0])
    with pytest.raises(ValueError, match=r"\(7, C\)"):
        nc.Moments(np.zeros((3, 2)))


def test_var_overflows_to_infinity_and_std_does_not() -> None:
    statistic = moments(np.array([[1.0], [3.0]]) * 1e200)
    assert statistic.var()[0] == np.inf
    np.testing.assert_allclose(statistic.std(), 1e200, rtol=1e-15)
    np.testing.assert_allclose(statistic.std(ddof=1), 1e200 * 2**0.5, rtol=1e-15)


def test_statistics_are_unhashable_and_compare_by_value(x) -> None:
    assert moments(x) == moments(x)
    assert moments(x) != moments(x + 1)
    assert moments(x) != extrema(x)
    with pytest.raises(TypeError, match="unhashable"):
        hash(moments(x))


@pytest.mark.parametrize("kind", [nc.Moments, nc.Extrema, Brackets, Quantiles])
def test_every_statistic_has_a_name_and_the_whole_interface(kind) -> None:
    assert issubclass(kind, Statistic)
    assert kind.name
    assert not kind.__abstractmethods__
    assert kind.empty(3).num_channels == 3


@pytest.mark.parametrize("count", [-1.0, np.inf])
def test_counts_that_cannot_be_are_refused(count):
    state = nc.Moments.of([2.0, 2.0], 0.0, 1.0).to_state()
    state["parts"][0, 1] = count
    with pytest.raises(ValueError, match="counts of moments"):
        nc.Moments.from_state(state)


def test_running_averages():
    moments = nc.Moments.of([4.0, 1.0, 0.0], [1.0, 2.0, 3.0], [6.0, 0.0, 0.0])
    before = np.array([10.0, 20.0, 30.0]), np.array([1.0, 2.0, 3.0])
    mean, var = moments.running(*before, 0.25)
    np.testing.assert_array_equal(mean, [7.75, 20.0, 30.0])  # one value has no variance
    np.testing.assert_array_equal(var, [1.25, 2.0, 3.0])
    mean, var = moments.running(*before, 0.25, ddof=0)
    np.testing.assert_array_equal(mean, [7.75, 15.5, 30.0])
    np.testing.assert_array_equal(var, [1.125, 1.5, 3.0])
    np.testing.assert_array_equal(before[0], [10.0, 20.0, 30.0])
    with pytest.raises(ValueError, match=r"shape \(2,\), but there are 3 channels"):
        moments.running(np.zeros(2), np.ones(2), 0.1)
