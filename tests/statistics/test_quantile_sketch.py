"""The sketch of quantiles: its guarantee on adversarial data, any merge tree, bits, states."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import quantile_sketch
from normcore.statistics.quantile_sketch_kernel import observed

Q = np.linspace(0.0, 1.0, 41)
CPU = nc.get_backend("cpu")


def sketch(x: np.ndarray, *, error: float = 0.01, seed: int = 0, **options) -> nc.QuantileSketch:
    """Return the sketch of a table, or of one channel."""
    view = x[:, None, None] if x.ndim == 1 else x[..., None]
    return nc.QuantileSketch.observe(CPU, view, error=error, seed=seed, skipna=True, **options)


def rank_errors(values: np.ndarray, found: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return how far, in ranks, found quantiles are from theirs; ties count for their favour."""
    values, target = np.sort(values), q * (len(values) - 1)
    low, high = (np.searchsorted(values, found, side=side) for side in ("left", "right"))
    # Between two values, either neighbour's rank is that of what was interpolated.
    low = np.where(low == high, low - 1, low)
    return np.maximum(0, np.maximum(low - target, target - np.maximum(high - 1, low + 1)))


def zigzag(n: int) -> np.ndarray:
    """Return smallest, largest, second smallest ..."""
    values = np.empty(n)
    values[::2], values[1::2] = np.arange((n + 1) // 2), np.arange(n - 1, (n + 1) // 2 - 1, -1)
    return values


ORDERS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "sorted": lambda rng, n: np.arange(n, dtype=np.float64),
    "reversed": lambda rng, n: np.arange(n, 0.0, -1.0),
    "zigzag": lambda rng, n: zigzag(n),
    "organ pipe": lambda rng, n: np.minimum(np.arange(n), np.arange(n)[::-1]) * 1.0,
    "duplicates": lambda rng, n: rng.integers(0, 7, n) * 1.0,
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.8, 0.0, rng.standard_normal(n)),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "lognormal": lambda rng, n: np.exp(30 * rng.standard_normal(n)),
    "blocks": lambda rng, n: np.arange(n) % 64 * 1.0,
    "large offset": lambda rng, n: 1e15 + rng.integers(0, n, n),
}


@pytest.mark.parametrize("order", ORDERS)
def test_trials_keep_the_bound_at_its_confidence(order) -> None:
    # Per quantile, one trial in 100 may exceed the bound; 200 trials of a right sketch have 8 or
    # more such with a probability of 0.1%. Hoeffding's bound is cautious: in truth it is none.
    n, trials = 20_000, 200
    exceeding = np.zeros(Q.size)
    for trial in range(trials):
        values = ORDERS[order](np.random.default_rng(trial), n)
        found = sketch(values, error=0.05, seed=trial)
        assert 0 < found.rank_error[0] <= 0.05
        errors = rank_errors(values, found.quantile(Q)[:, 0], Q)
        exceeding += errors > found.rank_error[0] * n
    assert exceeding.max() < 8, exceeding


