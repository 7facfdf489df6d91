from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from normcore_cpu.backend import CpuBackend
from normcore_cpu.instruction_sets import available

from normcore import get_backend
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import exact_quantiles
from normcore.statistics.brackets import Brackets, Quantiles
from normcore.testing.checks import check_brackets

Q = np.array([0.0, 0.001, 0.25, 0.5, 0.637, 0.75, 0.9999, 1.0])


class Counting:
    """A mixin that counts what is read and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = 0
        self.kept = 0

    def brackets(self, x: Any, lower: Any, upper: Any, **options: Any) -> Any:
        brackets = super().brackets(x, lower, upper, **options)  # type: ignore[misc]
        self.positions += x.shape[0] * x.shape[2]
        self.kept += sum(each.size for row in brackets.inside for each in row)
        return brackets


@pytest.fixture
def counting() -> Any:
    return type("CountingCpu", (Counting, type(get_backend("cpu"))), {})()


@pytest.fixture(params=["reference", *available()])
def backend(request: pytest.FixtureRequest) -> Any:
    """The reference, and every build of the CPU kernels."""
    name = request.param
    return ReferenceBackend() if name == "reference" else CpuBackend(name)


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the road of large data on small data."""
    monkeypatch.setattr(exact_quantiles, "_WHOLE", 1 << 12)
    monkeypatch.setattr(exact_quantiles, "_CHUNK", 1 << 16)


def columns(num_rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(num_rows)
    return {
        "normal": normal,
        "sorted": np.sort(normal),
        "reversed": np.sort(normal)[::-1],
        "constant": np.full(num_rows, 3.5),
        "ties": rng.integers(0, 4, num_rows) * 0.1,
        "80% zeros": normal * (rng.random(num_rows) < 0.2),
        "signed zeros": np.where(rng.random(num_rows) < 0.5, -0.0, 0.0),
        "denormal": rng.integers(-100, 100, num_rows) * 5e-324,
        "huge": normal * 1e307,
        "wide": normal * 10.0 ** rng.integers(-300, 300, num_rows),
        "some NaN": np.where(rng.random(num_rows) < 0.3, np.nan, normal),
        "nearly all NaN": np.where(np.arange(num_rows) == 17, 4.0, np.nan),
        "all NaN": np.full(num_rows, np.nan),
        "one outlier": np.where(np.arange(num_rows) == 3, 1e300, 0.0),
        "two values": (np.arange(num_rows) < num_rows // 2) * 1.0,
    }


def expected(x: np.ndarray, q: np.ndarray = Q) -> np.ndarray:
    """NumPy's definition, channel by channel."""
    by_channel = x.swapaxes(0, 1).reshape(x.shape[1], -1).astype(np.float64)
    values = np.full((q.size, x.shape[1]), np.nan)
    with np.errstate(all="ignore"):
        for channel, column in enumerate(by_channel):
            column = column[~np.isnan(column)]
            if column.size:
                values[:, channel] = np.quantile(column, q)
    return values


@pytest.mark.parametrize("num_rows", [1, 2, 3, 10, 1001])
def test_small_data_to_the_bit(backend: Any, num_rows: int) -> None:
    x = np.stack(list(columns(num_rows).values()), axis=1)[:, :, None]
    got = backend.quantiles(x, Q, skipna=True)
    np.testing.assert_array_equal(got.values, expected(x))
    assert not np.signbit(got.values[got.values == 0]).any()
    np.testing.assert_array_equal(got.count, (~np.isnan(x)).sum(axis=(0, 2)))


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("shape", [(20011, 1), (1, 20011), (141, 142)])
@pytest.mark.parametrize("name", columns(40))
def test_brackets_to_the_bit(backend: Any, name: str, shape: tuple[int, int]) -> None:
    column = columns(shape[0] * shape[1])[name]
    x = np.stack([column, column[::-1], column], axis=1).reshape(shape[0], shape[1], 3)
    x = x.transpose(0, 2, 1)
    got = backend.quantiles(x, Q, skipna=True)
    np.testing.assert_array_equal(got.values, expected(x))


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("num_rows", [3000, 6000])  # all of it is a sample, or not
@pytest.mark.parametrize("order", ["C", "F"])
def test_slabs_of_channels_to_the_bit(
    counting: Any, monkeypatch: pytest.MonkeyPatch, num_rows: int, order: str
) -> None:
    x = np.random.default_rng(3).standard_normal((num_rows, 40))
    x[::7, 5], x[3, 39] = np.nan, np.inf
    x = np.asarray(x, order=order)[:, :, None]
    whole = counting.quantiles(x, Q, skipna=True)
    passes = counting.positions
    monkeypatch.setattr(exact_quantiles, "_SMALL", 1)
    monkeypatch.setattr(exact_quantiles, "_WIDE", 4)
    # 40 channels in slabs of 16 are three, and three reads for each one.
    assert len(list(exact_quantiles._slabs(num_rows, 40, num_rows))) == 3
    got = counting.quantiles(x, Q, skipna=True)
    for name in ("values", "count", "infinite"):
        np.testing.assert_array_equal(getattr(got, name), getattr(whole, name))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got.values[:, :39], expected(x[:, :39]))
    assert (passes > 0) == (num_rows > exact_quantiles._WHOLE)
    assert counting.positions - passes == 3 * passes


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_large_data_to_the_bit(backend: Any, dtype: str) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((200_003, 3, 1)) * 1e3).astype(dtype)
    np.testing.assert_array_equal(backend.quantiles(x, Q).values, expected(x))


