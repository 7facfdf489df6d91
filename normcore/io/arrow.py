"""Parquet and Arrow IPC files, and the batches that all formats read by pyarrow share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from normcore.io.digits import check_decimals, check_integers
from normcore.io.libraries import pa, pq
from normcore.io.table import (
    Field,
    TableBatch,
    TableSource,
    TableWriter,
    choose_batch_rows,
    float_dtype,
)

__all__ = ["ArrowBatch", "ArrowIpc", "Parquet"]


class ArrowBatch(TableBatch):
    """Rows that are an Arrow record batch.

    Parameters
    ----------
    first_row : int
    data : pyarrow.RecordBatch
    stable_dictionaries : bool
        Whether dictionary-encoded columns have one dictionary in all batches of the table.
    passed_through : bool
        Whether all columns that are not floats pass through, so that every digit matters.
    """

    def __init__(
        self,
        first_row: int,
        data: pa.RecordBatch,
        *,
        stable_dictionaries: bool = False,
        passed_through: bool = False,
    ) -> None:
        self.first_row = first_row
        self.num_rows = data.num_rows
        self.data = data
        self.stable_dictionaries = stable_dictionaries
        self.passed_through = passed_through

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """See :meth:`TableBatch.matrix`."""
        columns = [self.data.column(name) for name in names]
        dtypes = [_dtype(column.type) or np.dtype(np.float64) for column in columns]
        dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
        # Column after column in memory, so that results go back to Arrow without a copy.
        result = np.empty((self.num_rows, len(columns)), dtype, order="F")
        for index, column in enumerate(columns):
            floats = column
            if pa.types.is_decimal(column.type):
                # By way of text, since pyarrow's own cast is off by an ulp now and then.
                floats = column.cast(pa.string()).cast(pa.float64())
            elif not pa.types.is_floating(column.type):
                # Not safe, which would refuse all integers beyond 2**53.
                floats = column.cast(pa.float64(), safe=False)
            # Missing values arrive as NaN.
            result[:, index] = floats.to_numpy(zero_copy_only=False)
            if pa.types.is_integer(column.type):
                whole = column.fill_null(0).to_numpy(zero_copy_only=False)
                check_integers(whole[:, None], names[index : index + 1], self.first_row)
            elif pa.types.is_decimal(column.type):
                limit = 10.0 ** (15 - column.type.scale) if self.passed_through else np.inf
                where = np.flatnonzero(np.abs(result[:, index]) >= min(limit, 2.0**53))
                exact = column.take(pa.array(where)).to_pylist()
                check_decimals(exact, names[index], self.first_row, where)
        return result

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> ArrowBatch:
        """See :meth:`TableBatch.with_matrix`."""
        columns, fields = self.data.columns, list(self.data.schema)
        retyped: dict[str, str] = {}
        for name, column in zip(names, values.T, strict=True):
            index = self.data.schema.get_field_index(name)
            old = columns[index]
            missing = old.is_null().to_numpy(zero_copy_only=False) if old.null_count else None
            dtype = _dtype(old.type) or np.dtype(np.float64)
            new = pa.array(np.ascontiguousarray(column, dtype=dtype), mask=missing)
            columns[index], fields[index] = new, fields[index].with_type(new.type)
            if new.type != old.type:
                retyped[name] = dtype.name
        data = _record_batch(columns, fields, _retyped(self.data.schema.metadata, retyped))
        return ArrowBatch(
            self.first_row,
            data,
            stable_dictionaries=self.stable_dictionaries,
            passed_through=True,
        )

    def to_arrow(self) -> pa.RecordBatch:
        """See :meth:`TableBatch.to_arrow`."""
        return self.data


def _dtype(type_: pa.DataType) -> np.dtype | None:
    """Return the float dtype for a column of numbers, None for any other."""
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return float_dtype(type_.to_pandas_dtype())
    return np.dtype(np.float64) if pa.types.is_decimal(type_) else None


def _pandas(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Return what pandas stored about its frame."""
    with suppress(KeyError, ValueError, TypeError):
        return dict(json.loads((metadata or {})[b"pandas"]))
    return {}


def _retyped(
    metadata: dict[bytes, bytes] | None, dtypes: dict[str, str]
) -> dict[bytes, bytes] | None:
    """Return the metadata with new dtypes; pandas would convert the columns to the old ones."""
    stored = _pandas(metadata)
    if not (dtypes and stored.get("columns")):
        return metadata
    for column in stored["columns"]:
        dtype = dtypes.get(column.get("field_name", column.get("name")))
        if dtype is not None:
            column.update(pandas_type=dtype, numpy_type=dtype, metadata=None)
    return {**(metadata or {}), b"pandas": json.dumps(stored).encode()}


def _fields(schema: pa.Schema) -> list[Field]:
    """Describe the columns; the index that pandas stored is not a feature."""
    index = _pandas(schema.metadata).get("index_columns", [])
    return [
        Field(field.name, None, "the pandas index")
        if field.name in index
        else Field(field.name, _dtype(field.type), str(field.type))
        for field in schema
    ]