@pytest.mark.parametrize("order", ["sorted", "zigzag", "cauchy"])
def test_ranks_are_unbiased(order) -> None:
    n = 20_000
    values = ORDERS[order](np.random.default_rng(0), n)
    points = np.sort(values)[n // 20 :: n // 20]
    below = []
    for seed in range(300):
        found = sketch(values, error=0.05, seed=seed)
        weights = np.repeat(np.ldexp(1.0, np.arange(found.sizes.shape[1])), found.sizes[0])
        below.append([weights[found.values < point].sum() for point in points])
    true = [np.sum(values < point) for point in points]
    bias, error = np.mean(below, axis=0) - true, np.std(below, axis=0) / 300**0.5
    assert (np.abs(bias) < 4 * error + 1e-9).all()


def balanced(parts: list[nc.QuantileSketch]) -> nc.QuantileSketch:
    while len(parts) > 1:
        parts = [reduce(nc.QuantileSketch.merge, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


def from_left(parts: list[nc.QuantileSketch]) -> nc.QuantileSketch:
    return reduce(nc.QuantileSketch.merge, parts)


def from_right(parts: list[nc.QuantileSketch]) -> nc.QuantileSketch:
    return reduce(lambda done, part: part.merge(done), parts[::-1])


@pytest.mark.parametrize("tree", [balanced, from_left, from_right])
@pytest.mark.parametrize("order", ["sorted", "zigzag", "cauchy", "duplicates"])
def test_any_merge_tree_keeps_the_bound(tree, order) -> None:
    rng = np.random.default_rng(3)
    values = ORDERS[order](rng, 120_000)
    cuts = np.sort(rng.integers(0, values.size, 150))
    parts = [sketch(part, error=0.05, seed=7) for part in np.split(values, cuts)]
    found = tree(parts)
    assert found.count[0] == values.size
    assert 0 < found.rank_error[0] <= 0.05
    errors = rank_errors(values, found.quantile(Q)[:, 0], Q)
    assert (errors <= found.rank_error[0] * values.size).all()
    assert found == tree(parts)


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0.02, 0.1, 0.3]),
)
def test_random_trees_conserve_weight_and_the_promise(lengths, random, error) -> None:
    rng = np.random.default_rng(sum(lengths))
    pieces = [rng.standard_normal(length) for length in lengths]
    parts = [sketch(piece, error=error) if len(piece) else nc.QuantileSketch.empty(1)
             for piece in pieces]  # fmt: skip
    while len(parts) > 1:
        other = parts.pop(random.randrange(len(parts)))
        at = random.randrange(len(parts))
        parts[at] = parts[at].merge(other)
    (found,) = parts
    values = np.concatenate(pieces)
    assert found.count[0] == values.size
    assert found.sizes @ np.ldexp(1.0, np.arange(found.sizes.shape[1])) == values.size
    assert found.rank_error[0] <= error
    if values.size:
        assert found.quantile([0, 1])[:, 0].tolist() == [values.min(), values.max()]
        nc.QuantileSketch.from_state(found.to_state())
    if values.size < nc.QuantileSketch.empty(1, error=error).exact_size:
        np.testing.assert_array_equal(
            found.quantile(Q)[:, 0], np.quantile(values, Q) if values.size else np.full(41, np.nan)
        )
        assert found.rank_error[0] == 0


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 63, 64, 65, 1000, 1023, 1024, 1025, 3071])
def test_small_data_are_exact(n) -> None:
    x = np.random.default_rng(n).standard_normal((n, 3)) * [1e-300, 1.0, 1e300]
    x[:, 1].round(1, out=x[:, 1])
    found = sketch(x)
    assert n < found.exact_size
    np.testing.assert_array_equal(found.quantile(Q), np.quantile(x, Q, axis=0))
    assert not found.rank_error.any()


@pytest.mark.parametrize("heaviest", [1, 3, 1000, 10**9])
@pytest.mark.parametrize("order", ["sorted", "zigzag", "cauchy", "duplicates"])
def test_whole_weights_repeat_values(order, heaviest) -> None:
    rng = np.random.default_rng(heaviest)
    values = ORDERS[order](rng, 30_000)
    weights = np.floor(heaviest ** rng.random(values.size)).astype(np.int64)
    weights[:5] = heaviest
    found = sketch(values, error=0.05, weights=weights[:, None].astype(np.float64))
    assert found.count[0] == weights.sum()
    assert 0 < found.rank_error[0] <= 0.05
    assert found.sizes.sum() < 30 / 0.05 + 64 * 40
    nc.QuantileSketch.from_state(found.to_state())
    order_ = np.argsort(values, kind="stable")
    cumulated, values = np.cumsum(weights[order_]), values[order_]
    for q, value in zip(Q, found.quantile(Q)[:, 0], strict=True):
        below = (
            cumulated[np.searchsorted(values, value, side="left") - 1] if value > values[0] else 0
        )
        upto = cumulated[np.searchsorted(values, value, side="right") - 1]
        reach = found.rank_error[0] * found.count[0] + weights.max()
        assert below - reach <= q * found.count[0] <= upto + reach
    few, number = values[:500], rng.integers(0, 5, 500)
    small = sketch(few, weights=number[:, None])
    np.testing.assert_array_equal(small.quantile(Q)[:, 0], np.quantile(np.repeat(few, number), Q))
    assert small.rank_error[0] == 0


def test_memory_is_bounded() -> None:
    kept = [sketch(np.arange(float(n))).sizes.sum() for n in (3071, 10**5, 10**6, 4 * 10**6)]
    assert max(kept[1:]) <= 2.4 / 0.001 + 64 * 20


def test_bits_depend_on_neither_threads_nor_memory_order_nor_blocks(monkeypatch) -> None:
    x = np.random.default_rng(0).standard_normal((30_000, 5))
    expected = sketch(x)
    with nc.use_num_threads(1):
        assert sketch(x) == expected
    monkeypatch.setattr(quantile_sketch, "_BLOCK", 777)
    monkeypatch.setattr(quantile_sketch, "_RUN", 1)
    assert sketch(x) == expected
    assert nc.QuantileSketch.observe(CPU, np.asfortranarray(x)[..., None]) == expected
    assert nc.QuantileSketch.observe(CPU, x.T[None]) == expected
    assert nc.QuantileSketch.observe(CPU, np.repeat(x, 2, axis=1)[:, ::2, None]) == expected
    assert nc.QuantileSketch.observe(ReferenceBackend(), x[..., None]) == expected
    assert sketch(x, seed=1) != expected
    for channels in ([3, 0], slice(1, 4), np.array([True, False, True, False, True])):
        assert expected.select(channels) == sketch(x[:, channels])


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.int8, np.uint16, np.int64, np.uint64, bool]
)
def test_every_dtype_is_read_as_float64(dtype) -> None:
    x = np.random.default_rng(0).uniform(0, 100, (5000, 2)).astype(dtype)
    assert sketch(x) == sketch(x.astype(np.float64))