def test_one_pass_keeps_little(counting: Any) -> None:
    x = np.random.default_rng(2).standard_normal((400_000, 1, 1))
    counting.quantiles(x, [0.25, 0.5, 0.75])
    assert counting.positions == x.size
    assert counting.kept < 3 * 1.1 * 9 * 0.5 * exact_quantiles._sample_size(x.size) ** -0.5 * x.size


@pytest.mark.parametrize("attempts", [1, 2])
def test_sample_that_misleads_costs_passes_only(counting: Any, attempts: int) -> None:
    column = np.random.default_rng(3).standard_normal(300_000)
    for attempt in range(attempts):
        column[exact_quantiles._sample(300_000, attempt)] = 1e6 + attempt
    x, q = column[:, None, None], np.array([0.25, 0.5])
    np.testing.assert_array_equal(counting.quantiles(x, q).values, expected(x, q))
    passes = counting.positions / x.size
    # One pass for each sample; where two mislead, the search on the bits.
    assert passes == 2 if attempts == 1 else 2 < passes <= 2 + 18


def test_bracket_that_holds_everything_costs_passes_only(counting: Any) -> None:
    rng = np.random.default_rng(4)
    column = np.sort(rng.random(400_000))
    for attempt in range(2):
        sample = exact_quantiles._sample(400_000, attempt)
        column[sample] = rng.choice([-1.0, 2.0], sample.size)
    x, q = column[:, None, None], np.array([0.5])
    np.testing.assert_array_equal(counting.quantiles(x, q).values, expected(x, q))
    assert 2 < counting.positions / x.size <= 2 + 18


def test_what_a_bracket_keeps_is_dropped_beyond_the_limit(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_quantiles, "_CHUNK", 1 << 15)
    monkeypatch.setattr(exact_quantiles, "_KEPT", 1 << 14)
    x = np.random.default_rng(5).standard_normal((200_000, 1, 1))
    lower, upper = np.array([[-np.inf], [0.0]]), np.array([[np.inf], [0.01]])
    seen = exact_quantiles._observe(backend, x, lower, upper, False)
    assert seen.dropped.tolist() == [[True], [False]]
    assert not seen.pieces[0][0]
    assert seen.inside_count[0, 0] == 200_000  # what was dropped is counted all the same
    kept = np.concatenate(seen.pieces[1][0])
    np.testing.assert_array_equal(np.sort(kept), np.sort(x[(x > 0) & (x < 0.01)]))


def test_memory_is_bounded(backend: Any) -> None:
    x = np.random.default_rng(5).standard_normal((1_000_000, 6, 1)).astype(np.float32)
    tracemalloc.start()
    try:
        backend.quantiles(x, [0.25, 0.5, 0.75])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * x.nbytes


# -- NaN, infinity, weights ----------------------------------------------------------------


