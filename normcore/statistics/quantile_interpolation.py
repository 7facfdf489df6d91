"""Which values a quantile is made of: those of NumPy's ``linear``.

A rule says so for each way to look at data: all of it, a sample of it, brackets, and counts of
what is at most some pivots.

References
----------
R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American Statistician
50 (1996): ``linear`` is type 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.rank_selection import RankSelection

__all__ = [
    "Found",
    "LinearInterpolation",
    "ObservedBrackets",
    "as_quantiles",
    "interpolated",
    "neighbours",
]

Found = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ObservedBrackets:
    """Brackets of all the data; what lies inside in pieces."""

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


class LinearInterpolation:
    """Interpolation between the values around a rank, all of one weight (type 7)."""

    num_targets = 2  # order statistics that a quantile is made of

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

    def reaches_targets(
        self, cumulated: np.ndarray, total: np.ndarray, q: np.ndarray
    ) -> np.ndarray:
        """Whether counts (R, targets, pivots) of what is at most a pivot include the targets."""
        first, second, _ = neighbours(q, total)
        return cumulated > np.stack([first, second], axis=1)[..., None]

    def quantiles_of(self, values: np.ndarray, total: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return the quantiles that values (R, targets) make."""
        return np.asarray(interpolated(values[:, 0], values[:, 1], q, total))


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
