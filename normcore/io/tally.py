"""Moments and extrema of a table's columns, gathered while their values stream by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normcore.statistics import Extrema, Moments

if TYPE_CHECKING:
    from normcore.array_backend.abstract import Backend
    from normcore.statistics.statistic import Statistic, StatisticT

__all__ = ["Tally"]


class Tally:
    """Moments and extrema of some columns.

    Parameters
    ----------
    num_columns : int
    backend : str or Backend, optional
        What observes; by default what fits the data.

    Attributes
    ----------
    num_rows : int
    moments : Moments
    extrema : Extrema
    """

    def __init__(self, num_columns: int, backend: str | Backend | None = None) -> None:
        self.num_rows = 0
        self.moments = Moments.empty(num_columns)
        self.extrema = Extrema.empty(num_columns)
        self._backend = backend

    def add(self, x: np.ndarray | Sequence[np.ndarray]) -> tuple[int, int] | None:
        """Count in more rows.

        Parameters
        ----------
        x : float array of shape (num_rows, num_columns), or its columns

        Returns
        -------
        tuple of int or None
            Row of ``x`` and column of the first infinite value; nothing is counted then.
        """
        num_rows = len(x if isinstance(x, np.ndarray) else x[0])
        if not num_rows:
            return None
        extrema = self._observed(Extrema, x)
        infinite = np.flatnonzero(np.isinf(extrema.min) | np.isinf(extrema.max))
        if infinite.size:
            columns = x.T if isinstance(x, np.ndarray) else x
            return min((int(np.isinf(columns[each]).argmax()), each) for each in infinite.tolist())
        self.moments = self.moments.merge(self._observed(Moments, x))
        self.extrema = self.extrema.merge(extrema)
        self.num_rows += num_rows
        return None

    def _observed(self, kind: type[StatisticT], x: np.ndarray | Sequence[np.ndarray]) -> StatisticT:
        # Slow to import; commands that read no table do not need them.
        from normcore.array_backend import over_views
        from normcore.array_backend.selection import select_backend

        if isinstance(x, np.ndarray):
            backend = select_backend(x, self._backend)
            observe = partial(kind.observe, backend, skipna=True)
            return over_views.observe(observe, backend.adopt(x), 1).to_host()
        backend = select_backend(x[0], self._backend)
        states = [
            kind.observe(backend, backend.adopt(column)[None, None, :], skipna=True).to_state()
            for column in x
        ]
        # Channels are the last axis of every array of a state.
        return kind.from_state(
            {key: np.concatenate([state[key] for state in states], axis=-1) for key in states[0]}
        )

    def statistic(self, kind: type[Statistic] | None) -> Statistic | None:
        """Return the moments or the extrema, for a scaler that learns these or nothing."""
        kinds: dict[type[Statistic] | None, Statistic] = {
            Moments: self.moments,
            Extrema: self.extrema,
        }
        return kinds.get(kind)

    @property
    def count(self) -> np.ndarray:
        """Number of values of each column, shape (C,)."""
        return self.moments.count

    @property
    def num_missing(self) -> np.ndarray:
        """Number of NaN and missing values of each column, shape (C,)."""
        return self.num_rows - self.moments.count
