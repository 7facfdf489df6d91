"""Values taken by position and found by rank: each build of the kernels against sorting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from normcore_cpu.backend import CpuBackend
from normcore_cpu.instruction_sets import available, kernels

from normcore import get_backend, use_num_threads
from normcore.statistics.rank_selection import NumpyRankSelection, RankSelection

BUILDS: dict[str, RankSelection] = {name: kernels(name) for name in available()}
BUILDS["host"] = NumpyRankSelection(get_backend("cpu"))
FEW = 128  # of sift.h


@pytest.fixture(params=BUILDS)
def selection(request: pytest.FixtureRequest) -> RankSelection:
    return BUILDS[request.param]


def rows(num_values: int, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(num_values)
    normal = rng.standard_normal(num_values)
    sign = rng.choice([-1.0, 1.0], num_values)
    return np.stack(
        [
            normal,
            np.sort(normal),
            np.sort(normal)[::-1],
            np.full(num_values, 3.5),
            np.round(normal),
            normal * (rng.random(num_values) < 0.2),
            sign * 0.0,
            sign * np.where(rng.random(num_values) < 0.4, np.inf, normal),
            np.where(rng.random(num_values) < 0.3, np.nan, normal),
            np.full(num_values, np.nan),
            normal * 5e-324 if dtype == "float64" else normal * 1e-45,
            np.arange(num_values) % 7 * 1.0,
        ]
    ).astype(dtype)


def check(selection: RankSelection, values: np.ndarray, *ranks: np.ndarray) -> None:
    """Compare with what stands at these ranks in sorted rows."""
    ordered = np.sort(values, axis=1)
    counts = (~np.isnan(values)).sum(axis=1)
    given = values.copy()
    found_counts, infinite = selection.count_numbers(given)
    np.testing.assert_array_equal(found_counts, counts)
    np.testing.assert_array_equal(infinite, np.isinf(values).sum(axis=1))
    first, second = (np.minimum(each, np.maximum(counts - 1, 0)) for each in ranks)
    found = selection.values_at_ranks(given, found_counts, *ranks)
    for got, rank in zip(found, (first, second), strict=True):
        want = np.take_along_axis(ordered.T, rank, axis=0).astype(np.float64)
        np.testing.assert_array_equal(got, np.where(counts > 0, want, np.nan))
    lists = [
        np.array_split(row[: int(count)], i % 4 + 1)
        for i, (row, count) in enumerate(zip(given, counts, strict=True))
    ]
    np.testing.assert_array_equal(
        selection.values_at_ranks_of_lists(lists, ranks[0][0], ranks[1][0]), found[:, 0]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("num_values", [1, 2, 15, FEW, FEW + 1, 3 * FEW, 5003, 40_000])
def test_ranks_of_rows(selection: RankSelection, num_values: int, dtype: str) -> None:
    values = rows(num_values, dtype)
    share = np.array([0.0, 0.001, 0.25, 0.5, 0.9, 1.0])[:, None]
    first = np.floor(share * (num_values - 1)).astype(int) * np.ones(len(values), int)
    for apart in (0, 1, 2, num_values // 30, num_values):  # and beyond the last
        check(selection, values, first, first + apart)


@given(
    values=hnp.arrays(
        st.sampled_from(["float32", "float64"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=300),
        elements=st.floats(width=32),
    ),
    data=st.data(),
)
@pytest.mark.parametrize("name", BUILDS)
def test_ranks_of_anything(name: str, values: np.ndarray, data: Any) -> None:
    ranks = [data.draw(st.integers(0, values.shape[1])) for _ in range(2)]
    check(BUILDS[name], values, *(np.full((1, len(values)), each) for each in sorted(ranks)))


def picked(count: int, rounds: int) -> np.ndarray:
    """Return where the first rounds of selection look for a guess."""
    state, found = 0x9E3779B97F4A7C15, []
    for _ in range(rounds * FEW):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        found.append((state >> 33) * count >> 31)
    return np.array(found)


@pytest.mark.parametrize("rounds", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_guesses_that_mislead(selection: RankSelection, rounds: int, dtype: str) -> None:
    values = np.random.default_rng(0).standard_normal((1, 20_000)).astype(dtype)
    values[:, picked(20_000, rounds)] = 1e6
    for rank in (0, 5000, 10_000, 19_999):
        check(selection, values, np.full((1, 1), rank), np.full((1, 1), rank + 1))
        check(selection, values, np.full((1, 1), rank), np.full((1, 1), rank + 400))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
@pytest.mark.parametrize("layout", ["C", "F", "NCS", "strided", "reversed"])
def test_columns_by_position(selection: RankSelection, layout: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((331, 5, 7)) * 50).astype(dtype)
    if layout in "CF":
        x = np.asarray(x.reshape(-1, 35), order=layout)[:, :, None]
    elif layout == "strided":
        x = np.repeat(x, 2, axis=1)[:, ::2]
    elif layout == "reversed":
        x = x[::-1, :, ::-1]
    wide = np.float32 if dtype == "float32" else np.float64
    want = x.transpose(1, 0, 2).reshape(x.shape[1], -1).astype(wide)
    got = selection.channel_values(x)
    assert got.dtype == wide
    assert not np.shares_memory(got, x)
    np.testing.assert_array_equal(got, want)
    taken = np.sort(rng.integers(want.shape[1], size=100))
    np.testing.assert_array_equal(selection.channel_values(x, taken), want[:, taken])


def test_any_number_of_threads_selects_the_same() -> None:
    x = np.random.default_rng(2).standard_normal((70_000, 33, 1)).astype(np.float32)
    results = []
    for number in (1, 2, 5):
        with use_num_threads(number):
            results += [CpuBackend(name).quantiles(x, [0.1, 0.5]).values for name in available()]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("name", available())
def test_ends_that_float32_cannot_hold(name: str) -> None:
    """Bounds between two float32, beyond the largest, and subnormal."""
    tiny, largest = np.float32(1e-45), np.finfo(np.float32).max
    values = np.array([-np.inf, -largest, -1, -tiny, -0.0, 0, tiny, 0.1, 1, largest, np.inf])
    x = np.repeat(values.astype(np.float32), 40)[:, None, None]
    numbers = x[:, 0, 0].astype(np.float64)
    ends = np.array([-np.inf, -1e300, -1 - 1e-12, -1e-46, 0.0, 1e-46, 0.1, 1.0, 1e39, np.inf])
    lower, upper = (each[:, None] for each in np.array([(a, b) for a in ends for b in ends]).T)
    keep = lower <= upper
    lower, upper = lower[keep][:, None], upper[keep][:, None]
    got = CpuBackend(name).brackets(x, lower, upper)
    inside = (lower < numbers) & (numbers < upper)
    for count, where in (
        (got.below, numbers < lower),
        (got.equal_lower, numbers == lower),
        (got.inside_count, inside),
        (got.equal_upper, (numbers == upper) & (lower < upper)),
    ):
        np.testing.assert_array_equal(count[:, 0], where.sum(axis=1))
    for (kept,), where in zip(got.inside, inside, strict=True):
        np.testing.assert_array_equal(np.sort(kept), np.sort(numbers[where]))
