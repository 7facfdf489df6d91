"""Sums of weights without rounding: the same in any order, and in any tree of merging.

A sum is a whole number of :data:`UNIT`, the smallest float64 above zero, and Python's integers hold
it. Kernels add in float64, which rounds nothing where all is whole and stays below 2**53: so
weights are split into parts of which that is true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "UNIT",
    "CumulatedWeights",
    "WeightPart",
    "as_floats",
    "exact_sum",
    "from_floats",
    "in_units",
    "rounded",
    "split",
]

#: Units in 1: the exponent of the smallest float64.
_EXPONENT = 1074
#: Units in 1.
UNIT = 1 << _EXPONENT
_DIGITS = 53  # of a float64


class WeightPart(NamedTuple):
    """Some of the digits of weights.

    Attributes
    ----------
    whole : float64 array
        Whole numbers, whose sum is below 2**53.
    exponent : int
        The part is ``whole * 2**exponent``.
    """

    whole: np.ndarray
    exponent: int

    @property
    def values(self) -> np.ndarray:
        """The part itself."""
        return np.ldexp(self.whole, self.exponent)


def split(weights: np.ndarray) -> list[WeightPart]:
    """Return parts that add up to weights, each of which can be summed without rounding.

    Parameters
    ----------
    weights : float64 array
        Finite and not negative.

    Returns
    -------
    list of WeightPart
        The one of the highest digits first; at least one.
    """
    weights = np.asarray(weights, dtype=np.float64)
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not total:
        return [WeightPart(np.zeros(weights.shape), 0)]
    top = math.frexp(weights.max())[1]
    if np.isfinite(total):  # as whole numbers below 2**53, where that loses nothing
        place = max(math.frexp(total)[1] - _DIGITS, -_EXPONENT)
        if _are_multiples(weights, place):
            return [WeightPart(np.ldexp(weights, -place), place)]
    low = max(top - _DIGITS, -_EXPONENT)
    if not _are_multiples(weights, low):
        least = weights.min(initial=np.inf, where=weights > 0)
        low = max(math.frexp(least)[1] - _DIGITS, -_EXPONENT)
    width = _DIGITS - (weights.size - 1).bit_length()
    number = -(-(top - low) // width)
    parts, rest = [], weights
    for place in range(low + (number - 1) * width, low - 1, -width):
        whole = np.floor(np.ldexp(rest, -place))
        if whole.any():
            parts.append(WeightPart(whole, place))
            rest = rest - np.ldexp(whole, place)
    return parts


def _are_multiples(weights: np.ndarray, exponent: int) -> bool:
    whole = np.floor(np.ldexp(weights, -exponent))
    return bool(np.array_equal(np.ldexp(whole, exponent), weights))


def in_units(whole: np.ndarray, exponent: int) -> np.ndarray:
    """Return whole float64 numbers, each times ``2**exponent``, as Python's integers of units."""
    shift = exponent + _EXPONENT
    flat = [int(each) << shift for each in np.ravel(whole).tolist()]
    return _of_integers(flat, np.shape(whole))


def exact_sum(weights: np.ndarray) -> int:
    """Return the sum of float64 weights in units."""
    return sum(int(part.whole.sum()) << part.exponent + _EXPONENT for part in split(weights))


def rounded(sums: np.ndarray) -> np.ndarray:
    """Return the float64 nearest to each sum in units; NaN stays, and too much is infinite."""
    flat = [each if each != each else _nearest(each) for each in np.ravel(sums).tolist()]
    return np.array(flat, dtype=np.float64).reshape(np.shape(sums))


def _nearest(units: int) -> float:
    try:
        return units / UNIT
    except OverflowError:
        return float("inf")


def as_floats(sums: np.ndarray) -> np.ndarray:
    """Return sums in units as float64 numbers that add up to them, along a new first axis.

    They depend on the sums alone.

    Raises
    ------
    OverflowError
        If a sum is beyond the largest float64.
    """
    flat = np.ravel(sums).tolist()
    low = min(((each & -each).bit_length() - 1 for each in flat if each), default=0)
    number = -(-(max(flat, default=0).bit_length() - low) // _DIGITS)
    mask = (1 << _DIGITS) - 1
    shifts = [low + place * _DIGITS for place in range(max(number, 1))]
    rows = [[(each >> shift & mask) << shift for each in flat] for shift in shifts]
    parts = [[each / UNIT for each in row] for row in rows]
    return np.array(parts, dtype=np.float64).reshape(len(shifts), *np.shape(sums))


def from_floats(parts: np.ndarray) -> np.ndarray:
    """Return the sums in units that :func:`as_floats` gave."""
    flat = [
        sum(_units_of(each) for each in column)
        for column in parts.reshape(len(parts), -1).T.tolist()
    ]
    return _of_integers(flat, parts.shape[1:])


def _units_of(number: float) -> int:
    numerator, denominator = number.as_integer_ratio()
    return numerator * (UNIT // denominator)


def _of_integers(flat: list[int], shape: tuple[int, ...]) -> np.ndarray:
    found = np.empty(len(flat), dtype=object)
    found[:] = flat
    return found.reshape(shape)


class CumulatedWeights(Sequence[int]):
    """The sum, in units, of each weight and all before it.

    Parameters
    ----------
    weights : float64 array of one dimension
        Finite and not negative.

    Examples
    --------
    >>> from normcore.statistics.exact_weights import UNIT, CumulatedWeights
    >>> cumulated = CumulatedWeights([0.5, 1e-300, 0.5])
    >>> cumulated[-1] - UNIT > 0  # nothing is lost
    True
    >>> cumulated.first_reaching(UNIT // 2)
    0
    """

    def __init__(self, weights: np.ndarray) -> None:
        self._size = len(weights)
        self._parts = [
            (np.cumsum(part.whole), part.exponent + _EXPONENT) for part in split(weights)
        ]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> int:  # type: ignore[override]
        return sum(int(whole[place]) << shift for whole, shift in self._parts)

    def first_reaching(self, target: int) -> int:
        """Return the first place whose sum is at least the target; the length where none is."""
        low, high = 0, self._size
        while low < high:
            middle = (low + high) // 2
            if self[middle] < target:
                low = middle + 1
            else:
                high = middle
        return low
