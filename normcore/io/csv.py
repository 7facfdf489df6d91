"""Reading CSV files in batches.

The first block of the file shows which columns are numeric, and the first value that comes later
where a column has none there; numeric columns are float64 throughout, and cells such as ``NA`` or
none at all are missing values. All others are text, kept character for character.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from normcore.io.arrow import ArrowBatch
from normcore.io.csv_errors import MISSING, explain, find_unclosed_quote
from normcore.io.csv_writer import CsvWriter
from normcore.io.digits import LostDigits, is_exact
from normcore.io.libraries import pa, pa_csv, pc
from normcore.io.table import (
    Field,
    TableBatch,
    TableSource,
    TableWriter,
    choose_batch_rows,
    float_dtype,
)

__all__ = ["Csv"]

# pyarrow reads up to 32 blocks ahead.
_BLOCK_BYTES = 1 << 20
_LARGEST_BLOCK_BYTES = 1 << 26
_TOO_LONG = "longer than 64 MiB, the most that is read at once"


class Csv(TableSource):
    """Comma-separated values in UTF-8.

    Another delimiter is a subclass with another ``delimiter``.

    Parameters
    ----------
    path : path of the file
    header : bool, optional
        Whether the first line holds the names of the columns; without, they are f0, f1, ... By
        default it does, and a number among them is an error, since it may be a row of data.
    """

    format: ClassVar[str] = "CSV"
    delimiter: ClassVar[str] = ","
    has_header_line: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str], *, header: bool | None = None) -> None:
        super().__init__(path)
        self._header = header is not False
        self._block_bytes = _BLOCK_BYTES
        self._exact: set[str] = set()
        try:
            names, types = self._first_block()
        except UnicodeDecodeError as error:
            raise self._malformed_error(error, ()) from error
        numbers = [] if header is not None else list(filter(_is_value, names))
        if numbers:
            raise ValueError(
                f"{self.path}, line 1: numbers stand where the names of the columns should be, as "
                f"{numbers[0]!r}; say --no-header (header=False) if the file has no header line, "
                "or --header (header=True) if these are the names"
            )
        text = self._hexadecimal(names, types) | self._late_text(names, types)
        self._set_fields(
            [
                Field(name, float_dtype("f8"), "number")
                if _is_numeric(type_) and name not in text
                else Field(name, None, "text")
                for name, type_ in zip(names, types, strict=True)
            ]
        )

    def _first_block(self) -> tuple[list[str], list[pa.DataType]]:
        while True:
            try:
                with self._open({}, None) as reader:
                    return list(reader.schema.names), list(reader.schema.types)
            except pa.ArrowInvalid as error:
                # Both are also what pyarrow says of a first line longer than a block.
                empty = "Empty CSV" in str(error)
                if not empty and "straddling" not in str(error):
                    raise self._malformed_error(error, ()) from error
                if self._grow_blocks():
                    continue
                if not empty:
                    raise self._malformed_error(error, ()) from error
                if self.num_bytes < self._block_bytes:
                    raise ValueError(f"{self.path} is empty: it has no header line") from error
                raise ValueError(f"{self.path}: the first line is {_TOO_LONG}") from error

    def _grow_blocks(self) -> bool:
        """Read in larger blocks from now on, unless they are the largest or hold the whole file."""
        if self._block_bytes > self.num_bytes or self._block_bytes >= _LARGEST_BLOCK_BYTES:
            return False
        self._block_bytes = min(8 * self._block_bytes, _LARGEST_BLOCK_BYTES)
        return True

    def _hexadecimal(self, names: list[str], types: list[pa.DataType]) -> set[str]:
        """Return the columns that pyarrow takes for integers because they look like 0x1F."""
        with open(self.path, "rb") as file:
            if not re.search(rb"0[xX]", file.read(self._block_bytes)):
                return set()
        integers = [name for name, t in zip(names, types, strict=True) if pa.types.is_integer(t)]
        found: set[str] = set()
        if integers:
            text = {name: pa.string() for name in integers}
            with self._open(text, integers) as reader:
                first = reader.read_next_batch()
            for name in integers:
                if pc.any(pc.match_substring_regex(first.column(name), "0[xX]")).as_py():
                    found.add(name)
        return found

    def _late_text(self, names: list[str], types: list[pa.DataType]) -> set[str]:
        """Return the columns whose first value, after the first block, is not a number."""
        open_ = [name for name, type_ in zip(names, types, strict=True) if pa.types.is_null(type_)]
        found: set[str] = set()
        if open_:
            for data in self._blocks({name: pa.string() for name in open_}, tuple(open_)):
                for name in tuple(open_):
                    column = data.column(name)
                    values = column.filter(pc.invert(pc.is_in(column, pa.array(MISSING))))
                    if len(values):
                        open_.remove(name)
                        try:
                            pc.cast(values, pa.float64())
                        except pa.ArrowInvalid:
                            found.add(name)
                if not open_:
                    break
        return found

    @contextmanager
    def _open(
        self, types: dict[str, pa.DataType], only: Sequence[str] | None
    ) -> Iterator[pa.RecordBatchReader]:
        with (
            _Text(self.path) as file,
            pa_csv.open_csv(
                file,
                # One thread: rows and errors come in order, and memory is that of a few blocks.
                read_options=pa_csv.ReadOptions(
                    use_threads=False,
                    block_size=self._block_bytes,
                    autogenerate_column_names=not self._header,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=types,
                    include_columns=list(only or ()),
                    null_values=list(MISSING),
                    strings_can_be_null=False,
                    auto_dict_encode=False,
                ),
            ) as reader,
        ):
            yield reader

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        wanted = set(numeric)
        types = {f.name: pa.float64() if f.name in wanted else pa.string() for f in self.fields}
        only = None if others else [f.name for f in self.fields if f.name in wanted]
        step = choose_batch_rows(len(only or types), batch_rows)
        first_row = 0
        with _ByteScanner(self.path) as scanner:
            for data in self._blocks(types, only):
                for start in range(0, data.num_rows, step):
                    part = data.slice(start, step)
                    self.bytes_read = scanner.after_rows(first_row + part.num_rows)
                    yield _CsvBatch(first_row, part, self)
                    first_row += part.num_rows
            if scanner.quotes_at_end() % 2:
                # pyarrow closes a quoted cell at the end of the file, whatever it has swallowed.
                line = find_unclosed_quote(self.path, self.delimiter)
                if line is not None:
                    raise ValueError(
                        f"{self.path}, line {line}: a quoted cell in the row that begins here "
                        "does not end"
                    )
        self.bytes_read = self.num_bytes
        if first_row == 0:
            names = only or list(types)
            schema = pa.schema([(name, types[name]) for name in names])
            yield ArrowBatch(0, pa.RecordBatch.from_pylist([], schema=schema))

    def _blocks(
        self, types: dict[str, pa.DataType], only: Sequence[str] | None
    ) -> Iterator[pa.RecordBatch]:
        numeric = [name for name, type_ in types.items() if type_ == pa.float64()]
        done = 0
        while True:
            skip = done
            try:
                with self._open(types, only) as reader:
                    for data in reader:
                        if skip >= data.num_rows:
                            skip -= data.num_rows
                            continue
                        fresh = data.slice(skip)
                        skip = 0
                        yield fresh
                        done += fresh.num_rows
                return
            except pa.ArrowInvalid as error:
                # A row longer than a block: read again in larger blocks, past what is done.
                if "straddling" in str(error) and self._grow_blocks():
                    continue
                raise self._malformed_error(error, numeric) from error
            except pa.ArrowCancelled as error:
                raise KeyboardInterrupt from error

    def check_digits(self, names: Sequence[str]) -> None:
        """Refuse columns with a cell that is a whole number and no float64.

        Reads the file once more, but once only for each column.

        Raises
        ------
        LostDigits
            Naming the first one.
        """
        unknown = [name for name in names if name not in self._exact]
        if not unknown:
            return
        first_row = 0
        for data in self._blocks({name: pa.string() for name in unknown}, unknown):
            for name in unknown:
                column = data.column(name)
                long = pc.match_substring_regex(column, r"^[ \t]*[-+]?\d{16,}(\.0*)?[ \t]*$")
                for row in np.flatnonzero(long.to_numpy(zero_copy_only=False)).tolist():
                    cell = column[row].as_py().strip(" \t")
                    if not is_exact(Decimal(cell)):
                        raise LostDigits(name, cell, first_row + row)
            first_row += data.num_rows
        self._exact.update(unknown)

    def _malformed_error(self, error: Exception, numeric: Sequence[str]) -> ValueError:
        reason = explain(self.path, self.delimiter, numeric, self._header)
        if reason is None and "straddling" in str(error):
            reason = f"{self.path}: a row is {_TOO_LONG}"
        return ValueError(reason or f"{self.path}: {str(error).splitlines()[0]}")

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """See :meth:`TableSource.sink`."""
        return CsvWriter(path, cls.delimiter)


def _is_value(name: str) -> bool:
    """Whether the name of a column may be a value: a number, but no word that is infinity."""
    try:
        float(name)
    except ValueError:
        return False
    return "inf" not in name.lower() and "_" not in name


class _Text(io.BufferedReader):
    """The bytes of a file, in blocks and with an end that pyarrow gets right.

    It drops a line feed that begins a block from the cell that a carriage return ended the block
    before, and overlooks a first line that does not end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(open(path, "rb", buffering=0))  # noqa: SIM115

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        while data.endswith(b"\r") and (more := super().read(1)):
            data += more
        if data and not data.endswith((b"\r", b"\n")) and not self.peek(1):
            data += b"\n"
        return data


