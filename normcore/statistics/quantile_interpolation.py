"""Which values a quantile is made of: NumPy's ``linear`` and, with weights, its ``inverted_cdf``.

Whole weights may also stand for repetitions: then it is the ``linear`` of what is repeated.

A rule says so for each way to look at data: all of it, a sample of it, brackets, and counts of
what is at most some pivots.

References
----------
R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American Statistician
50 (1996): ``linear`` is type 7, and ``inverted_cdf`` type 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.rank_selection import RankSelection

__all__ = [
    "InvertedCDF",
    "LinearInterpolation",
    "ObservedBrackets",
    "RepeatedInterpolation",
    "as_quantiles",
    "interpolated",
    "neighbours",
]

_ROUNDING = 2.0**-44

Found = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ObservedBrackets:
    """Brackets of all the data; what lies inside in pieces, values or pairs with their weights."""

    lower: np.ndarray
    upper: np.ndarray
    below: np.ndarray
    equal_lower: np.ndarray
    inside_count: np.ndarray
    equal_upper: np.ndarray
    count: np.ndarray
    infinite: np.ndarray
    pieces: list[list[list[Array]]]
    dropped: np.ndarray


class _BetweenNeighbours:
    """What a quantile is made of where it lies between two values."""

    num_targets = 2  # order statistics that a quantile is made of

    def reaches_targets(
        self, cumulated: np.ndarray, total: np.ndarray, q: np.ndarray
    ) -> np.ndarray:
        """Whether counts (R, targets, pivots) of what is at most a pivot include the targets."""
        return _include_neighbours(cumulated, total, q)

    def quantiles_of(self, values: np.ndarray, total: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return the quantiles that values (R, targets) make."""
        return interpolated(values[:, 0], values[:, 1], q, total)