def test_nan_and_infinity() -> None:
    x = np.random.default_rng(0).standard_normal((9000, 4))
    x[::3, 1] = np.nan
    x[:, 2] = np.nan
    x[:1800, 3], x[1800:3000, 3] = np.inf, -np.inf
    found = sketch(x)
    assert found.count.tolist() == [9000, 6000, 0, 9000]
    assert found.infinite.tolist() == [0, 0, 0, 3000]
    values = found.quantile([0.0, 0.1, 0.9, 1.0])
    assert np.isnan(values[:, 2]).all()
    assert values[:, 3].tolist() == [-np.inf, -np.inf, np.inf, np.inf]
    assert found.select([1]) == sketch(x[:, 1][~np.isnan(x[:, 1])])
    strict = nc.QuantileSketch.observe(CPU, x[..., None])
    assert np.isnan(strict.count).tolist() == [False, True, True, False]
    assert np.isnan(strict.quantile(0.5)).tolist() == [[False, True, True, False]]
    assert np.isnan(strict.merge(found).count[1])


def test_negative_zero_reads_as_zero() -> None:
    values = sketch(np.array([-0.0, -0.0, -0.0])).quantile([0, 0.5, 1])
    assert not np.signbit(values).any()


def test_the_monoid() -> None:
    x = np.random.default_rng(0).standard_normal((20_000, 3))
    x[:15_000, 1] = np.nan
    a, b = sketch(x[:12_000]), sketch(x[12_000:])
    empty = nc.QuantileSketch.empty(3, error=0.5)
    assert a.merge(empty) == a == empty.merge(a)
    assert empty.merge(empty) == empty == sketch(x[:0], error=0.5)
    before = pickle.loads(pickle.dumps((a, b)))
    assert a.merge(b) == b.merge(a)
    assert (a, b) == before
    assert a.merge(b).select([1]) == b.select([1])  # a saw nothing of it
    with pytest.raises(ValueError, match=r"errors 0.01 and 0.05"):
        a.merge(sketch(x, error=0.05))
    with pytest.raises(ValueError, match="3 and 2 channels"):
        a.merge(b.select([0, 1]))
    with pytest.raises(TypeError, match="cannot merge"):
        a.merge(nc.Extrema.empty(3))


def test_refusals() -> None:
    x = np.zeros((4, 1))
    for weight in (0.5, -1.0, np.nan, 2.0**60):
        with pytest.raises(ValueError, match="takes whole weights"):
            sketch(x, weights=np.full((4, 1), weight))
    for error in (0, 1, -0.1, np.nan, 1e-9, "0.1", None, True):
        with pytest.raises(ValueError, match="error must be a number from 1e-06"):
            sketch(x, error=error)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        sketch(x).quantile(1.5)


def test_state_round_trips() -> None:
    x = np.random.default_rng(0).standard_normal((20_000, 3))
    for found in (sketch(x), sketch(x[:100]), nc.QuantileSketch.empty(3), sketch(x[:, :0])):
        state = found.to_state()
        assert all(array.dtype == np.float64 for array in state.values())
        restored = nc.QuantileSketch.from_state(state)
        assert restored == found
        np.testing.assert_array_equal(restored.quantile(Q), found.quantile(Q))


def _descending(state):
    size = int(state["sizes"][0, np.flatnonzero(state["sizes"][0])[-1]])
    first = int(state["sizes"][0].sum()) - size
    state["values"][first : first + size] = state["values"][first : first + size][::-1].copy()


