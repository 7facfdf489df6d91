"""Reads what stands before the record batches of an Arrow IPC file, which pyarrow does not tell.

That is a FlatBuffers table, of which the few fields here are looked at: see
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["BatchLayout", "batch_layouts", "compression"]

_RECORD_BATCH = 3
# Fields by number, and how wide they are.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = (1, "<B"), 2, (3, "<q")
_ROWS, _NODES, _BUFFERS, _COMPRESSION, _CODEC = (0, "<q"), 1, 2, 3, (0, "<b")
_CODECS = ("lz4", "zstd")
_FILE_START = b"ARROW1\0\0"


class BatchLayout(NamedTuple):
    """Where the parts of a record batch are."""

    rows: int
    codec: str | None
    #: Number of rows and of nulls of each column, nested ones among them.
    nodes: list[tuple[int, int]]
    #: Offset from the beginning of the body, and length.
    buffers: list[tuple[int, int]]
    body: int
    body_bytes: int


class _Table:
    """A FlatBuffers table at a place in a message."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start
        self._fields = start - self._int("<i", start)

    def _int(self, width: str, at: int) -> int:
        if at < 0:
            raise struct.error("a place before the message")
        return int(struct.unpack_from(width, self._data, at)[0])

    def _place(self, number: int) -> int:
        """Return where a field is, 0 if it is left out."""
        at = 4 + 2 * number
        if at >= self._int("<H", self._fields):
            return 0
        offset = self._int("<H", self._fields + at)
        return self._start + offset if offset else 0

    def number(self, field: tuple[int, str]) -> int:
        place = self._place(field[0])
        return self._int(field[1], place) if place else 0

    def table(self, number: int) -> _Table | None:
        place = self._place(number)
        return _Table(self._data, place + self._int("<I", place)) if place else None

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """Return a vector of structures of two integers of 64 bits."""
        place = self._place(number)
        if not place:
            return []
        place += self._int("<I", place)
        end = place + 4 + 16 * self._int("<I", place)
        if end > len(self._data):
            raise struct.error("a vector beyond the message")
        return list(struct.iter_unpack("<2q", self._data[place + 4 : end]))


def batch_layouts(path: Path) -> Iterator[BatchLayout]:
    """Yield the layouts of the record batches of a file or stream, as far as they can be read."""
    try:
        with open(path, "rb") as file:
            yield from _layouts(file)
    except (struct.error, OSError, OverflowError):  # damaged: pyarrow says so
        return


def compression(path: Path) -> str | None:
    """Return the codec of the first record batch with a body, None if there is none."""
    return next((each.codec for each in batch_layouts(path) if each.body_bytes), None)


def _layouts(file: BinaryIO) -> Iterator[BatchLayout]:
    if file.read(len(_FILE_START)) != _FILE_START:
        file.seek(0)
    while True:
        (size,) = struct.unpack("<i", file.read(4))
        if size == -1:  # since format version 5
            (size,) = struct.unpack("<i", file.read(4))
        if size <= 0:
            return
        data = file.read(size)
        message = _Table(data, struct.unpack_from("<I", data)[0])
        body, body_bytes = file.tell(), message.number(_BODY_LENGTH)
        batch = message.table(_HEADER)
        if message.number(_HEADER_TYPE) == _RECORD_BATCH and batch is not None:
            found = batch.table(_COMPRESSION)
            codec = -1 if found is None else found.number(_CODEC)
            yield BatchLayout(
                batch.number(_ROWS),
                _CODECS[codec] if 0 <= codec < len(_CODECS) else None,
                batch.pairs(_NODES),
                batch.pairs(_BUFFERS),
                body,
                body_bytes,
            )
        file.seek(body + body_bytes)
