"""The first pass of a report: moments, extrema, a sketch of quantiles, and traits of columns."""

from __future__ import annotations

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.array_backend.selection import select_backend
from normcore.io.tally import Tally
from normcore.reporting.traits import Traits
from normcore.statistics import QuantileSketch

__all__ = ["FirstLook", "without_infinity"]

#: Rows that are sketched of a table whose length is known; more tell little more of its shape, and
#: the second pass counts the ranks of what they say.
SKETCHED_ROWS = 1 << 16
# Rank error of the sketch, as far as its memory allows.
_LEAST_ERROR, _MOST_ERROR = 0.005, 0.05
_SKETCH_BYTES = 64 << 20
# Bytes that a channel takes at an error of 1.
_CHANNEL_BYTES = 24 * 8
# Values that are gathered for the sketch, which merges slowly.
_GATHERED = 1 << 21


class FirstLook:
    """What one pass finds out of columns of numbers.

    Parameters
    ----------
    num_columns : int
    num_rows : int or None
        Of the table, if known.
    backend : str or Backend, optional

    Attributes
    ----------
    tally : Tally
        Of the finite values.
    nulls, positive, negative : int64 arrays of shape (C,)
        Numbers of missing cells, and of infinite ones by their sign.
    traits : Traits
    """

    def __init__(
        self, num_columns: int, num_rows: int | None, backend: str | Backend | None = None
    ) -> None:
        self.tally = Tally(num_columns, backend)
        self.traits = Traits(num_columns)
        self.nulls, self.positive, self.negative = np.zeros((3, num_columns), dtype=np.int64)
        error = _CHANNEL_BYTES * num_columns / _SKETCH_BYTES
        self._error = min(max(error, _LEAST_ERROR), _MOST_ERROR)
        self._sketch = QuantileSketch.empty(num_columns, error=self._error)
        self._gathered: list[np.ndarray] = []
        self._backend = select_backend(np.empty((0, 0)), backend)
        self._every = max(1, (num_rows or 0) // SKETCHED_ROWS)
        self._random = np.random.Generator(np.random.PCG64(0))

    def add(self, x: np.ndarray, nulls: np.ndarray) -> None:
        """Look at more rows.

        Parameters
        ----------
        x : float array of shape (n, C)
        nulls : int array of shape (C,)
            How many of its NaN stand for missing cells.
        """
        self.nulls += nulls
        if self.tally.add(x) is not None:
            self.positive += np.count_nonzero(x == np.inf, axis=0)
            self.negative += np.count_nonzero(x == -np.inf, axis=0)
            x = without_infinity(x)
            self.tally.add(x)
        self.traits.add(x)
        self._gather(x)

    def _gather(self, x: np.ndarray) -> None:
        if self._every > 1:  # one of as many rows that follow each other, at random
            rows = np.arange(0, len(x), self._every)
            rows += self._random.integers(self._every, size=len(rows))
            # Column after column in memory, as x is.
            x = x.T.take(rows[rows < len(x)], axis=1).T
        self._gathered.append(x)
        if sum(each.size for each in self._gathered) > _GATHERED:
            self._merge_gathered()

    def _merge_gathered(self) -> None:
        if not self._gathered:
            return
        rows = np.concatenate(self._gathered)
        self._gathered.clear()
        view = self._backend.adopt(rows)[:, :, None]
        found = QuantileSketch.observe(self._backend, view, skipna=True, error=self._error)
        self._sketch = self._sketch.merge(found)

    @property
    def sketch(self) -> QuantileSketch:
        """The sketch of the finite values, or of some of them where there are many."""
        self._merge_gathered()
        return self._sketch


def without_infinity(x: np.ndarray) -> np.ndarray:
    """Return a copy in which infinite values are NaN."""
    return np.where(np.isinf(x), np.nan, x)
