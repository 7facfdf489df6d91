"""Statistics of the columns of a sparse matrix."""

# Design: the stored values of a column and its zeros are observed by themselves and merge. Of the
# stored values, the backend may have a kernel. Else long columns are observed where they lie, and
# short ones side by side, filled up with NaN, which scalers skip. Statistics that do not merge, as
# exact quantiles, see whole columns, some at a time.

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.layout.namespace import Array
from normcore.scaling import contracts
from normcore.statistics import Moments, Statistic, wide_integers
from normcore.statistics.array_api_double_double import add

if TYPE_CHECKING:
    from normcore.scaling.learning import Learning

__all__ = ["Columns"]

# A column with so many stored values or more is observed by itself, where it lies.
_LONG = 1024
# Values in memory at a time.
_BLOCK = 1 << 22
# Of a sum of weights: less is what rounding left of the weights of no value.
_NOTHING = 2.0**-80


class Columns:
    """The columns of a CSR or CSC matrix without duplicates, and a scaler that is to see them."""

    values: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def __init__(self, matrix: Array, scaler: Learning) -> None:
        self._matrix, self._scaler = matrix, scaler
        self.num_rows, self.num_columns = matrix.shape
        self._backend = select_backend(matrix.data, scaler.backend)
        if matrix.format == "csc":
            self._take_columns()

    def _take_columns(self) -> None:
        """Have the stored values column by column."""
        matrix = self._matrix.tocsc()
        self.values, self.rows = matrix.data, matrix.indices
        self.starts = matrix.indptr.astype(np.int64)
        self.lengths = np.diff(self.starts)

    def observed_stored(self, weights: np.ndarray | None) -> Statistic:
        """Return the statistic of what is stored."""
        found = self._by_kernel(weights)
        if found is not None:
            return found
        self._take_columns()
        plane = None if weights is None else weights[self.rows]
        groups: list[Statistic] = []
        order: list[np.ndarray] = []
        is_long = self.lengths >= _LONG
        if plane is not None or self.values.dtype.kind != "f":
            is_long[:] = True
        for column in np.flatnonzero(is_long):
            stored = slice(self.starts[column], self.starts[column + 1])
            groups.append(
                self._observe(
                    self.values[None, None, stored], None if plane is None else plane[None, stored]
                )
            )
            order.append(np.array([column]))
        for columns, block in self._side_by_side(np.flatnonzero(~is_long)):
            groups.append(self._observe(block, None))
            order.append(columns)
        return _in_order(groups, np.concatenate(order))

    def observed_zeros(self, weights: np.ndarray | None, stored: Statistic) -> Statistic:
        """Return the statistic of what is not stored; of weighted zeros, the moments."""
        assert self._scaler.statistic is not None
        if weights is not None:
            assert isinstance(stored, Moments)
            return self._weighted_zeros(weights, stored)
        counts = self.num_rows - self.lengths
        known = self._scaler.statistic.of_zeros(counts)
        if known is not None:
            return known
        # As any monoid multiplies: doubled, and one added where the next binary digit is 1.
        total = self._scaler.statistic.empty(self.num_columns)
        for digit in reversed(range(int(counts.max()).bit_length())):
            one = np.where(counts >> digit & 1 != 0, 0.0, np.nan)
            total = total.merge(total).merge(self._observe(one[None, :, None], None))
        return total

    def observed_whole(self, weights: np.ndarray | None) -> Statistic:
        """Return the statistic of whole columns, some at a time."""
        self._take_columns()
        groups = []
        plane = None if weights is None else weights[None, :]
        width = max(1, _BLOCK // self.num_rows)
        for first in range(0, self.num_columns, width):
            last = min(first + width, self.num_columns)
            block = np.zeros((1, last - first, self.num_rows), dtype=self.values.dtype)
            stored = slice(self.starts[first], self.starts[last])
            column = np.repeat(np.arange(last - first), self.lengths[first:last])
            block[0, column, self.rows[stored]] = self.values[stored]
            groups.append(self._observe(block, plane))
        return type(groups[0]).side_by_side(groups)

    def _observe(self, view: np.ndarray, plane: np.ndarray | None) -> Statistic:
        x = self._backend.adopt(view)
        kernel = wide_integers.exactly(contracts.observer(self._scaler, self._backend), x)
        options = {} if plane is None else {"weights": self._backend.adopt(plane)}
        return kernel(x, **options).to_host()

    def _by_kernel(self, weights: np.ndarray | None) -> Statistic | None:
        """Return what the backend's kernel observes, if it has one for the scaler's statistic."""
        matrix, statistic = self._matrix, self._scaler.statistic
        if statistic is None or not self._scaler._observes_values or matrix.dtype.kind != "f":
            return None
        if matrix.format == "csc":
            plane = None if weights is None else weights[self.rows]
            return self._backend.observe_segments(
                statistic, self.values, self.starts, weights=plane
            )
        plane = None if weights is None else np.repeat(weights, np.diff(matrix.indptr))
        found = self._backend.observe_entries(
            statistic, matrix.data, matrix.indices, self.num_columns, weights=plane
        )
        if found is None:
            return None
        observed, self.lengths = found
        return observed

    def _side_by_side(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield columns of much the same length, and a view of their values, filled with NaN."""
        lengths = np.maximum(self.lengths[chosen], 1)
        sizes = 1 << np.frexp(lengths - 0.5)[1].astype(np.int64)  # the next power of 2
        for size in np.unique(sizes):
            of_size = chosen[sizes == size]
            step = max(1, _BLOCK // int(size))
            for start in range(0, of_size.size, step):
                columns = of_size[start : start + step]
                lengths = self.lengths[columns]
                column = np.repeat(np.arange(columns.size), lengths)
                place = np.arange(column.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
                block = np.full((int(size), columns.size, 1), np.nan, dtype=self.values.dtype)
                block[place, column, 0] = self.values[self.starts[columns][column] + place]
                yield columns, block

    def _weighted_zeros(self, weights: np.ndarray, read: Moments) -> Moments:
        """Return the moments of zeros that weigh what the stored values leave of all weights."""
        matrix = self._matrix
        if bool(np.isnan(matrix.data).any()):  # whose weights are not among those of ``read``
            entries = np.zeros_like(matrix.data), matrix.indices, matrix.indptr
            zeros = Columns(type(matrix)(entries, shape=matrix.shape), self._scaler)
            found = zeros.observed_stored(weights)
            assert isinstance(found, Moments)
            read = found
        total = self._observe(np.zeros((1, 1, self.num_rows)), weights[None, :])
        assert isinstance(total, Moments)
        high, low = add((total.parts[0], total.parts[1]), (-read.parts[0], -read.parts[1]))
        some = (high > _NOTHING * total.parts[0]) & (self.lengths < self.num_rows)
        rest = Moments.empty(self.num_columns)
        rest.parts[0], rest.parts[1] = np.where(some, high, 0.0), np.where(some, low, 0.0)
        return rest


def _in_order(groups: list[Statistic], columns: np.ndarray) -> Statistic:
    """Return the statistic of all columns from those of groups of them."""
    joined = type(groups[0]).side_by_side(groups)
    if bool(np.all(columns[:-1] < columns[1:])):
        return joined
    return joined.select(np.argsort(columns))
