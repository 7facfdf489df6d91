"""Whatever holds rows and columns as a table that is read in batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias, TypeGuard

import numpy as np

from normcore.io.array_batch import ArrayBatch
from normcore.io.batch import Field, TableBatch, choose_batch_rows, float_dtype
from normcore.io.csv.options import CsvOptions
from normcore.io.opening import is_dataset, open_table
from normcore.io.table import TableSource
from normcore.layout.bfloat16 import holds_bfloat16, widened
from normcore.layout.namespace import Array, to_numpy
from normcore.scaling.containers.frames import frame_names, is_frame, library_of
from normcore.scaling.containers.lazy import is_lazy
from normcore.scaling.containers.opening import engine_of
from normcore.scaling.containers.sparse import is_sparse
from normcore.scaling.input_validation import as_table

__all__ = ["opened_table"]

_ARROW = ("__arrow_c_stream__", "__arrow_c_array__")

#: One of several pieces, and its number among them, from 1.
_Numbered: TypeAlias = tuple[int, Array]


class _Rows(Protocol):
    """A matrix that gives some of its rows as a NumPy array."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def rows(self, start: int, stop: int) -> np.ndarray: ...


def opened_table(X: Array, csv: CsvOptions | None = None) -> TableSource:
    """Return ``X`` as a table.

    Parameters
    ----------
    X : path, array, data frame, sparse matrix, Arrow table or stream, or iterable of such pieces
        What scalers are fitted to, or :func:`~normcore.io.opening.open_table` opens.
    csv : CsvOptions, optional
        How CSV files are read.

    Raises
    ------
    ValueError, TypeError
        If it is none of these, or malformed.
    """
    if isinstance(X, (str, os.PathLike, TableSource)) or is_dataset(X):
        return open_table(X, csv=csv)
    if is_lazy(X):
        X = X.collect(engine="streaming")
    engine = engine_of(X)
    if engine is not None:
        engine.describe(X, "report")  # refuses what is no table, before anything is computed
        table = _pieces(_with_rows(engine.pieces(X)))
        table.name = f"table of {library_of(X[0] if isinstance(X, list | tuple) else X)}"
        return table
    if any(hasattr(X, name) for name in _ARROW) and not _is_arrow_column(X):
        table = open_table(_readable(X))
        table.name = f"{library_of(X)} {type(X).__name__}"
        if is_frame(X):  # of which pandas' may have other names than strings
            table.has_names = all(isinstance(name, str) for name in frame_names(X))
        return table
    if is_sparse(X):
        return _ArrayTable(_SparseRows(X), library_of(X))
    if _is_iterable(X):
        return _pieces(_with_rows(iter(X)))
    if is_frame(X):  # of a library without Arrow
        values = as_table(X, "report")
        return _ArrayTable(_DenseRows(values), library_of(X), [str(each) for each in X.columns])
    if holds_bfloat16(X):
        X = widened(X)
    return _ArrayTable(_DenseRows(to_numpy(as_table(X, "report"))), library_of(X))


def _is_arrow_column(X: Array) -> bool:
    """Whether ``X`` is an array, which an Arrow stream can hold too, as one column."""
    return (hasattr(X, "null_count") or hasattr(X, "__array__")) and not is_frame(X)


def _num_rows(piece: Array) -> int:
    """Return the number of rows; 1 of what has none, which is refused as no table."""
    shape = getattr(piece, "shape", None)  # sparse matrices have no length
    if shape is None:
        return len(piece) if hasattr(piece, "__len__") else 1
    return int(shape[0]) if len(shape) else 1


def _with_rows(pieces: Iterator[Array]) -> Iterator[_Numbered]:
    """Yield the pieces that have rows, or the last one of several that have none."""
    last, none = None, True
    for last in enumerate(pieces, 1):
        if _num_rows(last[1]):
            none = False
            yield last
    if none and last is not None:
        yield last


def _is_iterable(X: Array) -> TypeGuard[Iterable[Array]]:
    return hasattr(X, "__next__") or not (
        not hasattr(X, "__iter__") or
        hasattr(X, "shape") or hasattr(X, "__array__") or hasattr(X, "__dlpack__")
        or isinstance(X, Sequence)
    )  # fmt: skip


def _readable(X: Array) -> Array:
    """Return a frame of pandas with its columns of mixed objects as text, which Arrow takes."""
    if library_of(X) != "pandas" or not is_frame(X):
        return X
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(X, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.table({str(name): _column(X.iloc[:, place], pa) for place, name in enumerate(X)})


def _column(column: Array, pa: Array) -> Array:
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if each is None else str(each) for each in column], pa.string())


