"""What tables that pyarrow reads have in common: a schema, and record batches cut to size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from normcore.io.arrow import pandas_metadata
from normcore.io.arrow.batch import ArrowBatch, record_batch
from normcore.io.arrow.numeric_types import describe
from normcore.io.batch import Field, TableBatch, TableWriter, choose_batch_rows
from normcore.io.libraries import pa
from normcore.io.output_options import OutputOptions
from normcore.io.table import TableSource

__all__ = ["ArrowSource", "cut", "damage_errors", "first_line", "read_errors", "validated"]

_INDEX = "the index of pandas"


class ArrowSource(TableSource):
    """A table whose columns have Arrow types.

    Attributes
    ----------
    schema : pyarrow.Schema
    """

    schema: pa.Schema

    #: What "is not a readable ... file" calls the format.
    format: ClassVar[str] = "Arrow"

    @abstractmethod
    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterable[tuple[pa.RecordBatch, int]]:
        """Yield record batches of some columns, and how many bytes of the file are read.

        Those of more than ``batch_rows`` rows or more bytes than ``batch_bytes`` are cut.
        """

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        wanted = set(numeric)
        schema = self.schema
        if not others:
            fields = [field for field in schema if field.name in wanted]
            schema = pa.schema(fields, metadata=schema.metadata)
        step = choose_batch_rows(len(schema), batch_rows)
        self.bytes_read = first_row = 0
        with read_errors(self.name, self.format):
            for part, bytes_read in self._parts(schema.names, step):
                self.bytes_read = bytes_read
                for data in cut(part, step, self.batch_bytes):
                    yield ArrowBatch(first_row, data)
                    first_row += data.num_rows
            if first_row == 0:
                empty = [pa.nulls(0, field.type) for field in schema]
                yield ArrowBatch(0, record_batch(empty, list(schema), schema.metadata))

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """See :meth:`TableSource.sink`."""
        return cls.sink_like(path, None, OutputOptions())

    def _set_schema(self, schema: pa.Schema) -> None:
        self.schema = schema
        with read_errors(self.name, self.format):  # names may be no text
            index = pandas_metadata.index_columns(schema.metadata)
            fields = [_described(field, index) for field in schema]
        self._set_fields(fields)
        self.notes += tuple(
            f"column {field.name!r} is {_INDEX} and is left alone"
            for field in self.fields
            if field.kind == _INDEX and field.dtype is not None
        )


def _described(field: pa.Field, index: set[str]) -> Field:
    described = describe(field)
    if field.name in index:
        return described._replace(kind=_INDEX, by_default=False)
    return described


def cut(data: pa.RecordBatch, rows: int, nbytes: int) -> Iterator[pa.RecordBatch]:
    """Cut a record batch into slices of so many rows and so many bytes, or of one row."""
    if data.num_rows == 0:
        return
    # Dictionaries are not cut.
    fixed = data.slice(0, 0).nbytes
    size = data.nbytes - fixed
    yield from _cut(data, rows, nbytes, size, fixed)


def _cut(
    data: pa.RecordBatch, rows: int, nbytes: int, size: int, fixed: int
) -> Iterator[pa.RecordBatch]:
    if data.num_rows <= rows and (size <= nbytes or data.num_rows == 1):
        yield data
        return
    step = min(rows, max(1, data.num_rows * nbytes // max(size, 1)), data.num_rows - 1)
    for start in range(0, data.num_rows, step):
        part = data.slice(start, step)
        yield from _cut(part, rows, 2 * nbytes, part.nbytes - fixed, fixed)


@contextmanager
def damage_errors(where: str, culprit: Callable[[], str] = str) -> Iterator[None]:
    """Turn errors of pyarrow into those of a place in a file that is damaged.

    ``culprit`` is called for more on the place, once something went wrong.
    """
    try:
        yield
    except pa.ArrowCancelled:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{where} is damaged: {culprit()}{first_line(error)}") from error


@contextmanager
def read_errors(name: str, format_: str) -> Iterator[None]:
    """Turn errors of pyarrow into those of a file that is not what it claims to be."""
    try:
        yield
    except pa.ArrowCancelled as error:
        raise KeyboardInterrupt from error
    except MemoryError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, KeyError) as error:  # names, numbers of types
        raise _unreadable(name, format_, error) from error
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or name
            raise
        raise _unreadable(name, format_, error) from error


def _unreadable(name: str, format_: str, error: Exception) -> ValueError:
    return ValueError(f"{name} is not a readable {format_} file: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """Return what an error says, without the lines on where in a library it was found."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def validated(data: pa.RecordBatch, where: str) -> pa.RecordBatch:
    """Return a record batch that was made elsewhere, once its offsets and indices are known good.

    Raises
    ------
    ValueError
        Naming the first column that is not valid.
    """
    try:
        data.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        for name, column in zip(data.schema.names, data.columns, strict=True):
            try:
                column.validate(full=True)
            except (pa.ArrowException, UnicodeDecodeError) as found:
                raise ValueError(
                    f"{where}, column {name!r}, is damaged: {first_line(found)}"
                ) from error
        raise ValueError(f"{where} is damaged: {first_line(error)}") from error
    return data
