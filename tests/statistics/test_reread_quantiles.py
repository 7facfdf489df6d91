"""Exact quantiles by several passes: the bits of those in memory, whatever the brackets."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import reread_quantiles
from normcore.statistics.kept_brackets import KeptBrackets
from normcore.statistics.reread_quantiles import (
    MOST_LOOKS,
    RereadQuantiles,
    ValuesChanged,
    sampled_rows,
    sampling_stride,
)

Q = np.array([0.0, 0.001, 0.25, 0.5, 0.637, 0.75, 0.9999, 1.0])


def columns(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(n)
    X = np.stack(
        [
            np.sort(normal),
            np.exp(50 * normal),
            np.where(rng.random(n) < 0.8, 0.0, normal),
            rng.integers(0, 4, n) * 1.0,
            np.full(n, 3.0),
            np.where(rng.random(n) < 0.3, np.nan, normal),
            np.full(n, np.nan),
            np.where(np.arange(n) < 5, normal, np.nan),
            np.where(rng.random(n) < 0.5, -0.0, 0.0),
            rng.standard_cauchy(n).astype(np.float32),
        ],
        axis=1,
    )
    return X


def passes(
    X: np.ndarray, *, error: float, max_values: int, backend=None, wire=False
) -> tuple[int, nc.Quantiles]:
    """Return how often the data was read, and its quantiles.

    Over the wire, each part is observed by itself, and states merge in a tree.
    """
    backend = backend or nc.get_backend("cpu")
    parts = np.array_split(X, 7)
    sketch = nc.QuantileSketch.empty(X.shape[1], error=error)
    for part in parts:
        observed = nc.QuantileSketch.observe(backend, part[:, :, None], skipna=True, error=error)
        sketch = sketch.merge(observed)
    found = RereadQuantiles(backend, Q, sketch, max_values)
    number = 1
    while (plan := found.plan()) is not None:
        seen = [KeptBrackets(plan) for _ in parts] if wire else [KeptBrackets(plan)] * len(parts)
        for one, part in zip(seen, parts, strict=True):
            one.observe(backend, part[:, :, None])
        while wire and len(seen) > 1:
            states = [each.to_state() for each in seen]
            assert all(
                sum(a.size for name, a in state.items() if name in ("inside", "sketch_values"))
                <= 2 * max_values + 700
                for state in states
            )
            seen = []
            for i in range(0, len(states), 3):
                pair = states[i : i + 3]
                merged = KeptBrackets.from_state(plan, pair[0])
                for other in pair[1:]:
                    merged.merge(KeptBrackets.from_state(plan, other))
                seen.append(merged)
        found.learn(seen[0])
        number += 1
        assert number < 200
    return number, found.quantiles()


def assert_exact(found: nc.Quantiles, X: np.ndarray) -> None:
    expected = nc.get_backend("cpu").quantiles(X[:, :, None], Q, skipna=True)
    assert found == expected
    assert not np.signbit(found.values[:, 8]).any()


@pytest.mark.parametrize("n", [1, 100, 3000, 30_000])
def test_the_bits_are_those_of_memory(n) -> None:
    X = columns(n)
    number, found = passes(X, error=0.01, max_values=10**6)
    assert number == (1 if n < 3072 else 2)
    assert_exact(found, X)


def test_brackets_take_turns_where_memory_is_small() -> None:
    X = columns(30_000)
    number, found = passes(X, error=0.01, max_values=3000)
    assert 3 < number < 40
    assert_exact(found, X)
    assert passes(X, error=0.001, max_values=3000)[0] < number


def test_the_reference_finds_the_same() -> None:
    X = columns(8000)
    assert_exact(passes(X, error=0.05, max_values=10**6, backend=ReferenceBackend())[1], X)


def test_ranks_outside_their_brackets_get_wider_ones(monkeypatch) -> None:
    monkeypatch.setattr(
        nc.QuantileSketch, "rank_error", property(lambda self: np.full(self.num_channels, 1e-9))
    )
    X = columns(30_000)
    number, found = passes(X, error=0.2, max_values=10**6)
    assert number > 4
    assert_exact(found, X)


def test_brackets_that_keep_more_than_expected_are_read_again(monkeypatch) -> None:
    monkeypatch.setattr(reread_quantiles, "_KEPT_ERRORS", 0.01)
    X = columns(30_000)
    number, found = passes(X, error=0.05, max_values=300)
    assert number > 2
    assert_exact(found, X)


@pytest.mark.parametrize("wire", [False, True])
@pytest.mark.parametrize(("error", "max_values"), [(0.2, 50), (0.05, 500), (0.01, 5000)])
def test_brackets_that_hold_too_much_are_narrowed(error, max_values, wire) -> None:
    X = columns(30_000)
    number, found = passes(X, error=error, max_values=max_values, wire=wire)
    assert number > 2
    assert_exact(found, X)


def test_few_values_are_kept_of_many(monkeypatch) -> None:
    """Each pass narrows what is left by the error of a sketch."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((300_000, 1))
    number, found = passes(X, error=0.05, max_values=4000)
    assert number <= 4
    assert found == nc.get_backend("cpu").quantiles(X[:, :, None], Q)


