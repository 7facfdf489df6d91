"""Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from normcore.io.arrow import parquet_writer
from normcore.io.arrow.source import ArrowSource, damage_errors, read_errors
from normcore.io.arrow.storable import has_dictionary
from normcore.io.batch import Field, TableWriter
from normcore.io.libraries import pa, pq
from normcore.io.output_options import OutputOptions
from normcore.io.table import TableSource

__all__ = ["Parquet"]

# All columns together; a column reads its pages through a buffer of its share.
_BUFFER_BYTES = 32 << 20
# Row groups are read together until they have so many rows.
_RUN_ROWS = 1 << 18
# Enough rows to learn how long cells are.
_PROBE_ROWS = 256


class Parquet(ArrowSource):
    """Parquet files, whose columns are decoded in parallel.

    Attributes
    ----------
    groups : sequence of int
        The row groups that are read: all of them, unless it is set.
    """

    format: ClassVar[str] = "Parquet"
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "memory"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with read_errors(self.name, self.format):
            metadata = pq.read_metadata(self.path)
            # A buffered stream per column instead of whole column chunks: memory stays small for
            # files of one large row group.
            share = _BUFFER_BYTES // max(metadata.num_columns, 1)
            self._file = pq.ParquetFile(
                self.path,
                metadata=metadata,
                pre_buffer=False,
                buffer_size=min(max(share, 1 << 12), 1 << 18),
                page_checksum_verification=True,
            )
            schema = self._file.schema_arrow
        self.metadata = metadata
        self.num_rows = metadata.num_rows
        self.groups: Sequence[int] = range(metadata.num_row_groups)
        self._set_schema(schema)

    def runs(self, min_rows: int) -> Iterator[tuple[list[int], int]]:
        """Yield row groups that have so many rows together, or are the last, and their rows."""
        run, rows = [], 0
        for group in self.groups:
            run.append(group)
            rows += self.metadata.row_group(group).num_rows
            if rows >= min_rows:
                yield run, rows
                run, rows = [], 0
        if run:
            yield run, rows

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        columns = None if len(names) == len(self.schema) else list(names)
        total, rows = max(self.metadata.num_rows, 1), 0
        bytes_per_row = 0.0
        # pyarrow reads no nested dictionaries across row groups.
        nested = any(
            has_dictionary(type_) and not pa.types.is_dictionary(type_)
            for type_ in self.schema.types
        )
        for groups, num_rows in self.runs(0 if nested else _RUN_ROWS):
            if not _has_one_width([self.schema.field(name) for name in names]):
                bytes_per_row = max(bytes_per_row, self._bytes_per_row(groups[0], columns))
                batch_rows = int(max(1, min(batch_rows, self.batch_bytes / bytes_per_row)))
            expected = rows + num_rows
            for data in self._read(groups, columns, batch_rows):
                rows += data.num_rows
                yield data.select(list(names)), (self.num_bytes or 0) * rows // total
            if rows != expected:
                raise ValueError(
                    f"{self.name}: {rows:,} rows were read up to row group {groups[-1] + 1} of "
                    f"{self.metadata.num_row_groups}, but it says that there are {expected:,}; "
                    "the file is damaged"
                )

    def _bytes_per_row(self, group: int, columns: list[str] | None) -> float:
        """Return about how many bytes of memory a row takes: what is in the file may be encoded."""
        for data in self._read([group], columns, _PROBE_ROWS):
            return float(data.nbytes / max(data.num_rows, 1)) or 1.0
        return 1.0

    def _read(
        self, groups: list[int], columns: list[str] | None, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        with damage_errors(self.name, lambda: self._culprit(groups, columns)):
            yield from self._file.iter_batches(batch_rows, groups, columns)

    def _culprit(self, groups: list[int], columns: list[str] | None) -> str:
        """Name the first row group and column that cannot be read."""
        for group in groups:
            for name in columns or self.schema.names:
                try:
                    for _ in self._file.iter_batches(_PROBE_ROWS, [group], [name]):
                        pass
                except (pa.ArrowException, OSError, UnicodeDecodeError):
                    where = f"row group {group + 1} of {self.metadata.num_row_groups}"
                    return f"{where}, column {name!r}: "
        return ""

    def close(self) -> None:
        """See :meth:`TableSource.close`."""
        self._file.close()

    @classmethod
    def check_output(cls, path: Path | None, output: OutputOptions) -> None:
        """See :meth:`TableSource.check_output`."""
        parquet_writer.codec_of(output)

    @classmethod
    def sink_like(
        cls, target: Path | BinaryIO, source: TableSource | None, output: OutputOptions
    ) -> TableWriter:
        """See :meth:`TableSource.sink_like`."""
        model = None if source is None else source.model
        like = model.metadata if isinstance(model, Parquet) else None
        return parquet_writer.ParquetWriter(target, like, output)

    @classmethod
    def check_fields(cls, fields: Sequence[Field]) -> None:
        """See :meth:`TableSource.check_fields`."""
        parquet_writer.check_fields(fields)


def _has_one_width(fields: Sequence[pa.Field]) -> bool:
    """Whether all cells of a column take the same room."""
    return all(pa.types.is_primitive(field.type) for field in fields)
