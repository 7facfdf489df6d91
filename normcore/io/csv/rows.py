"""Cuts the text of a CSV file into blocks of whole rows, and these into cells.

Quotes are read as pyarrow and Python's csv module read them: one that begins a cell encloses it up
to the next that is not doubled; any other is a character. All cells of a block come as one array,
row after row, so that a file of many columns costs no more than one of few.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from normcore.io.csv.cells import end_of_rows, split_cells, split_quoted_cells
from normcore.io.libraries import pa

__all__ = [
    "LARGEST_ROW",
    "TOO_LONG",
    "BadRows",
    "Block",
    "Dialect",
    "RowBlocks",
    "first_row",
    "read_cells",
]

LARGEST_ROW = 1 << 26
TOO_LONG = "longer than 64 MiB, the most that is read at once"


class Readable(Protocol):
    """What text is read from."""

    def read(self, size: int) -> bytes:
        """Return some bytes, none at the end."""


class BadRows(ValueError):
    """A block does not consist of rows with as many cells as there are columns."""


class Dialect(NamedTuple):
    """Which bytes have a meaning."""

    delimiter: bytes
    #: Empty if there is none.
    quote: bytes = b'"'
    #: What begins a line to be left out; empty if nothing does.
    comment: bytes = b""

    def is_plain(self, data: bytes) -> bool:
        """Whether nothing but delimiters and ends of lines can have a meaning in a text."""
        return not self.comment and not (self.quote and self.quote in data)

    def end_of_rows(self, data: bytes, *, first: bool = False) -> int:
        """Return where the last whole row ends, or the first one; 0 if there is none."""
        quote = self.quote[0] if self.quote else -1
        return end_of_rows(data, self.delimiter[0], quote, self.comment, first)


class Block(NamedTuple):
    """Some consecutive whole rows."""

    data: bytes
    #: Whether neither quotes nor comments are among them.
    plain: bool


class RowBlocks:
    """Cuts text into blocks of whole rows; every one ends with the end of a line.

    Parameters
    ----------
    text : Readable
    dialect : Dialect
    size : int
        About the number of bytes of a block; may be changed on the way.

    Raises
    ------
    BadRows
        If a row is too long or does not end. The blocks before end where it begins.
    """

    def __init__(self, text: Readable, dialect: Dialect, size: int) -> None:
        self._text = text
        self._dialect = dialect
        self.size = size
        self._rest = b""

    def __iter__(self) -> Iterator[Block]:
        return self

    def __next__(self) -> Block:
        dialect, rest = self._dialect, self._rest
        while data := self._text.read(max(self.size - len(rest), len(rest), 1)):
            data = rest + data
            plain = dialect.is_plain(data)
            if plain:
                end = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1
            else:
                end = dialect.end_of_rows(data)
            if end:
                self._rest = data[end:]
                return Block(data[:end], plain)
            rest = data
            if len(rest) > LARGEST_ROW:
                raise BadRows(self._unfinished(rest) or f"a row is {TOO_LONG}")
        if not rest:
            raise StopIteration
        self._rest = b""
        if not rest.endswith(b"\n"):
            rest = rest.removesuffix(b"\r") + b"\n"
        if reason := self._unfinished(rest):
            raise BadRows(reason)
        return Block(rest, dialect.is_plain(rest))

    def _unfinished(self, rest: bytes) -> str | None:
        quoted = not self._dialect.is_plain(rest)
        if quoted and self._dialect.end_of_rows(rest + b"\n") != len(rest) + 1:
            return "a quoted cell in the row that begins here does not end"
        return None


def first_row(block: Block, dialect: Dialect) -> tuple[int, int] | None:
    """Return where the first row begins and ends that is neither blank nor a comment, if any."""
    end = dialect.end_of_rows(block.data, first=True)
    if not end:
        return None
    # Lines before it are blank or left out, and have no quotes that count.
    start = 0
    lines = block.data[:end].splitlines(keepends=True)
    for line in lines:
        if line.strip(b"\r\n") and not (dialect.comment and line.startswith(dialect.comment)):
            break
        start += len(line)
    return start, end


def read_cells(block: Block, width: int, dialect: Dialect) -> tuple[pa.StringArray, int]:
    """Return all cells of a block, row after row, and how many lines it has.

    A cell of nothing, unless in quotes, is null.

    Raises
    ------
    BadRows
        If a row has more or less than ``width`` cells, or the text is not UTF-8.
    """
    data, plain = block
    split = None
    if plain and b"\r" not in data and (width > 1 or not _has_blank_line(data)):
        split = split_cells(data, dialect.delimiter[0], width)
    if split is not None:
        text, offsets = split
        present = offsets[1:] != offsets[:-1]
        lines = len(present) // width
    else:
        quote = dialect.quote[0] if dialect.quote else -1
        slow = split_quoted_cells(data, dialect.delimiter[0], quote, dialect.comment, width)
        if slow is None:
            raise BadRows
        text, offsets, present, lines = slow
    if not data.isascii():
        try:
            pa.array([data], pa.binary()).cast(pa.string())
        except pa.ArrowInvalid as error:
            raise BadRows from error  # it is not UTF-8
    valid = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
    cells = pa.StringArray.from_buffers(
        len(present), pa.py_buffer(offsets), pa.py_buffer(text), valid
    )
    return cells, lines


def _has_blank_line(data: bytes) -> bool:
    return data.startswith(b"\n") or b"\n\n" in data
