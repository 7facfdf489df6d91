"""Moments and extrema of a table's columns, gathered while their values stream by."""

from __future__ import annotations

import numpy as np

from normcore.statistics import Extrema, Moments

__all__ = ["Tally"]


class Tally:
    """Moments and extrema of some columns.

    Parameters
    ----------
    num_columns : int

    Attributes
    ----------
    num_rows : int
    moments : Moments
    extrema : Extrema
    """

    def __init__(self, num_columns: int) -> None:
        self.num_rows = 0
        self.moments = Moments.empty(num_columns)
        self.extrema = Extrema.empty(num_columns)

    def add(self, x: np.ndarray) -> tuple[int, int] | None:
        """Count in more rows.

        Parameters
        ----------
        x : float array of shape (num_rows, num_columns)

        Returns
        -------
        tuple of int or None
            Row of ``x`` and column of the first infinite value; nothing is counted then.
        """
        from normcore import functional  # slow to import; commands that read no table do not

        if not x.size:
            self.num_rows += len(x)
            return None
        extrema = functional.extrema(x, channel_axis=1, skipna=True).to_host()
        infinite = np.flatnonzero(np.isinf(extrema.min) | np.isinf(extrema.max))
        if infinite.size:
            rows, columns = np.nonzero(np.isinf(x[:, infinite]))
            return int(rows[0]), int(infinite[columns[0]])
        moments = functional.moments(x, channel_axis=1, skipna=True).to_host()
        self.num_rows += len(x)
        self.moments = self.moments.merge(moments)
        self.extrema = self.extrema.merge(extrema)
        return None

    @property
    def count(self) -> np.ndarray:
        """Number of values of each column, shape (C,)."""
        return self.moments.count

    @property
    def num_missing(self) -> np.ndarray:
        """Number of NaN and missing values of each column, shape (C,)."""
        return self.num_rows - self.moments.count
