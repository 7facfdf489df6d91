"""Writing CSV files.

A float64 is written with the fewest digits that restore it exactly, a missing value as an empty
cell; text is quoted where it has to be. Rows end in a line feed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from normcore.io.libraries import pa, pc
from normcore.io.table import TableBatch, TableWriter

__all__ = ["CsvWriter"]


class CsvWriter(TableWriter):
    """Writes batches as rows of a file."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115
        self._delimiter = delimiter
        self._special = f'["\r\n{re.escape(delimiter)}]'
        self._has_header = False

    def write(self, batch: TableBatch) -> None:
        """See :meth:`TableWriter.write`."""
        data = batch.to_arrow()
        if not self._has_header:
            self._has_header = True
            header = [pa.array([name], pa.large_string()) for name in data.schema.names]
            self._write_lines([self._quoted(name) for name in header])
        if data.num_rows:
            self._write_lines([self._cells(f, data.column(i)) for i, f in enumerate(data.schema)])

    def close(self) -> None:
        """See :meth:`TableWriter.close`."""
        self._file.close()

    def _cells(self, field: pa.Field, column: pa.Array) -> pa.Array:
        try:
            text = pc.cast(column, pa.large_string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"column {field.name!r} holds {field.type}, which CSV cannot; write .parquet or "
                ".arrow, or drop the column first"
            ) from error
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return text
        return self._quoted(text)

    def _quoted(self, text: pa.Array) -> pa.Array:
        special = pc.match_substring_regex(text, self._special)
        if not pc.any(special).as_py():
            return text
        quoted = pc.replace_substring(text, '"', '""')
        quoted = pc.binary_join_element_wise(_string('"'), quoted, _string('"'), _string(""))
        return pc.if_else(special, quoted, text)

    def _write_lines(self, cells: list[pa.Array]) -> None:
        if len(cells) == 1:
            # A line without anything would be no row.
            text = pc.fill_null(cells[0], "")
            cells = [pc.if_else(pc.equal(text, _string("")), _string('""'), text)]
        replace = {"null_handling": "replace", "null_replacement": ""}
        lines = pc.binary_join_element_wise(*cells, _string(self._delimiter), **replace)
        lines = pc.binary_join_element_wise(lines, _string(""), _string("\n"), **replace)
        # The characters of all lines lie one after the other in one buffer.
        self._file.write(lines.buffers()[2])


def _string(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())
