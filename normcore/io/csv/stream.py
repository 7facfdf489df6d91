"""One reading of a CSV file: what precedes the rows, then the rows, parsed in several threads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

from normcore.io.csv.errors import explain, line_of_row, shown, slow_rows
from normcore.io.csv.header import find_delimiter
from normcore.io.csv.options import CsvOptions
from normcore.io.csv.rows import BadRows, Block, Dialect, RowBlocks, first_row, read_cells
from normcore.io.csv.text import CsvText
from normcore.io.libraries import pa
from normcore.io.streaming.ordered import map_ordered

__all__ = ["BadCell", "CsvStream"]

R = TypeVar("R")

_FIRST_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 16
_END_OF_LINE = re.compile(rb"\r\n?|\n")


class BadCell(ValueError):
    """A cell of a numeric column is no number.

    Parameters
    ----------
    row : int
        In its block.
    name : str
        The column.
    cell : str
    """

    def __init__(self, row: int, name: str, cell: str) -> None:
        super().__init__(row, name, cell)
        self.row, self.name, self.cell = row, name, cell


class CsvStream:
    """Reads a file up to its first row of data; then :meth:`parsed` reads on.

    Parameters
    ----------
    source : path, or a binary file
    name : str
        Of the file in messages.
    options : CsvOptions
        With a delimiter.

    Attributes
    ----------
    names : tuple of str
        Of the columns.
    dialect : Dialect
    line : int
        The next one to be read.
    bytes_read : int
        How far the results that were yielded reach in the file, roughly.

    Raises
    ------
    ValueError
        If there is no first row.
    """

    def __init__(self, source: Path | BinaryIO, name: str, options: CsvOptions) -> None:
        self._name = name
        self.line = 1
        self.bytes_read = 0
        self._text = CsvText(source, name, options.encoding)
        try:
            self._begin(options)
        except BaseException:
            self._text.close()
            raise

    def _begin(self, options: CsvOptions) -> None:
        assert options.delimiter is not None
        self._skip_lines(options.skip_rows)
        comment = (options.comment or "").encode()
        self.dialect = Dialect(b",", options.quote.encode(), comment)
        self.dialect = self.dialect._replace(delimiter=self._delimiter(options))
        self._blocks = RowBlocks(self._text, self.dialect, _FIRST_BYTES)
        block, start, end = self._first_row()
        self.line += len(_END_OF_LINE.findall(block.data, 0, start))
        row = block.data[start:end]
        try:
            row.decode()
        except UnicodeDecodeError:
            self.fail(*explain(row, self.dialect, self.line, 0, False))
        ((_, cells),) = slow_rows(row, self.dialect)
        self.header_line = self.line
        if b"\0" in row:
            self.fail(
                self.header_line,
                "the text holds NUL bytes, as UTF-16 does; name its encoding (--encoding utf-16)",
            )
        if options.header is False:
            cells = [f"f{number}" for number in range(len(cells))]
        else:
            self.line += len(_END_OF_LINE.findall(row))
            start = end
        self.names = tuple(cells)
        self._has_header = options.header is not False
        rest = block.data[start:]
        self._ahead = [Block(rest, self.dialect.is_plain(rest))] if rest else []

    def _skip_lines(self, count: int) -> None:
        while count and (data := self._read_sample()):
            ends = [found.end() for found in _END_OF_LINE.finditer(data)][:count]
            if not ends:
                continue  # a very long line
            self._text.unread(data[ends[-1] :])
            self.line += len(ends)
            count -= len(ends)

    def _read_sample(self) -> bytes:
        data = b""
        while len(data) < _SAMPLE_BYTES and (more := self._text.read(_SAMPLE_BYTES - len(data))):
            data += more
        return data

    def _delimiter(self, options: CsvOptions) -> bytes:
        assert options.delimiter is not None
        if options.delimiter != "auto":
            return options.delimiter.encode()
        sample = self._read_sample()
        self._text.unread(sample)
        rows, quote = sample, self.dialect.quote
        if len(sample) >= _SAMPLE_BYTES:
            # Up to the end of a line that is not in quotes.
            end = rows.rfind(b"\n")
            while quote and end > 0 and rows.count(quote, 0, end) % 2:
                end = rows.rfind(b"\n", 0, end)
            rows = rows[: end + 1] or sample
        try:
            return find_delimiter(rows, self.dialect, options.decimal)
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from None

    def _first_row(self) -> tuple[Block, int, int]:
        try:
            for block in self._blocks:
                found = first_row(block, self.dialect)
                if found is not None:
                    return block, *found
                self.line += len(_END_OF_LINE.findall(block.data))
        except BadRows as error:
            self.fail(self.line, str(error).replace("a row is", "the first line is"))
        raise ValueError(f"{self._name} is empty: it has no header line")

    def first_rows(self) -> Block | None:
        """Return the next rows, which :meth:`parsed` will read again; None if there are none."""
        try:
            for block in chain(self._ahead, self._blocks):
                if block not in self._ahead:
                    self._ahead.append(block)
                if first_row(block, self.dialect) is not None:
                    return block
        except BadRows as error:
            self.fail(self.line, str(error))
        return None

    def parsed(self, work: Callable[[pa.Array, bool], R], size: int) -> Iterator[R]:
        """Read all rows.

        Parameters
        ----------
        work : callable
            Called in threads with the cells of some rows, row after row, and whether they may hold
            delimiters or quotes; may raise :class:`BadCell`. The results come in order.
        size : int
            About the number of bytes to read at a time.

        Raises
        ------
        ValueError
            Where the file is malformed, naming the line.
        """

        def parse(item: tuple[Block, int]) -> tuple[int, R]:
            cells, lines = read_cells(item[0], len(self.names), self.dialect)
            return lines, work(cells, not item[0].plain)

        def blocks() -> Iterator[tuple[Block, int]]:
            while self._ahead:
                yield self._ahead.pop(0), self._text.bytes_read
            for block in self._blocks:
                yield block, self._text.bytes_read

        self._blocks.size = size
        try:
            for (block, place), result in map_ordered(parse, blocks(), "csv"):
                lines, value = self._located(block, result)
                self.bytes_read = place
                yield value
                self.line += lines
        except BadRows as error:
            self.fail(self.line, str(error))

    def _located(self, block: Block, result: Callable[[], tuple[int, R]]) -> tuple[int, R]:
        dialect = self.dialect
        try:
            return result()
        except BadRows:
            self.fail(*explain(block.data, dialect, self.line, len(self.names), self._has_header))
        except BadCell as error:
            line = line_of_row(block.data, dialect, self.line, error.row)
            self.fail(
                line,
                f"column {error.name!r}: {shown(error.cell)} is not a number; correct it, or leave "
                "the column out (--exclude, exclude=) or name those to normalize (--columns a,b, "
                "columns=): all others pass through untouched",
            )

    def line_of(self, block: Block, row: int) -> int:
        """Return the line of a row of the block that is read next."""
        return line_of_row(block.data, self.dialect, self.line, row)

    def fail(self, line: int, reason: str) -> NoReturn:
        """Raise a ValueError that names the file and a line."""
        raise ValueError(f"{self._name}, line {line}: {reason}")

    def close(self) -> None:
        """Let go of the file."""
        self._text.close()
