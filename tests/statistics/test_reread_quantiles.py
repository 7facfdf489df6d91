"""Exact quantiles by several passes: the bits of those in memory, whatever the brackets."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import reread_quantiles
from normcore.statistics.reread_quantiles import RereadQuantiles, TooMuchKept

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
    X: np.ndarray, *, error: float, max_values: int, backend=None
) -> tuple[int, nc.Quantiles]:
    backend = backend or nc.get_backend("cpu")
    found = RereadQuantiles(backend, Q, X.shape[1], error, max_values)
    parts = np.array_split(X, 7)
    for part in parts:
        found.sketch(part[:, :, None])
    number = 1
    while found.begin():
        for part in parts:
            found.observe(part[:, :, None])
        found.end()
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
    number, found = passes(X, error=0.01, max_values=3000)
    assert number > 2
    assert_exact(found, X)


def test_a_bracket_that_never_fits() -> None:
    with pytest.raises(TooMuchKept):
        passes(columns(30_000), error=0.2, max_values=50)