@pytest.mark.parametrize("num_rows", [100, 150_000])
def test_nan_wins_unless_skipped(backend: Any, num_rows: int) -> None:
    x = np.random.default_rng(6).standard_normal((num_rows, 2, 1))
    x[num_rows // 2, 0] = np.nan
    got = backend.quantiles(x, Q)
    assert np.isnan(got.values[:, 0]).all()
    assert np.isnan(got.count[0])
    np.testing.assert_array_equal(got.values[:, 1], expected(x)[:, 1])


@pytest.mark.parametrize("num_rows", [100, 150_000])
def test_infinite_values_are_counted_and_ordered(backend: Any, num_rows: int) -> None:
    x = np.random.default_rng(7).standard_normal((num_rows, 1, 1))
    x[: num_rows // 10] = -np.inf
    x[-1] = np.inf
    got = backend.quantiles(x, [0.0, 0.05, 0.5, 1.0])
    assert got.infinite[0] == num_rows // 10 + 1
    values = got.values[:, 0]
    assert list(values[[0, 1, 3]]) == [-np.inf, -np.inf, np.inf]
    assert values[2] == np.quantile(x, 0.5)


@pytest.mark.parametrize("num_rows", [1, 2, 50, 1000, 150_000])
@pytest.mark.parametrize("kind", ["whole", "zeros", "one heavy"])
def test_weights_as_numpy_defines_them(num_rows: int, kind: str) -> None:
    backend = get_backend("cpu" if num_rows > 1000 else "reference")
    rng = np.random.default_rng(8)
    x = rng.standard_normal((num_rows, 2, 1))
    x[:, 1] = np.round(x[:, 1])
    weights = rng.integers(1 if kind == "whole" else 0, 5, num_rows) * 1.0
    weights[0] = 1e6 if kind == "one heavy" else 1.0
    got = backend.quantiles(x, Q, weights=weights[:, None])
    some = weights > 0  # NumPy 2.0 takes the least value even where it weighs nothing
    want = np.quantile(x[some, :, 0], Q, axis=0, weights=weights[some], method="inverted_cdf")
    np.testing.assert_array_equal(got.values, want)
    np.testing.assert_array_equal(got.count, weights.sum())


def test_nothing_that_weighs() -> None:
    got = ReferenceBackend().quantiles(np.ones((4, 1, 1)), [0.5], weights=np.zeros((4, 1)))
    assert np.isnan(got.values[0, 0])
    assert got.count[0] == 0


@pytest.mark.parametrize("shape", [(0, 3, 1), (4, 3, 0), (4, 0, 2)])
def test_empty(backend: Any, shape: tuple[int, int, int]) -> None:
    got = backend.quantiles(np.ones(shape), [0.25, 0.5])
    assert got.values.shape == (2, shape[1])
    assert np.isnan(got.values).all()
    assert not got.count.any()


@pytest.mark.parametrize("q", [[-0.1], [1.5], [np.nan], [], [[0.5]]])
def test_ranks_outside_are_refused(q: Any) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ReferenceBackend().quantiles(np.ones((4, 1, 1)), q)


def test_keys_keep_the_order_of_numbers() -> None:
    numbers = np.array([-np.inf, -1e300, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1e300, np.inf])
    keys = exact_quantiles._key(numbers)
    assert np.all(keys[:-1] < keys[1:])
    np.testing.assert_array_equal(exact_quantiles._from_key(keys), numbers)


# -- the statistics ------------------------------------------------------------------------


def brackets_of(x: np.ndarray, weights: np.ndarray | None = None) -> Brackets:
    ends = np.full((2, x.shape[1]), -0.5), np.full((2, x.shape[1]), 0.5)
    return ReferenceBackend().brackets(x, *ends, weights=weights, skipna=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_brackets_merge_select_and_come_back(weighted: bool) -> None:
    rng = np.random.default_rng(10)
    x = np.round(rng.standard_normal((90, 3, 2)), 1)
    weights = rng.integers(0, 3, (90, 2)) * 1.0 if weighted else None
    planes = [None] * 3 if weights is None else np.split(weights, 3)
    parts = [brackets_of(*each) for each in zip(np.split(x, 3), planes, strict=True)]
    whole = brackets_of(x, weights)
    check_brackets(Brackets.merge_all(parts), whole)
    check_brackets(parts[2].merge(parts[0]).merge(parts[1]), whole)
    check_brackets(Brackets.empty(3).merge(whole), whole)
    check_brackets(whole.merge(Brackets.empty(3)), whole)
    check_brackets(Brackets.from_state(whole.to_state()), whole)
    check_brackets(whole.select([2, 0]), brackets_of(x[:, [2, 0]], weights))
    check_brackets(whole.select(slice(1, None)), brackets_of(x[:, 1:], weights))


def test_brackets_of_other_ends_do_not_merge() -> None:
    x = np.ones((3, 1, 1))
    one = ReferenceBackend().brackets(x, np.zeros((1, 1)), np.ones((1, 1)))
    other = ReferenceBackend().brackets(x, np.zeros((1, 1)), np.full((1, 1), 2.0))
    with pytest.raises(ValueError, match="ends"):
        one.merge(other)
    with pytest.raises(ValueError, match="channels"):
        one.merge(brackets_of(np.ones((3, 2, 1))))
    with pytest.raises(ValueError, match="lacks 'lower'"):
        Brackets.from_state({})


def test_quantiles_remember_no_data() -> None:
    some = ReferenceBackend().quantiles(np.arange(6.0).reshape(3, 2, 1), [0.5])
    again = Quantiles.from_state(some.to_state())
    assert again == some
    assert some.merge(Quantiles.empty(2)) is some
    assert Quantiles.empty(2).merge(some) is some
    np.testing.assert_array_equal(some.select([1]).values, [[3.0]])
    with pytest.raises(ValueError, match="sketch"):
        some.merge(again)
    with pytest.raises(ValueError, match="fit together"):
        Quantiles.from_state({**some.to_state(), "count": np.zeros(5)})