@pytest.mark.parametrize("n", [100, 30_000])
def test_pieces_over_the_wire(n) -> None:
    X = columns(n)
    assert_exact(passes(X, error=0.01, max_values=10**6, wire=True)[1], X)


def test_other_values_in_another_pass() -> None:
    backend = nc.get_backend("cpu")
    X = np.random.default_rng(0).standard_normal((30_000, 2))
    sketch = nc.QuantileSketch.observe(backend, X[:, :, None], skipna=True)
    found = RereadQuantiles(backend, Q, sketch, 10**6)
    seen = KeptBrackets(found.plan())
    X[5, 1] = np.nan
    seen.observe(backend, X[:, :, None])
    with pytest.raises(ValuesChanged, match="column 1 had 30,000 values and has 29,999 when it"):
        found.learn(seen)


def test_values_that_drift_between_passes() -> None:
    backend = nc.get_backend("cpu")
    X = np.random.default_rng(0).standard_normal((4000, 1))
    sketch = nc.QuantileSketch.observe(backend, X[:, :, None], skipna=True, error=0.05)
    found = RereadQuantiles(backend, Q, sketch, 100)

    def read() -> None:
        for number in range(len(Q) * (MOST_LOOKS + 1)):
            plan = found.plan()
            assert plan is not None
            seen = KeptBrackets(plan)
            seen.observe(backend, X[:, :, None] + 100.0 * number)
            found.learn(seen)

    with pytest.raises(ValuesChanged, match="column 0 holds other values when it is read again"):
        read()


@pytest.mark.parametrize("stride", [4, 64, 1000])
@pytest.mark.parametrize("max_values", [10**6, 3000])
def test_a_sample_is_looked_at_first(stride, max_values) -> None:
    """Also where it misses columns of few values, or is misled."""
    X = columns(30_000)
    X[:, 0] = np.where(np.arange(30_000) % 16 == 0, 1e6, X[:, 0])
    backend = nc.get_backend("cpu")
    some = sampled_rows(X, stride)
    assert abs(len(some) - 30_000 / stride) <= 1
    sketch = nc.QuantileSketch.observe(backend, some[:, :, None], skipna=True)
    count = (~np.isnan(X)).sum(axis=0) * 1.0
    found = RereadQuantiles(backend, Q, sketch, max_values, count)
    while (plan := found.plan()) is not None:
        seen = KeptBrackets(plan)
        seen.observe(backend, X[:, :, None])
        found.learn(seen)
    assert_exact(found.quantiles(), X)


def test_strides_leave_enough_rows() -> None:
    assert [sampling_stride(n) for n in (None, 100, 500_000, 2**19, 2**21)] == [1, 1, 1, 2, 8]
    assert sampling_stride(20_000_000) == 64
    assert sampling_stride(10**12) == 64
