"""Writing Arrow IPC files and streams.

A stream may replace a dictionary from batch to batch; a file has one for each column. Where a
dictionary changes on the way to a file, all is written as a stream beside it, which becomes the
file at the end, when all values are known. (Deltas would do with one pass, but not all readers of
files understand them.)
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from normcore.io.arrow.dictionaries import (
    Dictionaries,
    UnifiedDictionaries,
    dictionaries,
    same_dictionaries,
)
from normcore.io.arrow.groups import RowGroups
from normcore.io.arrow.storable import has_dictionary
from normcore.io.batch import TableBatch, TableWriter
from normcore.io.libraries import pa
from normcore.saving.locked_temporary import LockedTemporary

__all__ = ["IpcFileWriter", "IpcStreamWriter", "ipc_options"]

_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 1 << 25
_CODECS = ("none", "lz4", "zstd")


def ipc_options(compression: str | None) -> pa.ipc.IpcWriteOptions:
    """Return how batches are written.

    Raises
    ------
    ValueError
        If there is no such compression.
    """
    codec = (compression or "none").lower()
    if codec not in _CODECS:
        raise ValueError(f"Arrow IPC has no compression {compression!r}; it has none, lz4, zstd")
    return pa.ipc.IpcWriteOptions(compression=None if codec == "none" else codec)


class _Writer(TableWriter):
    """Gathers rows into record batches of a useful size."""

    def __init__(
        self, target: Path | BinaryIO, options: pa.ipc.IpcWriteOptions, rows: int | None
    ) -> None:
        self._target, self._options = target, options
        self._groups = RowGroups(rows or _GROUP_ROWS, _GROUP_BYTES)
        self._writer: pa.RecordBatchWriter | None = None

    def write(self, batch: TableBatch) -> None:
        """See :meth:`TableWriter.write`."""
        data = batch.to_arrow()
        if self._writer is None:
            self._writer = self._open(data.schema)
        for group in self._groups.add(data):
            self._write_group(group)

    def close(self) -> None:
        """See :meth:`TableWriter.close`."""
        if self._writer is not None:
            try:
                for group in self._groups.rest():
                    self._write_group(group)
            finally:
                self._writer.close()

    def _write_group(self, group: list[pa.RecordBatch]) -> None:
        for data in _together(group):
            self._write(data)

    def _open(self, schema: pa.Schema) -> pa.RecordBatchWriter:
        raise NotImplementedError

    def _write(self, data: pa.RecordBatch) -> None:
        assert self._writer is not None
        self._writer.write_batch(data)


def _together(group: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return record batches as one, unless they have dictionaries, which may not be the same."""
    if len(group) == 1 or any(map(has_dictionary, group[0].schema.types)):
        return group
    return pa.Table.from_batches(group).combine_chunks().to_batches()


class IpcStreamWriter(_Writer):
    """Writes a stream to a file that need not seek."""

    def _open(self, schema: pa.Schema) -> pa.RecordBatchWriter:
        target = str(self._target) if isinstance(self._target, Path) else self._target
        return pa.ipc.new_stream(target, schema, options=self._options)


class IpcFileWriter(_Writer):
    """Writes a file in which each column has one dictionary."""

    def __init__(self, target: Path, options: pa.ipc.IpcWriteOptions, rows: int | None) -> None:
        super().__init__(target, options, rows)
        self._path = target
        self._first: Dictionaries | None = None
        # Once a dictionary has changed: what is written so far and from then on, and all values.
        self._stream: LockedTemporary | None = None
        self._unified: UnifiedDictionaries | None = None

    def _open(self, schema: pa.Schema) -> pa.RecordBatchWriter:
        return pa.ipc.new_file(str(self._path), schema, options=self._options)

    def _write(self, data: pa.RecordBatch) -> None:
        assert self._writer is not None
        found = dictionaries(data)
        if self._first is None:
            self._first = found
        # pyarrow does not notice all changes of nested ones, which would become those before.
        if self._stream is None and not same_dictionaries(self._first, found):
            self._continue_as_stream(data.schema)
        if self._unified is not None:
            self._unified.add(data)
        self._writer.write_batch(data)

    def _continue_as_stream(self, schema: pa.Schema) -> None:
        assert self._writer is not None
        self._writer.close()
        self._stream = LockedTemporary(self._path)
        self._writer = pa.ipc.new_stream(str(self._stream.path), schema)
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            for index in range(reader.num_record_batches):
                data = reader.get_batch(index)
                if self._unified is None:
                    self._unified = UnifiedDictionaries(data)
                self._writer.write_batch(data)

    def close(self) -> None:
        """See :meth:`TableWriter.close`."""
        try:
            super().close()
            if self._unified is not None and self._stream is not None:
                self._write_file(self._stream.path, self._unified)
        finally:
            if self._stream is not None:
                self._stream.remove()

    def _write_file(self, path: Path, unified: UnifiedDictionaries) -> None:
        with (
            pa.OSFile(str(path)) as file,
            pa.ipc.open_stream(file) as stream,
            pa.ipc.new_file(str(self._path), unified.schema, options=self._options) as writer,
        ):
            for data in stream:
                writer.write_batch(unified.applied(data))
