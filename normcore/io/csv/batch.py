"""Batches of rows of a CSV file: numbers of some columns, and the text of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from normcore.io.arrow.batch import ArrowBatch
from normcore.io.batch import TableBatch
from normcore.io.csv.columns import column_cells
from normcore.io.csv.kinds import Kind
from normcore.io.csv.numbers import Numbers
from normcore.io.digits import LostDigits
from normcore.io.libraries import pa

__all__ = ["CsvBatch", "RestoredBatch"]


@dataclass(eq=False)
class CsvBatch(TableBatch):
    """Rows of a CSV file.

    Attributes
    ----------
    first_row, num_rows : int
    names : tuple of str
        The columns.
    numeric_names : tuple of str
        Those that are numbers.
    numeric : array of int
        Where these are.
    values : array of shape (num_rows, len(numeric))
        These numbers, NaN for missing ones.
    missing : array of bool or None
        Which are missing, of the same shape; None if none is.
    cells : pyarrow.StringArray
        Of the other columns, row after row; null where nothing was between two delimiters.
    delimiter : str or None
        What no cell holds, nor a quote or the end of a line; None if they may hold anything.
    lost : LostDigits or None
        Why the numbers are not those of the file.
    numbers : Numbers
    kinds : mapping of names to Kind
        The types of the other columns; those without one are text.
    """

    first_row: int
    num_rows: int
    names: tuple[str, ...]
    numeric_names: tuple[str, ...]
    numeric: np.ndarray
    values: np.ndarray
    missing: np.ndarray | None
    cells: pa.StringArray
    delimiter: str | None
    lost: LostDigits | None
    numbers: Numbers
    kinds: Mapping[str, Kind]

    @property
    def nbytes(self) -> int:
        """See :attr:`TableBatch.nbytes`."""
        return int(self.cells.nbytes + self.values.nbytes)

    @cached_property
    def others(self) -> np.ndarray:
        """Which columns are not numbers."""
        return np.setdiff1d(np.arange(len(self.names)), self.numeric)

    def sliced(self, start: int, stop: int) -> CsvBatch:
        """Return some of the rows."""
        width = len(self.others)
        return replace(
            self,
            first_row=self.first_row + start,
            num_rows=stop - start,
            values=self.values[start:stop],
            missing=None if self.missing is None else self.missing[start:stop],
            cells=self.cells.slice(start * width, (stop - start) * width),
        )

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """See :meth:`TableBatch.matrix`."""
        if self.lost is not None:
            raise self.lost
        columns = self._columns(names)
        return self.values if columns is None else self.values[:, columns]

    def null_counts(self, names: Sequence[str]) -> np.ndarray:
        """See :meth:`TableBatch.null_counts`."""
        if self.missing is None:
            return np.zeros(len(names), dtype=np.int64)
        columns = self._columns(names)
        missing = self.missing if columns is None else self.missing[:, columns]
        return np.count_nonzero(missing, axis=0)

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> CsvBatch:
        """See :meth:`TableBatch.with_matrix`."""
        columns = self._columns(names)
        values = values.astype(np.float64, copy=False)
        if columns is not None:
            changed = self.values.copy()
            changed[:, columns] = values
            values = changed
        return replace(self, values=values)

    def to_arrow(self) -> pa.RecordBatch:
        """See :meth:`TableBatch.to_arrow`."""
        if self.lost is not None:
            raise self.lost
        columns: list[pa.Array | None] = [None] * len(self.names)

        def put(positions: np.ndarray, values: pa.Array) -> None:
            for number, position in enumerate(positions.tolist()):
                columns[position] = values.slice(number * self.num_rows, self.num_rows)

        missing = None if self.missing is None else self.missing.ravel(order="F")
        put(self.numeric, pa.array(self.values.ravel(order="F"), pa.float64(), mask=missing))
        others = self.others
        kinds = np.array([self.kinds.get(self.names[i], Kind.TEXT) for i in others.tolist()], int)
        for kind in sorted(set(kinds.tolist())):
            those = np.flatnonzero(kinds == kind)
            cells = column_cells(self.cells, len(others), those)
            put(others[those], _typed(cells, Kind(kind), self.numbers))
        return pa.RecordBatch.from_arrays(columns, names=list(self.names))

    def _columns(self, names: Sequence[str]) -> np.ndarray | None:
        """Return where in ``values`` columns are, None if these are all of them in order."""
        if tuple(names) == self.numeric_names:
            return None
        place = {name: index for index, name in enumerate(self.numeric_names)}
        return np.array([place[name] for name in names], np.intp)


class RestoredBatch(ArrowBatch):
    """Rows that were kept as Arrow: numbers where they are normalized, else text.

    Parameters
    ----------
    first_row : int
    data : pyarrow.RecordBatch
        What :meth:`CsvBatch.to_arrow` returned while types were not known.
    numbers : Numbers
    kinds : mapping of names to Kind
    """

    def __init__(
        self,
        first_row: int,
        data: pa.RecordBatch,
        numbers: Numbers,
        kinds: Mapping[str, Kind],
    ) -> None:
        super().__init__(first_row, data)
        self._numbers, self._kinds = numbers, kinds

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> RestoredBatch:
        """See :meth:`TableBatch.with_matrix`."""
        data = super().with_matrix(names, values).data
        return RestoredBatch(self.first_row, data, self._numbers, self._kinds)

    def as_text(self) -> pa.RecordBatch:
        """Return the columns that are not normalized with the characters of the file."""
        return self.data

    def to_arrow(self) -> pa.RecordBatch:
        """See :meth:`TableBatch.to_arrow`."""
        columns = [
            _typed(column, self._kinds.get(name, Kind.TEXT), self._numbers)
            if pa.types.is_string(column.type)
            else column
            for name, column in zip(self.data.schema.names, self.data.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, names=self.data.schema.names)


def _typed(cells: pa.Array, kind: Kind, numbers: Numbers) -> pa.Array:
    """Return cells as values of the type of a kind."""
    if kind is Kind.TEXT:
        return cells
    if kind is Kind.INTEGER:
        return numbers.to_integers(cells)
    return pa.array(numbers.to_floats(cells), mask=numbers.is_missing(cells))
