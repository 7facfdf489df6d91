"""Where a CSV file is malformed: a slow second look at a block that could not be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice

from normcore.io.csv.rows import Dialect

__all__ = ["explain", "line_of_row", "shown", "slow_rows"]

# A cell of this many characters is taken for a quote that lacks its end.
_LONGEST_CELL = 1 << 27


class _Lines:
    """The lines of a text; those that are comments are left out where a row begins."""

    def __init__(self, text: str, comment: str) -> None:
        self._lines = iter(io.StringIO(text, newline=""))
        self._comment = comment
        self.row_begins = True
        self.count = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        while self.row_begins and self._comment and line.startswith(self._comment):
            line = next(self._lines)
            self.count += 1
        self.row_begins = False
        return line


def slow_rows(
    data: bytes, dialect: Dialect, first_line: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of every row; blank lines are none."""
    lines = _Lines(data.decode("utf-8", "replace"), dialect.comment.decode())
    previous = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.reader(
            lines,
            delimiter=dialect.delimiter.decode(),
            quotechar=dialect.quote.decode() or None,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        )
        while True:
            lines.row_begins = True
            before = lines.count
            try:
                cells = next(reader)
            except StopIteration:
                return
            # Lines that were left out come before the row.
            extent = sum(cell.count("\n") for cell in cells)
            line = max(before + 1, lines.count - extent)
            if cells:
                yield first_line + line - 1, cells
    finally:
        csv.field_size_limit(previous)


def shown(cell: str) -> str:
    """Return a cell for a message."""
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")


def line_of_row(data: bytes, dialect: Dialect, first_line: int, row: int) -> int:
    """Return the line in which a row of a block begins."""
    marks = (dialect.quote, dialect.comment, b"\r", b"\n\n")
    if not any(mark and mark in data for mark in marks) and not data.startswith(b"\n"):
        return first_line + row
    lines = (line for line, _ in slow_rows(data, dialect, first_line))
    return next(islice(lines, row, None))


def explain(
    data: bytes, dialect: Dialect, first_line: int, width: int, has_header: bool
) -> tuple[int, str]:
    """Return the line at which a block is malformed, and why.

    Parameters
    ----------
    data : bytes
        The block.
    dialect : Dialect
    first_line : int
        The line with which it begins.
    width : int
        How many cells a row must have.
    has_header : bool
        Whether this is known from a header.
    """
    line = first_line
    for content in data.splitlines(keepends=True):
        try:
            content.decode()
        except UnicodeDecodeError as error:
            return line, (
                f"the text is not UTF-8 (byte {error.start + 1} of the line is "
                f"0x{content[error.start]:02x}); name its encoding, as --encoding cp1252, or "
                "convert the file first"
            )
        line += 1
    for line, cells in slow_rows(data, dialect, first_line):
        if len(cells) != width:
            has = "header" if has_header else "first row"
            fields = f"{len(cells)} field{'s' if len(cells) != 1 else ''}"
            unclosed = any("\n" in cell for cell in cells)
            hint = ": a quote that opens here may lack its end" if unclosed else ""
            return line, f"{fields} where the {has} has {width}{hint}"
    return first_line, "the rows that begin here cannot be read"
