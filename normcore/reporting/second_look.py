"""The second pass of a report: histograms, and how many values the quartiles and fences divide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.array_backend.selection import select_backend
from normcore.reporting.first_look import without_infinity
from normcore.reporting.histograms import Bins, bin_counts
from normcore.reporting.maps import Curved

__all__ = ["SecondLook"]


class SecondLook:
    """What another pass counts.

    Parameters
    ----------
    bins : Bins
        Of each column.
    pivots : float64 array of shape (R, C)
        Values whose ranks are counted.
    curves : sequence of (int array of shape (K,), Curved)
        Columns, and the ends of bins that maps of these make.
    groups : sequence of int arrays
        Columns of two values, 0 and 1, of which perhaps one is 1 in each row.
    any_infinite : bool
        Whether there are infinite values, which count as missing.
    backend : str or Backend, optional

    Attributes
    ----------
    counts : int64 array of shape (C, NUM_BINS + 2)
        As of :func:`~normcore.reporting.histograms.bin_counts`.
    below, equal : float64 arrays of shape (R, C)
        Numbers of values below pivots, and equal to them.
    below_edges : list of float64 arrays of shape (NUM_BINS + 1, K)
        Of each of the curves, the numbers of values that become less than an end.
    one_hot : list of bool
        Whether each of the groups has one 1 in every row.
    """

    def __init__(
        self,
        bins: Bins,
        pivots: np.ndarray,
        curves: Sequence[tuple[np.ndarray, Curved]],
        groups: Sequence[np.ndarray],
        any_infinite: bool,
        backend: str | Backend | None = None,
    ) -> None:
        self._bins, self._pivots, self._curves, self._groups = bins, pivots, curves, groups
        self._any_infinite = any_infinite
        self._backend = select_backend(np.empty((0, 0)), backend)
        self.counts = bin_counts(np.empty((0, len(bins.low))), bins)
        self.below, self.equal = np.zeros(pivots.shape), np.zeros(pivots.shape)
        self.below_edges = [np.zeros(curve.edges.shape) for _, curve in curves]
        self.one_hot = [True for _ in groups]

    def add(self, x: np.ndarray) -> None:
        """Count more rows, a float array of shape (n, C)."""
        if not len(x):
            return
        if self._any_infinite:
            x = without_infinity(x)
        self.counts += bin_counts(x, self._bins)
        below, equal = self._ranks(x, self._pivots)
        self.below += below
        self.equal += equal
        for (columns, curve), found in zip(self._curves, self.below_edges, strict=True):
            below, equal = self._ranks(x[:, columns], curve.edges)
            found += below + np.where(curve.upto, equal, 0.0)
        for number, group in enumerate(self._groups):
            if self.one_hot[number]:
                self.one_hot[number] = bool(np.all(x[:, group].sum(axis=1) == 1))

    def _ranks(self, x: np.ndarray, pivots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        view = self._backend.adopt(x)[:, :, None]
        seen = self._backend.brackets(view, pivots, pivots, skipna=True).to_host()
        return seen.below, seen.equal_lower
