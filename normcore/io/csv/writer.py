"""Writing CSV files.

A float64 is written with the fewest digits that restore it exactly, a missing value as an empty
cell; text is quoted where it has to be. Rows end in a line feed. All cells of a batch are one
array, so that many columns cost no more than few, and batches become text in several threads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from normcore.io.arrow.numeric_types import plain, value_type
from normcore.io.batch import TableBatch, TableWriter
from normcore.io.csv import lines as compiled_lines
from normcore.io.csv.batch import CsvBatch, RestoredBatch
from normcore.io.csv.options import CsvOptions
from normcore.io.libraries import pa, pc
from normcore.io.streaming.ordered import Ordered

__all__ = ["CsvWriter", "text_type"]


def text_type(type_: pa.DataType) -> pa.DataType | None:
    """Return the type of the text in which columns of a type are written, None if there is none."""
    try:
        return pc.cast(pa.nulls(0, value_type(type_)), pa.string()).type
    except pa.ArrowNotImplementedError:
        return None


class CsvWriter(TableWriter):
    """Writes batches as rows of a file.

    Parameters
    ----------
    target : path, or a binary file
        The latter is left open.
    options : CsvOptions
        Delimiter, quote, decimal point and what begins comments count here.
    compression : str, optional
        As pyarrow calls it.
    """

    def __init__(
        self, target: Path | BinaryIO, options: CsvOptions, compression: str | None = None
    ) -> None:
        self._raw = open(target, "wb") if isinstance(target, Path) else target  # noqa: SIM115
        self._owned = isinstance(target, Path)
        self._file: BinaryIO | pa.NativeFile = self._raw
        if compression is not None:
            self._file = pa.CompressedOutputStream(pa.PythonFile(self._raw, mode="w"), compression)
        assert options.delimiter is not None
        self._delimiter, self._quote = options.delimiter, options.quote
        self._decimal = options.decimal
        self._special = f"[{re.escape(self._quote + self._delimiter)}\r\n]"
        if options.comment and self._quote:  # a row that begins so would be left out
            self._special += f"|^{re.escape(options.comment)}"
        self._has_header = False
        self._work: Ordered[pa.Buffer] = Ordered("format")

    def write(self, batch: TableBatch) -> None:
        """See :meth:`TableWriter.write`."""
        if not self._has_header:
            self._has_header = True
            names = pa.array([name or None for name in _names(batch)], pa.string())
            self._file.write(self._lines(self._quoted(names), len(names)))
        if batch.num_rows:
            self._work.submit(self._format, batch)
        while len(self._work) >= self._work.ahead:
            self._file.write(self._work.take())

    def close(self) -> None:
        """See :meth:`TableWriter.close`."""
        try:
            while len(self._work):
                self._file.write(self._work.take())
        finally:
            self._work.close()
            if self._file is not self._raw:
                self._file.close()
            if self._owned:
                self._raw.close()

    def _format(self, batch: TableBatch) -> pa.Buffer:
        compiled = compiled_lines.AVAILABLE and self._decimal == "."
        if isinstance(batch, CsvBatch):
            if compiled and len(batch.names) > 1:
                return self._compiled_lines(
                    batch.values, batch.missing, batch.numeric, self._others(batch),
                    len(batch.names),
                )  # fmt: skip
            cells = self._csv_cells(batch)
        else:
            data = batch.as_text() if isinstance(batch, RestoredBatch) else batch.to_arrow()
            floats = [i for i, type_ in enumerate(data.schema.types) if type_ == pa.float64()]
            if compiled and floats and data.num_columns > 1:
                others = sorted({*range(data.num_columns)}.difference(floats))
                values, missing = _float_rows([data.column(i) for i in floats], data.num_rows)
                text = self._arrow_cells(data, others)
                return self._compiled_lines(
                    values, missing, np.array(floats), text, data.num_columns
                )
            cells = self._arrow_cells(data, range(data.num_columns))
        return self._lines(cells, len(cells) // batch.num_rows)

    def _compiled_lines(
        self,
        values: np.ndarray,
        missing: np.ndarray | None,
        numeric: np.ndarray,
        others: pa.StringArray,
        width: int,
    ) -> pa.Buffer:
        """Return all lines, as :meth:`_lines` makes them of cells.

        Parameters
        ----------
        values, missing : arrays of shape (num_rows, len(numeric))
        numeric : array of int
            Where these columns are.
        others : pyarrow.StringArray
            The cells of the other columns, row after row.
        width : int
            The number of columns.
        """
        _, starts, text = others.buffers()
        offsets = np.zeros(1, np.int32)
        if len(others):
            offsets = np.frombuffer(starts, np.int32)[
                others.offset : others.offset + len(others) + 1
            ]
        layout = np.full(width, -1, np.int32)
        layout[numeric] = np.arange(len(numeric))
        missing = np.empty((0, len(numeric)), bool) if missing is None else missing
        lines = compiled_lines.rows_to_lines(
            np.ascontiguousarray(values),
            missing.view(np.uint8),
            offsets,
            np.frombuffer(text or b"", np.uint8),
            layout,
            ord(self._delimiter),
        )
        return pa.py_buffer(lines)

    def _others(self, batch: CsvBatch) -> pa.StringArray:
        # Cells that were found without quotes need none.
        return batch.cells if batch.delimiter == self._delimiter else self._quoted(batch.cells)

    def _csv_cells(self, batch: CsvBatch) -> pa.Array:
        """Return all cells, row after row."""
        missing = None if batch.missing is None else batch.missing.ravel()
        values = pa.array(batch.values.ravel(), pa.float64(), mask=missing)
        numbers = self._with_decimal(pc.cast(values, pa.string()))
        others = self._others(batch)
        width, count = len(batch.names), len(batch.numeric)
        index = np.empty((batch.num_rows, width), np.int32)
        index[:, batch.numeric] = np.arange(len(numbers)).reshape(batch.num_rows, count)
        if width > count:
            places = np.arange(len(numbers), len(numbers) + len(others))
            index[:, batch.others] = places.reshape(-1, width - count)
        elif np.array_equal(batch.numeric, np.arange(width)):
            return numbers
        return pa.concat_arrays([numbers, others]).take(pa.array(index.ravel()))

    def _arrow_cells(self, data: pa.RecordBatch, chosen: Sequence[int]) -> pa.StringArray:
        """Return the cells of some columns, row after row."""
        if not chosen:
            return pa.array([], pa.string())
        places: dict[pa.DataType, list[int]] = {}
        for place, index in enumerate(chosen):
            places.setdefault(data.column(index).type, []).append(place)
        order: list[int] = []
        parts: list[pa.Array] = []
        for type_, of_type in places.items():
            order += of_type
            columns = [plain(data.column(chosen[place])) for place in of_type]
            try:
                text = pc.cast(pa.concat_arrays(columns), pa.string())
            except pa.ArrowInvalid as error:  # binary that is no UTF-8
                name = data.schema.names[chosen[of_type[0]]]
                raise ValueError(
                    f"column {name!r} holds {type_}, which CSV cannot; "
                    "write .parquet or .arrow, or drop the column first"
                ) from error
            number = pa.types.is_floating(type_) or pa.types.is_integer(type_)
            parts.append(self._with_decimal(text) if number else self._quoted(text))
        # Column after column in another order, to become row after row.
        start = np.empty(len(order), np.intp)
        start[order] = np.arange(len(order)) * data.num_rows
        rows = np.arange(data.num_rows)[:, None] + start
        return pa.concat_arrays(parts).take(pa.array(rows.ravel()))

    def _with_decimal(self, text: pa.Array) -> pa.Array:
        if self._decimal == ".":
            return text
        text = pc.replace_substring(text, ".", self._decimal)
        return self._quoted(text) if self._decimal == self._delimiter else text

    def _quoted(self, text: pa.Array) -> pa.Array:
        special = pc.match_substring_regex(text, self._special)
        if self._quote:  # what is nothing, but no missing value, was in quotes
            special = pc.or_(special, pc.equal(pc.binary_length(text), 0))
        if not pc.any(special).as_py():
            return text
        if not self._quote:
            raise ValueError(
                "a cell holds the delimiter or the end of a line, and there is no quote to enclose "
                "it; choose another delimiter or a quote"
            )
        quoted = pc.replace_substring(text, self._quote, 2 * self._quote)
        quoted = pc.binary_join_element_wise(self._quote, quoted, self._quote, "")
        return pc.if_else(special, quoted, text)

    def _lines(self, cells: pa.Array, width: int) -> pa.Buffer:
        # A line without anything would be no row.
        cells = pc.fill_null(cells, self._quote * 2 if width == 1 else "")
        if width > 1:
            offsets = pa.array(np.arange(0, len(cells) + 1, width), pa.int32())
            cells = pc.binary_join(pa.ListArray.from_arrays(offsets, cells), self._delimiter)
        lines = pc.binary_join_element_wise(cells, "", "\n")
        # The characters of all lines lie one after the other in one buffer.
        return lines.buffers()[2]


def _float_rows(columns: list[pa.Array], num_rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return columns of float64 as rows, and which of them are null; None if none is."""
    values = np.empty((num_rows, len(columns)))
    missing = None
    for index, column in enumerate(columns):
        values[:, index] = column.to_numpy(zero_copy_only=False)
        if column.null_count:
            if missing is None:
                missing = np.zeros(values.shape, bool)
            missing[:, index] = column.is_null().to_numpy(zero_copy_only=False)
    values[np.isnan(values)] = np.nan  # whose sign is written too
    return values, missing


def _names(batch: TableBatch) -> list[str]:
    return list(batch.names) if isinstance(batch, CsvBatch) else batch.to_arrow().schema.names
