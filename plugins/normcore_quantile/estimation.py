"""Landmarks of features: quantiles at many ranks, by sorting; and which rows they are taken of."""

from __future__ import annotations

import numpy as np

import normcore as nc

__all__ = ["as_random_state", "quantiles_of_columns", "quantiles_of_sorted", "some_positions"]


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


def quantiles_of_columns(columns: np.ndarray, q: np.ndarray) -> nc.Quantiles:
    """Return the exact quantiles of each column of a table, NaN left out.

    Parameters
    ----------
    columns : array of real numbers, of shape (n, C)
    q : float64 array of shape (R,)
        Ascending, in [0, 1].
    """
    num_columns = columns.shape[1]
    values = np.full((num_columns, q.size), np.nan)
    count, infinite = np.zeros(num_columns), np.zeros(num_columns)

    def work(start: int, stop: int) -> None:
        for column in range(start, stop):
            ordered = np.array(columns[:, column], order="C")
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
    last = ordered.size + num_zeros - 1
    if last < 0:
        return np.zeros(q.size)
    below = int(np.searchsorted(ordered, 0.0)) if num_zeros else 0
    # In percent and back, as scikit-learn does: where data are tied, an interpolation that this
    # rounding makes a little more or less than the tie counts.
    rank = q * 100.0 / 100.0 * last
    first = np.minimum(np.floor(rank), last).astype(np.intp)
    low = _at(ordered, below, num_zeros, first)
    high = _at(ordered, below, num_zeros, np.minimum(first + 1, last))
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
