"""Batches of rows of a table that are NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from normcore.io.batch import TableBatch, float_dtype
from normcore.io.digits import check_integers, check_wide_floats
from normcore.io.missing_library import MissingLibrary

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ArrayBatch"]


class ArrayBatch(TableBatch):
    """Rows that are one 2-D array.

    Parameters
    ----------
    first_row : int
        Index of the first row in the table, counting from 0.
    names : sequence of str
        Of the columns.
    array : array of shape (num_rows, len(names))
        In NumPy.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import io
    >>> batch = io.ArrayBatch(100, ["a", "b"], np.ones((3, 2)))
    >>> batch.first_row, batch.num_rows
    (100, 3)
    """

    def __init__(self, first_row: int, names: Sequence[str], array: np.ndarray) -> None:
        self.first_row = first_row
        self.num_rows = len(array)
        self.names = tuple(names)
        self.array = array

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """See :meth:`TableBatch.matrix`."""
        dtype = float_dtype(self.array.dtype)
        array = self.array if tuple(names) == self.names else self.array[:, self._indices(names)]
        check_integers(array, names, self.first_row)
        return array.astype(dtype, copy=False)

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> ArrayBatch:
        """See :meth:`TableBatch.with_matrix`."""
        dtype = float_dtype(self.array.dtype)
        if tuple(names) == self.names:
            return ArrayBatch(self.first_row, self.names, values.astype(dtype, copy=False))
        if dtype == self.array.dtype.newbyteorder("="):
            array = self.array.astype(dtype)
            array[:, self._indices(names)] = values
            return ArrayBatch(self.first_row, self.names, array)
        columns = dict(zip(self.names, self.array.T, strict=True))
        return _ColumnBatch(self.first_row, columns).with_matrix(names, values)

    def to_arrow(self) -> pyarrow.RecordBatch:
        """See :meth:`TableBatch.to_arrow`."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingLibrary("pyarrow", "writing this format") from error
        columns = [
            pa.array(np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("=")))
            for column in self._columns()
        ]
        return pa.RecordBatch.from_arrays(columns, names=list(self.names))

    def null_counts(self, names: Sequence[str]) -> np.ndarray:
        """See :meth:`TableBatch.null_counts`; arrays hold NaN alone."""
        return np.zeros(len(names), dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """See :attr:`TableBatch.nbytes`."""
        return sum(column.nbytes for column in self._columns())

    def _columns(self) -> Iterable[np.ndarray]:
        return self.array.T

    def _indices(self, names: Sequence[str]) -> list[int]:
        position = {name: index for index, name in enumerate(self.names)}
        return [position[name] for name in names]


class _ColumnBatch(ArrayBatch):
    """Rows of an array that is not of floats, some of whose columns have become floats."""

    def __init__(self, first_row: int, columns: dict[str, np.ndarray]) -> None:
        self.first_row = first_row
        self.num_rows = len(next(iter(columns.values())))
        self.names = tuple(columns)
        self.columns = columns

    @property
    def array(self) -> np.ndarray:  # type: ignore[override]
        return self.matrix(self.names)

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        columns = [self.columns[name] for name in names]
        dtype = np.result_type(*(float_dtype(column.dtype) for column in columns))
        for name, column in zip(names, columns, strict=True):
            check_integers(column[:, None], [name], self.first_row)
            check_wide_floats(column, name, self.first_row)
        return np.stack(columns, axis=1, dtype=dtype, casting="unsafe")

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> ArrayBatch:
        new = {
            name: np.asarray(column, dtype=float_dtype(self.columns[name].dtype))
            for name, column in zip(names, values.T, strict=True)
        }
        return _ColumnBatch(self.first_row, {**self.columns, **new})

    def _columns(self) -> Iterable[np.ndarray]:
        for name, column in self.columns.items():
            check_wide_floats(column, name, self.first_row)
            wide = column.dtype.kind == "f" and column.dtype.itemsize > 8
            yield column.astype(np.float64) if wide else column