class _DenseRows:
    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self._array[start:stop]


class _SparseRows:
    def __init__(self, matrix: Array) -> None:
        self._matrix = matrix.tocsr()
        self.shape, self.dtype = matrix.shape, matrix.dtype

    def rows(self, start: int, stop: int) -> np.ndarray:
        array: np.ndarray = self._matrix[start:stop].toarray()
        return array


def _made_up(width: int) -> list[str]:
    return [f"x{index}" for index in range(width)]


def _fields(names: Sequence[str], dtype: np.dtype) -> list[Field]:
    by_default = dtype.kind != "b"
    return [Field(name, float_dtype(dtype), dtype.name, by_default=by_default) for name in names]


class _ArrayTable(TableSource):
    """A matrix in memory; its columns are x0, x1, ... where they have no names."""

    kept_in = "nothing"

    def __init__(self, matrix: _Rows, library: str, names: Sequence[str] | None = None) -> None:
        self._matrix = matrix
        self.name = f"{library} array"
        self.num_rows, width = matrix.shape
        self.has_names = names is not None
        self._set_fields(_fields(names or _made_up(width), matrix.dtype))

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        names = [field.name for field in self.fields]
        num_rows = self.num_rows or 0
        step = choose_batch_rows(len(names), batch_rows)
        if batch_rows is None:
            step = max(min(step, self.batch_bytes // (8 * max(len(names), 1))), 1)
        for start in range(0, max(num_rows, 1), step):
            rows = self._matrix.rows(start, min(start + step, num_rows))
            yield ArrayBatch(start, names, rows)


class _ArrayStream(TableSource):
    """Arrays that come one after the other, once."""

    has_names = False
    reread = False

    def __init__(self, first: np.ndarray, more: Iterator[_Numbered]) -> None:
        self._first, self._more = first, more
        self.name = "stream of arrays"
        self._set_fields(_fields(_made_up(first.shape[1]), first.dtype))

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        names = [field.name for field in self.fields]
        first_row = 0
        for number, piece in self._arrays():
            if piece.shape[1] != len(names):
                raise ValueError(
                    f"batch {number} has {piece.shape[1]} columns, the first one has {len(names)}"
                )
            yield ArrayBatch(first_row, names, piece)
            first_row += len(piece)

    def _arrays(self) -> Iterator[tuple[int, np.ndarray]]:
        yield 1, self._first
        yield from ((number, _array(piece)) for number, piece in self._more)


def _array(piece: Array) -> np.ndarray:
    return to_numpy(as_table(piece.toarray() if is_sparse(piece) else piece, "report"))


def _pieces(pieces: Iterator[_Numbered]) -> TableSource:
    """Return a stream of arrays, or of frames and record batches, as a table."""
    try:
        _, first = next(pieces)
    except StopIteration:
        raise ValueError("the stream has no batch") from None
    if not is_frame(first) and not any(hasattr(first, name) for name in _ARROW):
        return _ArrayStream(_array(first), pieces)
    import pyarrow as pa

    head = pa.table(_readable(first))

    def batches() -> Iterator[pa.RecordBatch]:
        yield from head.to_batches()
        for number, piece in pieces:
            table = pa.table(_readable(piece))
            if table.schema.names != head.schema.names:
                raise ValueError(f"batch {number} has other columns than the first one")
            yield from _of_types(table, head.schema, f"batch {number}").to_batches()

    return open_table(pa.RecordBatchReader.from_batches(head.schema, batches()))


def _may_round(source: Array, target: Array) -> bool:
    """Whether values of one type of Arrow may be none of another, which its casts do not tell."""
    import pyarrow as pa

    if not pa.types.is_floating(target) or source == pa.null():
        return False
    return not pa.types.is_floating(source) or source.bit_width > target.bit_width


def _of_types(table: Array, schema: Array, label: str) -> Array:
    """Return an Arrow table in the types of a schema of the same names, if these hold it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            cast, held = column.cast(field.type), True
            if _may_round(column.type, field.type):
                same = pc.equal(cast.cast(column.type), column)
                if pa.types.is_floating(column.type):
                    same = pc.or_(same, pc.is_nan(column))
                held = pc.all(same).as_py() is not False
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            held = False
        if not held:
            raise ValueError(
                f"{label} has {column.type} in column {field.name!r}, which the first one has as "
                f"{field.type}: give all of them the same type"
            )
        columns.append(cast)
    return pa.table(columns, schema=schema)
