"""Arrow IPC files, which Feather (version 2) is another name for, and streams."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from normcore.io.arrow.ipc_messages import BatchLayout, batch_layouts, compression
from normcore.io.arrow.ipc_slices import can_slice, slices
from normcore.io.arrow.ipc_writer import IpcFileWriter, IpcStreamWriter, ipc_options
from normcore.io.arrow.source import ArrowSource, damage_errors, read_errors, validated
from normcore.io.batch import TableWriter
from normcore.io.libraries import pa
from normcore.io.output_options import OutputOptions
from normcore.io.table import TableSource

__all__ = ["ArrowIpc", "ArrowIpcStream"]

# Record batches of more bytes are read in slices.
_LARGE_BATCH = 32 << 20


class ArrowIpc(ArrowSource):
    """Arrow IPC files and streams, told apart by how they begin; what is written is a file.

    Files are not memory-mapped: one that is truncated meanwhile must not end the process.
    """

    format: ClassVar[str] = "Arrow IPC"
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "nothing"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with read_errors(self.name, self.format), self._open(None) as reader:
            schema = reader.schema
        self._set_schema(schema)

    @contextmanager
    def _open(
        self, included: list[int] | None
    ) -> Iterator[pa.RecordBatchReader | pa.RecordBatchFileReader]:
        options = pa.ipc.IpcReadOptions(included_fields=included or [])
        with pa.OSFile(str(self.path)) as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            open_ = pa.ipc.open_file if is_file else pa.ipc.open_stream
            with open_(file, options=options) as reader:
                yield reader

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        names, included = list(names), None
        if len(names) < len(self.schema):
            included = [self.schema.get_field_index(name) for name in names]
        with self._open(included) as reader:
            if isinstance(reader, pa.ipc.RecordBatchFileReader):
                total = reader.num_record_batches
                layouts = self._large_batches(total)
                for index in range(total):
                    where = f"{self.name}: record batch {index + 1} of {total}"
                    done = self._size * (index + 1) // total
                    if index in layouts:
                        for data in self._slices(names, layouts[index], batch_rows, where):
                            yield data, done
                        continue
                    with damage_errors(where):
                        data = reader.get_batch(index)
                    yield validated(data, where).select(names), done
            else:
                index = 0
                while True:
                    index += 1
                    where = f"{self.name}: record batch {index}"
                    try:
                        with damage_errors(where):
                            data = reader.read_next_batch()
                    except StopIteration:
                        return
                    yield validated(data, where).select(names), 0

    def _large_batches(self, total: int) -> dict[int, BatchLayout]:
        """Return those record batches that are to be read in slices."""
        if self._size < _LARGE_BATCH:
            return {}
        found = list(batch_layouts(self.path))
        if len(found) != total:  # as of a file whose batches are in another order
            return {}
        return {
            index: layout
            for index, layout in enumerate(found)
            if layout.body_bytes >= _LARGE_BATCH and can_slice(self.schema, layout)
        }

    def _slices(
        self, names: list[str], layout: BatchLayout, batch_rows: int, where: str
    ) -> Iterator[pa.RecordBatch]:
        try:
            for data in slices(self.path, self.schema, names, layout, batch_rows, self.batch_bytes):
                yield validated(data, where)
        except EOFError as error:
            raise ValueError(f"{where} is damaged: {error}") from error

    @property
    def _size(self) -> int:
        return self.num_bytes or 0

    @classmethod
    def check_output(cls, path: Path | None, output: OutputOptions) -> None:
        """See :meth:`TableSource.check_output`."""
        ipc_options(output.compression)

    @classmethod
    def sink_like(
        cls, target: Path | BinaryIO, source: TableSource | None, output: OutputOptions
    ) -> TableWriter:
        """See :meth:`TableSource.sink_like`."""
        model = None if source is None else source.model
        found = compression(model.path) if isinstance(model, ArrowIpc) else None
        options = ipc_options(output.compression or found)
        if isinstance(target, Path) and not issubclass(cls, ArrowIpcStream):
            return IpcFileWriter(target, options, output.row_group_rows)
        return IpcStreamWriter(target, options, output.row_group_rows)


class ArrowIpcStream(ArrowIpc):
    """Arrow IPC streams: what is written is a stream, whose dictionaries may change."""
