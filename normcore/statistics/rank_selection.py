"""Selection: taking values out of an array and finding them by rank, here by NumPy."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from normcore.layout.namespace import Array, array_namespace
from normcore.statistics.kernels import StatisticKernels

__all__ = ["NumpyRankSelection", "RankSelection"]


class RankSelection(Protocol):
    """What exact quantiles need beside brackets. A backend may have a faster one."""

    def channel_values(self, x: Array, taken: np.ndarray | None = None) -> np.ndarray:
        """Return values of an ``(N, C, S)`` array in NumPy: float32 ones as they are, others in
        float64.

        Parameters
        ----------
        taken : intp array of shape (P,), optional
            Positions n * S + s; by default all.

        Returns
        -------
        array of shape (C, P)
            Not shared with ``x``.
        """

    def count_numbers(self, values: np.ndarray) -> np.ndarray:
        """Count the numbers of each row of a (C, P) array, and move them to its front.

        Returns
        -------
        float64 array of shape (2, C)
            How many numbers there are, and how many of them are infinite.
        """

    def values_at_ranks(
        self, values: np.ndarray, counts: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> np.ndarray:
        """Return what has two ranks in each row, as two float64 arrays of shape (R, C).

        Parameters
        ----------
        values : array of shape (C, P)
            As :meth:`count_numbers` left it.
        counts : array of shape (C,)
            Numbers of each row; a row without any has NaN at every rank.
        first, second : arrays of shape (R, C)
            ``first <= second``; ranks beyond the numbers are those of the ends.
        """

    def values_at_ranks_of_lists(
        self, lists: list[list[np.ndarray]], first: np.ndarray, second: np.ndarray
    ) -> np.ndarray:
        """Return what has two ranks in each of L lists of numbers, given in pieces.

        As two float64 arrays of shape (L,); ranks as in :meth:`values_at_ranks`.
        """


class NumpyRankSelection:
    """By sorting and partitioning in NumPy.

    Parameters
    ----------
    backend : Backend
        Releases its arrays to the host.
    """

    def __init__(self, backend: StatisticKernels) -> None:
        self._backend = backend

    def channel_values(self, x: Array, taken: np.ndarray | None = None) -> np.ndarray:
        """See :meth:`RankSelection.channel_values`."""
        num_channels, num_inner = x.shape[1:]
        if taken is None:
            host = self._host(x).transpose(1, 0, 2).reshape(num_channels, -1)
        else:
            xp = array_namespace(x)
            row, inner = (xp.asarray(each)[:, None] for each in np.divmod(taken, num_inner))
            host = self._host(x[row, xp.arange(num_channels)[None, :], inner]).T
        return np.array(host, dtype=host.dtype if host.dtype == np.float32 else np.float64)

    def count_numbers(self, values: np.ndarray) -> np.ndarray:
        """See :meth:`RankSelection.count_numbers`; sorts, which moves NaN to the end."""
        values.sort(axis=1)
        counts = values.shape[1] - np.isnan(values).sum(axis=1, dtype=np.float64)
        return np.stack([counts, np.isinf(values).sum(axis=1, dtype=np.float64)])

    def values_at_ranks(
        self, values: np.ndarray, counts: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> np.ndarray:
        """See :meth:`RankSelection.values_at_ranks`."""
        ranks = np.clip(np.stack([first, second]), 0, np.maximum(counts - 1, 0)).astype(np.intp)
        found = values[np.arange(len(values)), ranks].astype(np.float64)
        found[..., counts == 0] = np.nan
        return found

    def values_at_ranks_of_lists(
        self, lists: list[list[np.ndarray]], first: np.ndarray, second: np.ndarray
    ) -> np.ndarray:
        """See :meth:`RankSelection.values_at_ranks_of_lists`."""
        found = np.full((2, len(lists)), np.nan)
        for i, pieces in enumerate(lists):
            values = np.concatenate([np.empty(0), *pieces])
            if values.size:
                ranks = np.clip([first[i], second[i]], 0, values.size - 1).astype(np.intp)
                values.partition(ranks)
                found[:, i] = values[ranks]
        return found

    def _host(self, array: Array) -> np.ndarray:
        return np.asarray(self._backend.release(array, np.empty(0)))
