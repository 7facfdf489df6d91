"""Landmarks of features: quantiles at many ranks, by sorting; and which rows they are taken of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import normcore as nc

__all__ = [
    "are_whole",
    "as_random_state",
    "columns_of",
    "num_samples",
    "quantiles_of_columns",
    "quantiles_of_sorted",
    "some_positions",
    "taken",
    "weighted_quantiles",
]

# Of a sum of weights, as the cumulated ones may fall short of what they are exactly.
ROUNDING = 2.0**-44


def as_random_state(seed: object) -> np.random.RandomState:
    """Return NumPy's legacy generator of a seed, as scikit-learn's ``random_state`` is read.

    Raises
    ------
    ValueError
        If the seed is none.
    """
    if seed is None or seed is np.random:
        shared: np.random.RandomState = np.random.mtrand._rand
        return shared
    if isinstance(seed, np.random.RandomState):
        return seed
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        if 0 <= seed < 2**32:
            return np.random.RandomState(int(seed))
        raise ValueError(f"random_state must be in [0, 2**32 - 1], got {seed!r}")
    raise ValueError(
        f"{seed!r} cannot be used to seed a numpy.random.RandomState instance: random_state must "
        "be an integer, a RandomState or None"
    )


def some_positions(number: int, of: int, generator: np.random.RandomState) -> np.ndarray:
    """Return distinct positions at random, those that scikit-learn takes as a subsample."""
    positions = np.arange(of)
    generator.shuffle(positions)
    return positions[:number]


def quantiles_of_columns(
    columns: np.ndarray, q: np.ndarray, weights: np.ndarray | None = None
) -> nc.Quantiles:
    """Return the exact quantiles of each column of a table, NaN left out.

    Parameters
    ----------
    columns : array of real numbers, of shape (n, C)
    q : float64 array of shape (R,)
        Ascending, in [0, 1].
    weights : float64 array of shape (n,), optional
        As of :func:`weighted_quantiles`.
    """
    num_columns = columns.shape[1]
    values = np.full((num_columns, q.size), np.nan)
    count, infinite = np.zeros(num_columns), np.zeros(num_columns)
    repeats = weights is not None and are_whole(weights)

    def work(start: int, stop: int) -> None:
        for column in range(start, stop):
            given = columns[:, column]
            if weights is not None:
                infinite[column] = np.isinf(given.astype(np.float64)).any()
                values[column], count[column] = weighted_quantiles(given, weights, repeats, q)
                continue
            ordered = np.array(given, order="C")
            ordered.sort()  # NaN to the end
            if ordered.dtype.kind == "f":
                ordered = ordered[: ordered.size - int(np.isnan(ordered).sum())]
            count[column] = ordered.size
            if ordered.size:
                infinite[column] = np.isinf(ordered[[0, -1]].astype(np.float64)).any()
                values[column] = quantiles_of_sorted(ordered, 0, q)

    nc.parallel_for(work, num_columns)
    return nc.Quantiles(q, values.T, count, infinite)


def quantiles_of_sorted(ordered: np.ndarray, num_zeros: int, q: np.ndarray) -> np.ndarray:
    """Return quantiles, by NumPy's ``linear`` definition, of sorted numbers and so many zeros."""
    number = ordered.size + num_zeros
    if not number:
        return np.zeros(q.size)
    below = int(np.searchsorted(ordered, 0.0)) if num_zeros else 0
    return _between_ranks(partial(_at, ordered, below, num_zeros), number, q)


def weighted_quantiles(
    values: np.ndarray, weights: np.ndarray, repeats: bool, q: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return quantiles of weighted numbers, NaN left out, and the sum of the weights.

    Parameters
    ----------
    values : array of real numbers
    weights : float64 array
        Positive.
    repeats : bool
        Whether weights are whole numbers, which repeat values, so that quantiles are those of
        NumPy's ``linear`` definition. With others, a quantile is the first value at which the
        cumulated weight reaches it, ``inverted_cdf``.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    size = ordered.size
    if ordered.dtype.kind == "f":
        size -= int(np.isnan(ordered).sum())
    if not size:
        return np.full(q.size, np.nan), 0.0
    cumulated = np.cumsum(weights[order[:size]])
    total = float(cumulated[-1])

    def at(rank: np.ndarray) -> np.ndarray:
        found: np.ndarray = ordered[np.searchsorted(cumulated, rank, side="right")]
        return found.astype(np.float64)

    if repeats:
        return _between_ranks(at, total, q), total
    place = np.searchsorted(cumulated / total, q * (1.0 - ROUNDING), side="left")
    return ordered[place].astype(np.float64) + 0.0, total


def are_whole(weights: np.ndarray) -> bool:
    """Whether weights are whole numbers, with a sum that is exact."""
    return bool(weights.sum() < 2.0**53 and (weights == np.floor(weights)).all())


def _between_ranks(
    at: Callable[[np.ndarray], np.ndarray], number: float, q: np.ndarray
) -> np.ndarray:
    """Return quantiles of so many numbers, of which a function tells those at some ranks."""
    last = number - 1
    # In percent and back, as scikit-learn does: where data are tied, an interpolation that this
    # rounding makes a little more or less than the tie counts.
    rank = q * 100.0 / 100.0 * last
    first = np.minimum(np.floor(rank), last).astype(np.intp)
    low, high = at(first), at(np.minimum(first + 1, int(last)))
    share = rank - first
    with np.errstate(over="ignore", invalid="ignore"):
        gap = high - low
        found = np.where(share < 0.5, low + gap * share, high - gap * (1.0 - share))
        wide = low * (1.0 - share) + high * share
    found = np.where(np.isfinite(gap), found, wide)
    # Rounding may turn the order of two quantiles around, which those between would then follow.
    return np.maximum.accumulate(np.where(low == high, low, found)) + 0.0


def _at(ordered: np.ndarray, below: int, num_zeros: int, rank: np.ndarray) -> np.ndarray:
    """Return what stands at ranks of sorted numbers with zeros put in."""
    if not num_zeros:
        return ordered[rank].astype(np.float64)
    place = np.where(rank < below, rank, rank - num_zeros)
    is_zero = (rank >= below) & (rank < below + num_zeros)
    if not ordered.size:
        return np.zeros(rank.shape)
    place = np.clip(place, 0, ordered.size - 1)
    return np.where(is_zero, 0.0, ordered[place].astype(np.float64))


def columns_of(x: np.ndarray) -> np.ndarray:
    """Return an ``(N, C, S)`` view as a table."""
    return x.transpose(0, 2, 1).reshape(-1, x.shape[1])


def num_samples(weights: np.ndarray) -> int:
    """Return for how many samples weights stand: repeated ones, where they are whole."""
    return int(weights.sum() if are_whole(weights) else (weights > 0).sum())


def taken(x: Any, positions: np.ndarray) -> Any:
    """Return some positions of an ``(N, C, S)`` view, as a view of so many samples."""
    row, inner = np.divmod(positions, x.shape[2])
    if isinstance(x, np.ndarray):
        return x[row, :, inner][:, :, None]
    xp = x.__array_namespace__()
    channel = xp.arange(x.shape[1])[None, :]
    return x[xp.asarray(row)[:, None], channel, xp.asarray(inner)[:, None]][:, :, None]
