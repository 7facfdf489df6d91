"""Reading CSV files in batches.

The first rows of the file show which columns are numeric, and the first value that comes later
where a column has none there; numeric columns are float64 throughout, and cells such as ``NA`` or
none at all are missing values. All others are text, kept character for character; where types are
needed, all their cells decide.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

import numpy as np

from normcore.io.arrow.storable import refuse_types
from normcore.io.batch import Field, TableBatch, TableWriter
from normcore.io.csv.batch import RestoredBatch
from normcore.io.csv.columns import column_cells, guess_columns
from normcore.io.csv.errors import shown
from normcore.io.csv.header import is_index, looks_like_data
from normcore.io.csv.kinds import Kind, PassingColumns, Seen
from normcore.io.csv.numbers import Numbers
from normcore.io.csv.options import CsvOptions
from normcore.io.csv.rows import BadRows, read_cells
from normcore.io.csv.stream import CsvStream
from normcore.io.csv.text import COMPRESSIONS, compression_of
from normcore.io.csv.work import CsvWork
from normcore.io.csv.writer import CsvWriter, text_type
from normcore.io.libraries import pa, pc
from normcore.io.output_options import OutputOptions
from normcore.io.table import TableSource

__all__ = ["Csv", "Tsv"]

# As much text as the caches of a processor hold.
_BLOCK_BYTES = 1 << 21
_MIN_ROWS = 64


class Csv(TableSource):
    """Comma-separated values.

    Another delimiter is a subclass with another ``delimiter``.

    Parameters
    ----------
    path : path of the file, or a binary file that is read once
        Compressed if its suffix says so.
    csv : CsvOptions, optional
    """

    format: ClassVar[str] = "CSV"
    delimiter: ClassVar[str] = ","
    is_text: ClassVar[bool] = True
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "memory"

    def __init__(
        self, path: str | os.PathLike[str] | BinaryIO, *, csv: CsvOptions | None = None
    ) -> None:
        super().__init__(path)
        csv = csv or CsvOptions()
        self.options = csv if csv.delimiter else replace(csv, delimiter=self.delimiter)
        self.has_names = csv.header is not False
        self._numbers = Numbers(self.options)
        #: The types of columns that pass through, as far as they are known.
        self.kinds: dict[str, Kind] = {}
        #: A cell of each column of text, and its line.
        self._text_cells: dict[str, tuple[str, int]] = {}
        self._started: CsvStream | None = None
        stream = self._open()
        try:
            self.options = replace(self.options, delimiter=stream.dialect.delimiter.decode())
            self._numbers = Numbers(self.options)
            self._check_names(stream)
            self._set_fields(self._look(stream))
        except BaseException:
            stream.close()
            raise
        if self.reread:
            stream.close()
            self._started = None

    def _open(self) -> CsvStream:
        if self.stream is None:
            return CsvStream(self.path, self.name, self.options)
        if self._started is None:
            self._started = CsvStream(self.stream, self.name, self.options)
        return self._started

    def _check_names(self, stream: CsvStream) -> None:
        reason = looks_like_data(stream.names) if self.options.header is None else None
        if reason:
            stream.fail(
                stream.header_line,
                f"{reason}; say --no-header (header=False) if the file has no header line, or "
                "--header (header=True) if these are the names",
            )

    def _look(self, stream: CsvStream) -> list[Field]:
        """Describe the columns after the first rows."""
        names = stream.names
        block = stream.first_rows()
        cells = pa.array([], pa.string())
        if block is not None:
            try:
                cells, _ = read_cells(block, len(names), stream.dialect)
            except BadRows:
                for _ in stream.parsed(lambda cells, quoted: None, len(block.data)):
                    pass  # says where and why
        self._cell_bytes = _cell_bytes(cells, len(names))
        guess = guess_columns(cells, len(names), self._numbers)
        numeric = guess.numeric.copy()
        if self.reread and guess.empty.any() and block is not None:
            places = np.flatnonzero(guess.empty)
            numeric[places] = self._late_values(places)
        #: Columns whose type may be one of numbers if they pass through.
        self._open_kinds = [name for name, is_ in zip(names, numeric, strict=True) if is_]
        self._truth = {name for name, is_ in zip(names, guess.truth, strict=True) if is_}
        self.settled = self.reread or not self._open_kinds
        fields = []
        for number, name in enumerate(names):
            if is_index(number, name):
                fields.append(Field(name, None, "the pandas index"))
                self.notes += (
                    f"{self.name}: column {name!r} is taken for the index that pandas writes, and "
                    "left alone",
                )
            elif numeric[number]:
                fields.append(Field(name, np.dtype(np.float64)))
            elif guess.truth[number]:
                fields.append(Field(name, np.dtype(np.float64), "truth values", by_default=False))
            else:
                fields.append(Field(name, None, "text"))
                if block is not None and not guess.numeric[number]:
                    row = int(guess.text_row[number])
                    cell = shown(cells[row * len(names) + number].as_py())
                    self._text_cells[name] = cell, stream.line_of(block, row)
        return fields

    def _late_values(self, positions: np.ndarray) -> np.ndarray:
        """Return whether the first values of some columns are numbers, or none comes at all."""
        is_number = np.ones(len(positions), bool)
        waiting = np.ones(len(positions), bool)

        def first_values(cells: pa.Array, quoted: bool) -> tuple[np.ndarray, pa.Array]:
            found = column_cells(cells, width, positions)
            present = ~self._numbers.is_missing(found).reshape(len(positions), -1)
            has = np.asarray(present.any(axis=1))
            rows = np.argmax(present[has], axis=1) if has.any() else np.zeros(0, int)
            return has, cells.take(pa.array(rows * width + positions[has]))

        with closing(self._open()) as stream:
            width = len(stream.names)
            for has, values in stream.parsed(first_values, _BLOCK_BYTES):
                new = np.zeros(len(positions), bool)
                new[has] = ~self._numbers.are(values)
                is_number[waiting & new] = False
                waiting &= ~has
                if not waiting.any():
                    break
        return is_number

    def example(self, name: str) -> str:
        """See :meth:`TableSource.example`."""
        if name not in self._text_cells:
            return ""
        return "as {} in line {}".format(*self._text_cells[name])

    def settle(self, numeric: Sequence[str]) -> bool:
        """See :meth:`TableSource.settle`."""
        columns = self.passing(numeric)
        if not columns.names:
            return True
        if not self.reread:
            return False
        self.look(columns)
        self.kinds.update(columns.result())
        return True

    def passing(self, numeric: Sequence[str]) -> PassingColumns:
        """Return what finds out the types that :meth:`settle` is to know."""
        return PassingColumns(self._undecided(numeric), self._numbers)

    def look(self, columns: PassingColumns) -> None:
        """Show all cells of some columns to what finds out their types."""
        with closing(self._open()) as stream:
            places = np.array([stream.names.index(name) for name in columns.names])
            width = len(stream.names)

            def look(cells: pa.Array, quoted: bool) -> Seen:
                return columns.look(column_cells(cells, width, places))

            for seen in stream.parsed(look, self._block_bytes()):
                columns.add(seen)

    def kept_bytes(self, numeric: Sequence[str]) -> int:
        """See :meth:`TableSource.kept_bytes`."""
        size = (self.num_bytes or 0) * (1 if compression_of(self.path) is None else 4)
        wanted = set(numeric)
        kept = [
            8.0 if field.name in wanted else cell + 4.0  # and an offset
            for field, cell in zip(self.fields, self._cell_bytes.tolist(), strict=True)
        ]
        return int(size * sum(kept) / (self._cell_bytes.sum() + len(kept)))

    def _undecided(self, numeric: Sequence[str]) -> list[str]:
        known = {*numeric, *self.kinds}
        return [name for name in self._open_kinds if name not in known]

    def _block_bytes(self) -> int:
        # Long rows come several at a time, since something is done for each column of a batch.
        rows = int(_MIN_ROWS * (self._cell_bytes.sum() + len(self._cell_bytes)))
        return max(min(max(_BLOCK_BYTES, rows), self.batch_bytes // 2), 1 << 12)

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        if batch_rows is not None and batch_rows < 1:
            raise ValueError(f"batch_rows must be positive, not {batch_rows}")
        columns = None
        if others and not self.settled:
            columns = self.passing(numeric)
        first_row = 0
        with closing(self._open()) as stream:
            work = CsvWork(stream.names, numeric, others, self._truth, self._numbers, columns)
            for rows in stream.parsed(work, self._block_bytes()):
                if columns is not None and rows.seen is not None:
                    columns.add(rows.seen)
                self.bytes_read = stream.bytes_read
                batch = work.batch(first_row, rows, {} if columns else self.kinds)
                step = batch_rows or max(batch.num_rows, 1)
                for start in range(0, batch.num_rows, step):
                    yield batch.sliced(start, min(start + step, batch.num_rows))
                first_row += batch.num_rows
            if first_row == 0:
                yield work.batch(0, work(pa.array([], pa.string()), False), self.kinds)
        self.bytes_read = self.num_bytes or self.bytes_read
        if columns is not None:
            self.kinds.update(columns.result())
            self.settled = True

    def restore(self, first_row: int, data: pa.RecordBatch) -> TableBatch:
        """See :meth:`TableSource.restore`."""
        return RestoredBatch(first_row, data, self._numbers, self.kinds)

    def close(self) -> None:
        """See :meth:`TableSource.close`."""
        if self._started is not None:
            self._started.close()

    @classmethod
    def check_fields(cls, fields: Sequence[Field]) -> None:
        """See :meth:`TableSource.check_fields`."""
        refuse_types(fields, text_type, cls.format, ".parquet or .arrow")

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """See :meth:`TableSource.sink`."""
        return cls.sink_like(path, None, OutputOptions())

    @classmethod
    def check_output(cls, path: Path | None, output: OutputOptions) -> None:
        """See :meth:`TableSource.check_output`."""
        if output.row_group_rows is not None:
            raise ValueError(f"{cls.format} files have no row groups")
        if output.compression not in (None, "none", *COMPRESSIONS.values()):
            raise ValueError(
                f"{cls.format} has no compression {output.compression!r}; it has none, "
                f"{', '.join(COMPRESSIONS.values())}"
            )
        named = None if path is None else compression_of(path) or "none"
        if None not in (named, output.compression) and named != output.compression:
            raise ValueError(
                f"the name of the output says {named}, and the compression is to be "
                f"{output.compression}; leave that out, or choose another name"
            )

    @classmethod
    def sink_like(
        cls, target: Path | BinaryIO, source: TableSource | None, output: OutputOptions
    ) -> TableWriter:
        """See :meth:`TableSource.sink_like`."""
        compression = output.compression
        if isinstance(target, Path):
            compression = compression_of(target)
        options = CsvOptions(delimiter=cls.delimiter)
        if isinstance(source, Csv):
            options = replace(options, decimal=source.options.decimal)
            if source.delimiter == cls.delimiter:
                options = source.options
        return CsvWriter(target, options, None if compression == "none" else compression)


class Tsv(Csv):
    """Values separated by tabs."""

    format: ClassVar[str] = "TSV"
    delimiter: ClassVar[str] = "\t"


def _cell_bytes(cells: pa.StringArray, width: int) -> np.ndarray:
    """Return how long the cells of each column are on average."""
    lengths = pc.fill_null(pc.binary_length(cells), 0)
    table = lengths.to_numpy(zero_copy_only=False).reshape(-1, width)
    return np.asarray(table.mean(axis=0)) if len(table) else np.ones(width)
