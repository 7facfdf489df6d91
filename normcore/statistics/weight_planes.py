"""Weights in planes whose sums are exact, and what brackets count by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.exact_weights import in_units, split
from normcore.statistics.kept_brackets import Place

if TYPE_CHECKING:
    from normcore.statistics.kernels import StatisticKernels

__all__ = ["WeighedBrackets", "WeightPlanes"]

_ALL = slice(None)

# Of all rows: copying some costs about what it takes to observe as many.
_FEW = 0.4

#: Values and weights, by rank and channel.
Inside: TypeAlias = dict[Place, list[tuple[np.ndarray, np.ndarray]]]


class WeighedBrackets(NamedTuple):
    """What some positions weigh around brackets, in units.

    Attributes
    ----------
    sums : array of int, of shape (4, R, C)
        What lies below, equals the lower end, lies inside, equals the upper end.
    total : array of int, of shape (C,)
        Of all values.
    absent : bool array of shape (C,)
        Where there is NaN that was not to be skipped.
    infinite : float64 array of shape (C,)
        Number of infinite values that weigh anything.
    inside : dict of Place to list of (array, array)
        The values inside and their weights: what a value weighs is the sum of all that stand
        beside it.
    """

    sums: np.ndarray
    total: np.ndarray
    absent: np.ndarray
    infinite: np.ndarray
    inside: Inside


class WeightPlanes:
    """The digits of weights in a few planes, of each of which a kernel's sums are exact.

    Parameters
    ----------
    backend : Backend
    weights : (N, S) array of the backend's own kind
        Not negative.
    """

    def __init__(self, backend: StatisticKernels, weights: Array) -> None:
        host = np.asarray(backend.release(weights, np.empty(0)), dtype=np.float64)

        def plane(values: np.ndarray) -> Array:
            return backend.adopt(backend.release(backend.adopt(values), weights))

        self._backend = backend
        self._planes = [(plane(part.whole), part.exponent) for part in split(host)]
        self._weighing = plane((host > 0).astype(np.float64))

    def brackets(
        self,
        x: Array,
        lower: np.ndarray,
        upper: np.ndarray,
        *,
        skipna: bool,
        rows: slice = _ALL,
        inner: slice = _ALL,
    ) -> WeighedBrackets:
        """Return what an ``(N, C, S)`` view weighs between ``lower`` and ``upper``.

        Parameters
        ----------
        rows, inner : slice
            Of the weights, those of the view.
        """
        sums = np.zeros((4, *lower.shape), dtype=object)
        total = np.zeros(lower.shape[1], dtype=object)
        absent, infinite = np.zeros((2, lower.shape[1]))
        inside: Inside = {}
        for plane, exponent in self._planes:
            view, given = _weighing(x, plane[rows, inner])
            part = self._backend.brackets(
                view, lower, upper, weights=given, skipna=skipna
            ).to_host()
            seen = np.stack([part.below, part.equal_lower, part.inside_count, part.equal_upper])
            sums = sums + in_units(seen, exponent)
            total = total + in_units(np.nan_to_num(part.count), exponent)
            absent = np.maximum(absent, np.isnan(part.count))
            infinite = np.maximum(infinite, part.infinite)
            _keep(inside, part.inside, part.inside_weights or [], exponent)
        if len(self._planes) > 1 and infinite.any():  # some may weigh in one plane, some in another
            weighing, none = self._weighing[rows, inner], lower[:0]
            found = self._backend.brackets(x, none, none, weights=weighing, skipna=True)
            infinite = found.to_host().infinite
        return WeighedBrackets(sums, total, absent.astype(bool), infinite, inside)


def _weighing(x: Array, plane: Array) -> tuple[Array, Array]:
    """Leave out rows that weigh nothing, where these are most of those in host memory."""
    if isinstance(x, np.ndarray) and isinstance(plane, np.ndarray):
        rows = np.flatnonzero(plane.any(axis=1))
        if rows.size < _FEW * len(plane):
            return x[rows], plane[rows]
    return x, plane


def _keep(
    inside: Inside,
    found: list[list[np.ndarray]],
    weights: list[list[np.ndarray]],
    exponent: int,
) -> None:
    """Add what lies inside and weighs anything in a plane."""
    for rank, (row, beside) in enumerate(zip(found, weights, strict=True)):
        for channel, (values, whole) in enumerate(zip(row, beside, strict=True)):
            if not len(values):
                continue
            given = np.ldexp(whole, exponent)
            known = inside.setdefault((rank, channel), [])
            if known and np.array_equal(known[-1][0], values):  # most likely of the same rows
                before = known[-1][1]
                both = before + given
                if np.array_equal(both - before, given) and np.array_equal(both - given, before):
                    known[-1] = values, both
                    continue
            known.append((values, given))
