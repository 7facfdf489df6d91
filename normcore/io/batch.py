"""What passes between files and the rest: batches of rows, fields that describe their columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import DTypeLike

__all__ = ["Field", "TableBatch", "TableWriter", "choose_batch_rows", "float_dtype"]

BATCH_BYTES = 16 << 20
MAX_BATCH_ROWS = 1 << 17


class Field(NamedTuple):
    """A column of a table.

    Attributes
    ----------
    name : str
    dtype : dtype or None
        The float dtype in which the column is normalized; None if it does not hold numbers.
    kind : str
        What the column holds, in words, for messages.
    by_default : bool
        Whether the column is normalized where no columns are named.
    type : pyarrow.DataType or None
        The Arrow type, where it is known.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import io
    >>> io.Field("height", np.dtype("float32")).kind
    'number'
    """

    name: str
    dtype: np.dtype | None
    kind: str = "number"
    by_default: bool = True
    type: pyarrow.DataType | None = None


def float_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype of normalized values: floats up to 64 bits keep theirs.

    Parameters
    ----------
    dtype : dtype
        Of the values before.

    Examples
    --------
    >>> from normcore import io
    >>> io.float_dtype("float32"), io.float_dtype("int64")
    (dtype('float32'), dtype('float64'))
    """
    dtype = np.dtype(dtype)
    narrow = dtype.kind == "f" and dtype.itemsize <= 8
    return dtype.newbyteorder("=") if narrow else np.dtype(np.float64)


def choose_batch_rows(num_columns: int, batch_rows: int | None = None) -> int:
    """Return the number of rows to hold at a time, by default about 16 MiB of float64.

    Parameters
    ----------
    num_columns : int
        How many columns are held as float64.
    batch_rows : int, optional
        Returned as it is, where it is given.

    Raises
    ------
    ValueError
        If ``batch_rows`` is not positive.

    Examples
    --------
    >>> from normcore import io
    >>> io.choose_batch_rows(64)
    32768
    """
    if batch_rows is None:
        return min(max(BATCH_BYTES // (8 * max(num_columns, 1)), 16), MAX_BATCH_ROWS)
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be positive, not {batch_rows}")
    return batch_rows


class TableBatch(ABC):
    """Some consecutive rows of a table.

    Attributes
    ----------
    first_row : int
        Index of the first one in the table, counting from 0.
    num_rows : int

    Examples
    --------
    >>> import pyarrow as pa
    >>> from normcore import io
    >>> (batch,) = io.open_table(pa.table({"height": [1.5, 2.5]})).batches(["height"])
    >>> isinstance(batch, io.TableBatch), batch.first_row, batch.num_rows
    (True, 0, 2)
    """

    first_row: int
    num_rows: int

    @abstractmethod
    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """Return numeric columns as a new or read-only float array, shape (num_rows, len(names)).

        Missing values are NaN. Float columns keep their precision, all others become float64.

        Parameters
        ----------
        names : sequence of str
            Which columns, in this order.

        Raises
        ------
        LostDigits
            If a column holds whole numbers that float64 cannot.
        """

    @abstractmethod
    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> TableBatch:
        """Return a batch with these columns replaced, each in its own float dtype.

        What was missing stays missing; all other columns stay as they are.

        Parameters
        ----------
        names : sequence of str
            Which columns.
        values : float array of shape (num_rows, len(names))
        """

    @abstractmethod
    def to_arrow(self) -> pyarrow.RecordBatch:
        """Return all columns as Arrow."""

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory the rows take."""
        return self.to_arrow().nbytes

    def null_counts(self, names: Sequence[str]) -> np.ndarray:
        """Return how many cells of each column are missing; NaN that a cell holds is not.

        Parameters
        ----------
        names : sequence of str
            Which columns, in this order.
        """
        data = self.to_arrow()
        return np.array([data.column(name).null_count for name in names], dtype=np.int64)

    def column_arrays(self, names: Sequence[str]) -> Sequence[np.ndarray]:
        """Return numeric columns, each an array of its own; as for :meth:`matrix`.

        What is a float array already is not copied; dtypes may differ.
        """
        return list(self.matrix(names).T)


class TableWriter(ABC):
    """Takes batches, all of the same columns; made by :meth:`TableSource.writer`.

    The calls come one after the other, not all from one thread.

    Attributes
    ----------
    num_rows : int or None
        Rows in the finished file, where the writer counts them itself.

    Examples
    --------
    >>> from normcore import io
    >>> sorted(io.TableWriter.__abstractmethods__)  # what a format implements
    ['close', 'write']
    """

    num_rows: int | None = None

    @abstractmethod
    def write(self, batch: TableBatch) -> None:
        """Append the rows of a batch.

        Parameters
        ----------
        batch : TableBatch
            Of the same columns as those before.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish the file. Called once, also after a failure, when the file is then removed."""