IMPOSSIBLE = {
    "negative count": (lambda s: s["count"].__isub__(1e6), "not negative"),
    "other count": (lambda s: s["count"].__iadd__(1), "weigh"),
    "negative size": (lambda s: s["sizes"].__setitem__((0, 0), -1), "sizes"),
    "half a value": (lambda s: s["sizes"].__setitem__((0, 0), 0.5), "sizes"),
    "size of NaN": (lambda s: s["sizes"].__setitem__((0, 0), np.nan), "sizes"),
    "more values": (lambda s: s["sizes"].__iadd__(1), "should hold"),
    "absurd sizes": (lambda s: s["sizes"].__imul__(2.0**60), "sizes"),
    "unsorted": (_descending, "not sorted"),
    "NaN": (lambda s: s["values"].__setitem__(5, np.nan), "NaN"),
    "negative infinite": (lambda s: s["infinite"].__isub__(1), "infinite"),
    "infinite of finite": (lambda s: s["infinite"].__iadd__(1), "infinite"),
    "value below the smallest": (lambda s: s["low"].__iadd__(10), "enclose"),
    "negative variance": (lambda s: s["variance"].__isub__(1e9), "variance"),
    "infinite variance": (lambda s: s["variance"].__iadd__(np.inf), "variance"),
    "worse than promised": (lambda s: s["variance"].__iadd__(1e12), "guarantees"),
    "coins": (lambda s: s["coins"].__iadd__(0.5), "coins"),
    "no error": (lambda s: s.update(error=np.array(0.0)), "error must be"),
    "other shapes": (lambda s: s.update(low=s["low"][:1]), "fit together"),
    "missing": (lambda s: s.pop("high"), "lacks 'high'"),
    "too many levels": (lambda s: s.update(sizes=np.zeros((2, 80))), "fit together"),
}


@pytest.mark.parametrize("fault", IMPOSSIBLE)
def test_impossible_states_are_refused(fault) -> None:
    spoil, message = IMPOSSIBLE[fault]
    state = sketch(np.random.default_rng(0).standard_normal((20_000, 2))).to_state()
    state = {name: np.array(value) for name, value in state.items()}
    spoil(state)
    with pytest.raises(ValueError, match=message):
        nc.QuantileSketch.from_state(state)


def test_infinities_must_be_known() -> None:
    state = sketch(np.array([1.0, np.inf])).to_state()
    nc.QuantileSketch.from_state(state)
    for infinite in (0.0, 3.0):
        with pytest.raises(ValueError, match="infinite"):
            nc.QuantileSketch.from_state({**state, "infinite": np.array([infinite])})


def test_pieces_with_nan_alone_and_no_channels() -> None:
    assert observed(iter([]), 0, 0, 100, 0)[0].size == 0
    assert sketch(np.full((5000, 2), np.nan)) == nc.QuantileSketch.empty(2)
    assert sketch(np.empty((10, 0))).quantile([0.5, 1.0]).shape == (2, 0)


def same(one: nc.QuantileSketch, other: nc.QuantileSketch) -> bool:
    """Return whether two sketches have the same bits."""
    mine, its = one.to_state(), other.to_state()
    return all(np.array_equal(mine[name], its[name]) for name in mine)


def test_a_copy_errs_as_its_original_does() -> None:
    """Of data that is seen twice, the error is not that of independent pieces, which is less."""
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.standard_normal(50_000), np.arange(50_000.0), np.zeros(50_000)])
    one, other = sketch(table), sketch(np.column_stack([table[::-1, 0], table[:, 1:]]))
    twice = one.merge(sketch(table))
    np.testing.assert_array_equal(twice.rank_error, one.rank_error)
    np.testing.assert_array_equal(twice.count, 2 * one.count)
    inner = Q[1:-1]
    assert np.abs(twice.quantile(inner) - one.quantile(inner))[:, 1].max() <= 64
    mixed = one.merge(other)  # the first column in another order, the others alike
    assert mixed.rank_error[0] < one.rank_error[0]
    np.testing.assert_array_equal(mixed.rank_error[1:], one.rank_error[1:])
    first = np.array([0])
    assert same(mixed.select(first), one.select(first).merge(other.select(first)))
    thrice = twice.merge(one)
    np.testing.assert_array_equal(thrice.count, 3 * one.count)
    assert (thrice.rank_error >= one.rank_error).all()
    for merged in (twice, mixed, twice.merge(twice)):
        again = nc.QuantileSketch.from_state(merged.to_state())
        assert same(again, merged)


def test_digits_of_weights_err_independently() -> None:
    x = np.random.default_rng(0).standard_normal(20_000)
    weighted = sketch(x, weights=np.full((20_000, 1), 3.0))
    again = sketch(x, weights=np.full((20_000, 1), 3.0))
    assert same(weighted, again)
    assert weighted.count[0] == 60_000
    found = weighted.quantile(Q)[:, 0]
    errors = rank_errors(np.repeat(x, 3), found, Q)
    assert errors.max() <= weighted.rank_error[0] * 60_000 + 3


def test_small_pieces_that_are_alike_stay_exact() -> None:
    x = np.random.default_rng(0).standard_normal(700)
    both = sketch(x).merge(sketch(x))
    assert not both.rank_error.any()
    np.testing.assert_array_equal(both.quantile(Q)[:, 0], np.quantile(np.repeat(x, 2), Q))
