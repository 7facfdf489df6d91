"""ORC files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from normcore.io.arrow.source import ArrowSource, damage_errors, read_errors
from normcore.io.arrow.storable import converted, refuse_types, storable_schema
from normcore.io.batch import Field, TableBatch, TableWriter
from normcore.io.libraries import pa
from normcore.io.missing_library import MissingLibrary
from normcore.io.output_options import OutputOptions
from normcore.io.table import TableSource

try:
    from pyarrow import orc
except ImportError as error:  # pyarrow for Windows has long been without
    raise MissingLibrary("a pyarrow with ORC", "reading and writing ORC files") from error

__all__ = ["Orc"]

_CODECS = ("none", "snappy", "zlib", "lz4", "zstd")


class Orc(ArrowSource):
    """ORC files, read stripe by stripe.

    The format has fewer types than Arrow: dictionaries become their values, unsigned integers
    wider signed ones, float16 float32, and times of any unit nanoseconds.
    """

    format: ClassVar[str] = "ORC"
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "memory"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with read_errors(self.name, self.format):
            self._file = orc.ORCFile(str(self.path))
            schema = self._file.schema
            self.num_rows = self._file.nrows
            self.compression = str(self._file.compression).lower()
        self._set_schema(schema)

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        total = self._file.nstripes
        for stripe in range(total):
            with damage_errors(f"{self.name}: stripe {stripe + 1} of {total}"):
                data = self._file.read_stripe(stripe, columns=list(names))
            yield data.select(list(names)), (self.num_bytes or 0) * (stripe + 1) // total

    @classmethod
    def check_output(cls, path: Path | None, output: OutputOptions) -> None:
        """See :meth:`TableSource.check_output`."""
        if output.row_group_rows is not None:
            raise ValueError("ORC files have stripes of so many bytes, and no row groups")
        codec = output.compression
        if codec not in (None, "uncompressed", *_CODECS):
            raise ValueError(f"ORC has no compression {codec!r}; it has {', '.join(_CODECS)}")

    @classmethod
    def sink_like(
        cls, target: Path | BinaryIO, source: TableSource | None, output: OutputOptions
    ) -> TableWriter:
        """See :meth:`TableSource.sink_like`."""
        model = None if source is None else source.model
        codec = output.compression or (model.compression if isinstance(model, Orc) else "none")
        return _OrcWriter(target, "uncompressed" if codec == "none" else codec)

    @classmethod
    def check_fields(cls, fields: Sequence[Field]) -> None:
        """See :meth:`TableSource.check_fields`."""
        refuse_types(fields, _storable_type, cls.format, ".parquet or .arrow")


# Not views of lists: pyarrow casts them to lists that are not valid.
_LISTS = (pa.types.is_large_list, pa.types.is_fixed_size_list)


class _OrcWriter(TableWriter):
    def __init__(self, target: Path | BinaryIO, compression: str) -> None:
        self._target = str(target) if isinstance(target, Path) else target
        self._writer = orc.ORCWriter(self._target, compression=compression)
        self._schema: pa.Schema | None = None

    def write(self, batch: TableBatch) -> None:
        data = batch.to_arrow()
        if self._schema is None:
            self._schema = storable_schema(data.schema, _storable_type)
        elif not data.num_rows:
            return
        self._writer.write(pa.Table.from_batches([converted(data, self._schema)]))

    def close(self) -> None:
        self._writer.close()


def _storable_type(type_: pa.DataType) -> pa.DataType | None:
    kinds = pa.types
    if kinds.is_dictionary(type_) or kinds.is_run_end_encoded(type_):
        return _storable_type(type_.value_type)
    if kinds.is_timestamp(type_):
        return pa.timestamp("ns", type_.tz and "UTC")
    if kinds.is_decimal(type_):
        return pa.decimal128(type_.precision, type_.scale) if type_.precision <= 38 else None
    narrower: list[tuple[bool, pa.DataType]] = [
        (kinds.is_uint8(type_), pa.int16()),
        (kinds.is_uint16(type_), pa.int32()),
        (kinds.is_uint32(type_), pa.int64()),
        (kinds.is_uint64(type_), pa.decimal128(20, 0)),
        (kinds.is_float16(type_), pa.float32()),
        (kinds.is_large_string(type_) or kinds.is_string_view(type_), pa.string()),
        (kinds.is_large_binary(type_) or kinds.is_binary_view(type_), pa.binary()),
        (kinds.is_fixed_size_binary(type_), pa.binary()),
        (kinds.is_date64(type_), pa.date32()),
        *((is_kind(type_), pa.list_(type_.value_field)) for is_kind in _LISTS if is_kind(type_)),
    ]
    for applies, stored in narrower:
        if applies:
            return stored if _is_held(stored) else None
    return type_ if _is_held(type_) else None


def _is_held(type_: pa.DataType) -> bool:
    """Whether ORC holds a type as it is."""
    kinds = pa.types
    if kinds.is_struct(type_) or kinds.is_list(type_) or kinds.is_map(type_):
        return all(
            _storable_type(type_.field(i).type) == type_.field(i).type
            for i in range(type_.num_fields)
        )
    return any(
        is_kind(type_)
        for is_kind in (
            kinds.is_boolean,
            kinds.is_signed_integer,
            kinds.is_float32,
            kinds.is_float64,
            kinds.is_string,
            kinds.is_binary,
            kinds.is_date32,
            kinds.is_decimal128,
        )
    )