class LinearInterpolation(_BetweenNeighbours):
    """Interpolation between the values around a rank, all of one weight (type 7)."""

    def __init__(self, selection: RankSelection) -> None:
        self._selection = selection

    def quantiles_of_all(self, x: Array, q: np.ndarray, skipna: bool) -> Found:
        """Return the quantiles, the count and the infinite values of each channel."""
        values = self._selection.channel_values(x)
        count, infinite = self._selection.count_numbers(values)
        first, second, t = neighbours(q[:, None], count)
        a, b = self._selection.values_at_ranks(values, count, first, second)
        found = _interpolate(a, b, t)
        if not skipna:
            absent = count < values.shape[1]
            found[:, absent] = count[absent] = np.nan
        return found, count, infinite

    def bracket_ends(
        self, x: Array, q: np.ndarray, taken: np.ndarray, errors: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ends of brackets (R, C) some standard errors to either side of the quantiles.

        A few ranks are added for quantiles near an end, where the error is far from normal.
        """
        values = self._selection.channel_values(x, taken)
        count, _ = self._selection.count_numbers(values)
        middle = q[:, None] * count
        reach = errors * np.sqrt(middle * (1.0 - q[:, None])) + 6.0
        low, high = np.floor(middle - reach), np.ceil(middle + reach)
        lower, upper = self._selection.values_at_ranks(values, count, low, high)
        return np.where(low >= 0, lower, -np.inf), np.where(high < count, upper, np.inf)

    def quantiles_in_brackets(
        self, seen: ObservedBrackets, q: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return quantiles (R, C), and which of the wanted ones are those."""
        first, second, t = neighbours(q[:, None], np.nan_to_num(seen.count))
        edge = seen.below + seen.equal_lower
        end = edge + seen.inside_count
        found = wanted & (first >= seen.below) & (second < end + seen.equal_upper)
        inside = found & (first < end) & (second >= edge)
        found &= ~(inside & seen.dropped)
        inside &= found
        kept = np.full((2, *inside.shape), np.nan)
        kept[:, inside] = self._selection.values_at_ranks_of_lists(
            [seen.pieces[rank][channel] for rank, channel in np.argwhere(inside)],
            (first - edge)[inside],
            (second - edge)[inside],
        )
        a, b = (
            np.where(rank < edge, seen.lower, np.where(rank < end, values, seen.upper))
            for rank, values in zip((first, second), kept, strict=True)
        )
        return _interpolate(a, b, t), found


class InvertedCDF:
    """The first value at which the cumulated weight reaches the quantile (type 1)."""

    num_targets = 1  # order statistics that a quantile is made of

    def __init__(self, selection: RankSelection, weights: np.ndarray) -> None:
        self._selection = selection
        self._weights = weights.reshape(-1)

    def quantiles_of_all(self, x: Array, q: np.ndarray, skipna: bool) -> Found:
        """Return the quantiles, the sum of weights and the infinite values of each channel."""
        columns = self._selection.channel_values(x).astype(np.float64)
        values = np.full((q.size, len(columns)), np.nan)
        count, infinite = np.zeros(len(columns)), np.zeros(len(columns))
        present = self._weights > 0
        weights = self._weights[present].astype(np.float64)
        for channel, column in enumerate(columns):
            column = column[present]
            valid = ~np.isnan(column)
            infinite[channel] = np.isinf(column).sum()
            if not skipna and not valid.all():
                count[channel] = np.nan
            elif valid.any():
                column, weight = column[valid], weights[valid]
                order = np.argsort(column, kind="stable")
                cumulated = np.cumsum(weight[order])
                count[channel] = cumulated[-1]
                values[:, channel] = self._quantiles_of_sorted(column[order], cumulated, q)
        return values, count, infinite

    def _quantiles_of_sorted(
        self, values: np.ndarray, cumulated: np.ndarray, q: np.ndarray
    ) -> np.ndarray:
        return values[np.argmax(_reaches(cumulated, cumulated[-1], q[:, None]), axis=1)]

    def bracket_ends(
        self, x: Array, q: np.ndarray, taken: np.ndarray, errors: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ends of brackets (R, C) some standard errors to either side of the quantiles."""
        sample = self._selection.channel_values(x, taken).astype(np.float64)
        weight = self._weights[taken].astype(np.float64)
        lower, upper = np.full((2, q.size, len(sample)), np.inf)
        lower.fill(-np.inf)
        for channel, column in enumerate(sample):
            valid = (weight > 0) & ~np.isnan(column)
            column, given = column[valid], weight[valid]
            order = np.argsort(column)
            column, given = column[order], given[order]
            for rank, each in enumerate(q):
                low, high = _weighted_ranks(given, each, errors)
                if low >= 0:
                    lower[rank, channel] = column[low]
                if high < column.size:
                    upper[rank, channel] = column[high]
        return lower, upper

    def quantiles_in_brackets(
        self, seen: ObservedBrackets, q: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return quantiles (R, C), and which of the wanted ones are those."""
        values = np.full(wanted.shape, np.nan)
        for rank, channel in np.argwhere(wanted & ~seen.dropped):
            values[rank, channel] = self._quantile_in_bracket(seen, q[rank], rank, channel)
        return values, ~np.isnan(values)

    def _quantile_in_bracket(
        self, seen: ObservedBrackets, q: float, rank: int, channel: int
    ) -> Array:
        at = rank, channel
        total, edge = seen.count[channel], seen.below[at] + seen.equal_lower[at]
        if _reaches(seen.below[at], total, q):
            return np.nan
        if _reaches(edge, total, q):
            return seen.lower[at]
        values, cumulated = _sorted_pieces(seen.pieces[rank][channel])
        reached = _reaches(edge + cumulated, total, q)
        if reached.any():
            return values[int(np.argmax(reached))]
        end = edge + seen.inside_count[at] + seen.equal_upper[at]
        return seen.upper[at] if _reaches(end, total, q) else np.nan

    def reaches_targets(
        self, cumulated: np.ndarray, total: np.ndarray, q: np.ndarray
    ) -> np.ndarray:
        """Whether weights (R, targets, pivots) of what is at most a pivot reach the quantiles."""
        return np.asarray(_reaches(cumulated, total, q[:, None, None]))

    def quantiles_of(self, values: np.ndarray, total: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return the quantiles that values (R, targets) make."""
        return values[:, 0]


class RepeatedInterpolation(_BetweenNeighbours, InvertedCDF):
    """Interpolation between the values around a rank, each repeated as its whole weight says."""

    def _quantiles_of_sorted(
        self, values: np.ndarray, cumulated: np.ndarray, q: np.ndarray
    ) -> np.ndarray:
        ranks = neighbours(q, cumulated[-1])[:2]
        a, b = (values[np.searchsorted(cumulated, rank, side="right")] for rank in ranks)
        return interpolated(a, b, q, cumulated[-1])

    def _quantile_in_bracket(
        self, seen: ObservedBrackets, q: float, rank: int, channel: int
    ) -> Array:
        at = rank, channel
        edge = seen.below[at] + seen.equal_lower[at]
        end = edge + seen.inside_count[at]
        first, second, _ = neighbours(q, seen.count[channel])
        if first < seen.below[at] or second >= end + seen.equal_upper[at]:
            return np.nan
        values, cumulated = _sorted_pieces(seen.pieces[rank][channel])
        values = np.concatenate([[seen.lower[at]], values, [seen.upper[at]]])
        reached = np.concatenate([[edge], edge + cumulated])
        a, b = (values[np.searchsorted(reached, each, side="right")] for each in (first, second))
        return interpolated(a, b, q, seen.count[channel])


def _include_neighbours(cumulated: np.ndarray, total: np.ndarray, q: np.ndarray) -> np.ndarray:
    first, second, _ = neighbours(q, total)
    return cumulated > np.stack([first, second], axis=1)[..., None]


def _sorted_pieces(pieces: list[tuple[Array, Array]]) -> tuple[np.ndarray, np.ndarray]:
    """Return kept values in order, and the weights of them and of all before them."""
    none = np.empty(0)
    values, weights = (np.concatenate(each) for each in zip((none, none), *pieces, strict=True))
    order = np.argsort(values, kind="stable")
    return values[order], np.cumsum(weights[order])


def as_quantiles(q: Array) -> np.ndarray:
    """Return ranks, a number or some, as a vector.

    Raises
    ------
    ValueError
        If it leaves [0, 1].
    """
    vector: np.ndarray = np.atleast_1d(np.asarray(q, dtype=np.float64))
    if vector.ndim != 1 or not vector.size or not bool(np.all((vector >= 0) & (vector <= 1))):
        raise ValueError(f"q must hold numbers in [0, 1], not {vector}")
    return vector


def interpolated(first: Array, second: Array, q: Array, count: Array) -> Array:
    """Return quantiles between the values at the two ranks around each of them."""
    return _interpolate(first, second, neighbours(q, count)[2])


def neighbours(q: Array, count: Array) -> tuple[Array, Array, Array]:
    """Return the two ranks around each quantile and the weight of the second (type 7)."""
    virtual = (count - 1.0) * q
    first = np.clip(np.floor(virtual), 0.0, np.maximum(count - 1.0, 0.0))
    second = np.minimum(first + 1.0, np.maximum(count - 1.0, 0.0))
    return first, second, virtual - first


def _interpolate(a: Array, b: Array, t: Array) -> Array:
    """Interpolate between ordered neighbours with the rounding of NumPy's quantiles."""
    with np.errstate(all="ignore"):
        width = b - a
        value = np.where(t >= 0.5, b - width * (1.0 - t), a + width * t)
        wide = np.isinf(width) & np.isfinite(a) & np.isfinite(b)  # the width alone overflowed
        value = np.where(wide, a * (1.0 - t) + b * t, value)
    value = np.where((a == b) | (t == 0), a, value)
    return np.where(np.isinf(a) & np.isinf(b) & (a != b) & (t > 0), np.nan, value)


def _reaches(cumulated: Array, total: Array, q: Array) -> Array:
    """Whether a cumulated weight reaches the quantile, but for the rounding of sums."""
    return (cumulated > 0) & (cumulated / total >= q * (1.0 - _ROUNDING))


def _weighted_ranks(weight: np.ndarray, q: float, errors: float) -> tuple[int, int]:
    """Return ranks of a sorted sample some standard errors to either side of the quantile."""
    if not weight.size:
        return -1, 0
    weight = weight / weight.max()  # so that squares stay in range
    cumulated = np.cumsum(weight)
    middle = q * cumulated[-1]
    error = np.sqrt(np.sum((weight * ((cumulated <= middle) - q)) ** 2))  # of a ratio of sums
    reach = errors * error + 6.0
    low = np.searchsorted(cumulated, middle - reach, side="right") - 1
    return int(low), int(np.searchsorted(cumulated, middle + reach, side="left")) + 1
