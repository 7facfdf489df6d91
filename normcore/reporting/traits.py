"""What all values of a column have in common: whole numbers, two values, an ascending order."""

from __future__ import annotations

import numpy as np

__all__ = ["Traits"]

# Rows that are looked at first; few columns of measured data get past them.
_HEAD = 64


class Traits:
    """What may still be true of each column after the rows that were seen.

    Parameters
    ----------
    num_columns : int

    Attributes
    ----------
    whole : bool array of shape (C,)
        All values are whole numbers.
    two_valued : bool array of shape (C,)
        There are at most two different values, those of ``values``.
    ascending : bool array of shape (C,)
        Each value is larger than the one before, and none is missing.
    """

    def __init__(self, num_columns: int) -> None:
        self.whole = np.ones(num_columns, dtype=bool)
        self.two_valued = np.ones(num_columns, dtype=bool)
        self.ascending = np.ones(num_columns, dtype=bool)
        self.values: list[set[float]] = [set() for _ in range(num_columns)]
        self._last = np.full(num_columns, -np.inf)

    def add(self, x: np.ndarray) -> None:
        """Look at more rows, a float array of shape (n, C)."""
        if not len(x):
            return
        self._narrow(x[:_HEAD])
        for column in np.flatnonzero(self.whole).tolist():
            values = x[:, column]
            self.whole[column] = bool(np.all((values == np.floor(values)) | np.isnan(values)))
        for column in np.flatnonzero(self.two_valued).tolist():
            self._add_values(column, x[:, column])
        for column in np.flatnonzero(self.ascending).tolist():
            values = x[:, column]
            self.ascending[column] = bool(
                values[0] > self._last[column] and np.all(values[1:] > values[:-1])
            )
            self._last[column] = values[-1]

    def _narrow(self, head: np.ndarray) -> None:
        """Give up columns that the first rows tell, all at once."""
        missing = np.isnan(head)
        self.whole &= np.all((head == np.floor(head)) | missing, axis=0)
        low, high = np.fmin.reduce(head, axis=0), np.fmax.reduce(head, axis=0)
        self.two_valued &= np.all((head == low) | (head == high) | missing, axis=0)
        self.ascending &= np.all(head[1:] > head[:-1], axis=0)

    def _add_values(self, column: int, values: np.ndarray) -> None:
        low, high = np.fmin.reduce(values), np.fmax.reduce(values)
        known = self.values[column]
        known.update(float(each) for each in (low, high) if not np.isnan(each))
        self.two_valued[column] = len(known) <= 2 and bool(
            np.all((values == low) | (values == high) | np.isnan(values))
        )