def _sliced(
    parts: Iterator[tuple[pa.RecordBatch, int]],
    schema: pa.Schema,
    batch_rows: int,
    advance: Callable[[int], None],
    stable_dictionaries: bool = False,
) -> Iterator[ArrowBatch]:
    """Cut record batches to size, number their rows, and yield an empty one if there is none."""
    first_row = 0
    for part, bytes_read in parts:
        advance(bytes_read)
        for start in range(0, part.num_rows, batch_rows):
            data = part.slice(start, batch_rows)
            yield ArrowBatch(first_row, data, stable_dictionaries=stable_dictionaries)
            first_row += data.num_rows
    if first_row == 0:
        empty = pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in schema], schema=schema
        )
        yield ArrowBatch(0, empty)


@contextmanager
def _read_errors(path: Path, format_: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowCancelled as error:
        raise KeyboardInterrupt from error
    except MemoryError:
        raise
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a readable {format_} file: {reason}") from error
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a readable {format_} file: {reason}") from error


class _ArrowSource(TableSource):
    """What Parquet and Arrow IPC have in common: a schema, and parts in a known order."""

    _schema: pa.Schema
    _stable_dictionaries: ClassVar[bool] = False

    def _advance(self, bytes_read: int) -> None:
        self.bytes_read = bytes_read

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        raise NotImplementedError

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        schema = self._schema
        if not others:
            wanted = set(numeric)
            schema = pa.schema([field for field in schema if field.name in wanted])
        step = choose_batch_rows(len(schema), batch_rows)
        self.bytes_read = 0
        with _read_errors(self.path, self.format):
            yield from _sliced(
                self._parts(schema.names, step),
                schema,
                step,
                self._advance,
                self._stable_dictionaries,
            )


class Parquet(_ArrowSource):
    """Parquet files."""

    format: ClassVar[str] = "Parquet"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        # A buffered stream per column instead of whole column chunks: memory stays small for
        # files of one large row group.
        with _read_errors(self.path, self.format):
            self._file = pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 18)
            self._schema = self._file.schema_arrow
        self.num_rows = self._file.metadata.num_rows
        self._set_fields(_fields(self._schema))

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        rows = 0
        total = max(self._file.metadata.num_rows, 1)
        for data in self._file.iter_batches(batch_rows, columns=list(names), use_threads=False):
            rows += data.num_rows
            yield data.select(list(names)), self.num_bytes * rows // total

    def close(self) -> None:
        """See :meth:`TableSource.close`."""
        self._file.close()

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """See :meth:`TableSource.sink`."""
        return _ArrowWriter(lambda schema: pq.ParquetWriter(path, schema))


class ArrowIpc(_ArrowSource):
    """Arrow IPC files (Feather version 2) and streams; what is written is a file."""

    format: ClassVar[str] = "Arrow IPC"
    _stable_dictionaries: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with _read_errors(self.path, self.format), self._open() as reader:
            self._schema = reader.schema
        self._set_fields(_fields(self._schema))

    @contextmanager
    def _open(self) -> Iterator[pa.RecordBatchReader | pa.RecordBatchFileReader]:
        with pa.memory_map(str(self.path)) as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            opened = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
            with opened as reader:
                yield reader

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        with self._open() as reader:
            if isinstance(reader, pa.ipc.RecordBatchFileReader):
                total = reader.num_record_batches
                for index in range(total):
                    data = reader.get_batch(index)
                    yield data.select(list(names)), self.num_bytes * (index + 1) // total
            else:
                for data in reader:
                    yield data.select(list(names)), 0

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """See :meth:`TableSource.sink`."""
        return _ArrowWriter(lambda schema: pa.ipc.new_file(str(path), schema), decode=True)


class _ArrowWriter(TableWriter):
    """Gathers rows into groups of a useful size and hands them to a writer of pyarrow's.

    Parameters
    ----------
    open_writer : callable
        Takes the schema.
    decode : bool
        Whether dictionaries must not change from batch to batch; those that might are decoded.
    """

    _GROUP_ROWS = 1 << 16
    _GROUP_BYTES = 1 << 25

    def __init__(
        self,
        open_writer: Callable[[pa.Schema], pq.ParquetWriter | pa.RecordBatchWriter],
        decode: bool = False,
    ) -> None:
        self._open_writer = open_writer
        self._decode = decode
        self._writer: pq.ParquetWriter | pa.RecordBatchWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._pending_bytes = 0

    def write(self, batch: TableBatch) -> None:
        data = batch.to_arrow()
        if self._decode and not getattr(batch, "stable_dictionaries", False):
            data = _decoded(data)
        if self._writer is None:
            self._writer = self._open_writer(data.schema)
        self._pending.append(data)
        self._pending_rows += data.num_rows
        self._pending_bytes += data.nbytes
        if self._pending_rows >= self._GROUP_ROWS or self._pending_bytes >= self._GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending_rows:
            assert self._writer is not None
            self._writer.write_table(pa.Table.from_batches(self._pending).combine_chunks())
        self._pending = []
        self._pending_rows = self._pending_bytes = 0

    def close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()


def _decoded(data: pa.RecordBatch) -> pa.RecordBatch:
    columns, fields = data.columns, list(data.schema)
    for index, field in enumerate(fields):
        if pa.types.is_dictionary(field.type):
            columns[index] = columns[index].dictionary_decode()
            fields[index] = field.with_type(columns[index].type)
    return _record_batch(columns, fields, data.schema.metadata)


def _record_batch(
    columns: list[pa.Array], fields: list[pa.Field], metadata: dict[bytes, bytes] | None
) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, metadata=metadata))