class _CsvBatch(ArrowBatch):
    """Rows whose numbers are those that pyarrow made of text."""

    def __init__(self, first_row: int, data: pa.RecordBatch, table: Csv) -> None:
        super().__init__(first_row, data)
        self._table = table

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        result = super().matrix(names)
        large = (np.abs(result) >= 2.0**53).any(axis=0)
        self._table.check_digits([names[i] for i in np.flatnonzero(large).tolist()])
        return result

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> ArrowBatch:
        data = super().with_matrix(names, values).data
        return _CsvBatch(self.first_row, data, self._table)


def _is_numeric(type_: pa.DataType) -> bool:
    # A column that is empty in the first block may hold numbers later.
    return bool(
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_null(type_)
    )


class _ByteScanner:
    """Reads the bytes of the file beside pyarrow: how far rows reach, and how many quotes."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115
        self._bytes = self._lines = self._quotes = 0

    def __enter__(self) -> _ByteScanner:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _read(self) -> bool:
        chunk = self._file.read(1 << 17)
        self._bytes += len(chunk)
        self._lines += chunk.count(b"\n")
        self._quotes += chunk.count(b'"')
        return bool(chunk)

    def after_rows(self, rows: int) -> int:
        """Return roughly how many bytes the header and this many rows take."""
        while self._lines <= rows and self._read():
            pass
        return self._bytes

    def quotes_at_end(self) -> int:
        while self._read():
            pass
        return self._quotes
