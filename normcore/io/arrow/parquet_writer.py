"""Writing Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from normcore.io.arrow.batch import record_batch
from normcore.io.arrow.groups import RowGroups
from normcore.io.arrow.storable import (
    converted,
    has_dictionary,
    refuse_types,
    storable_schema,
    without_hidden_nulls,
)
from normcore.io.batch import Field, TableBatch, TableWriter
from normcore.io.libraries import pa, pq
from normcore.io.output_options import OutputOptions

__all__ = ["ParquetWriter", "check_fields", "codec_of", "storable_type"]

_GROUP_ROWS = 1 << 20
# Rows wait in memory for their group to be full.
_GROUP_BYTES = 96 << 20
_CODECS = ("none", "snappy", "gzip", "brotli", "zstd", "lz4")
# In files: how the codecs above are called otherwise.
_ALIASES = {"uncompressed": "none", "lz4_raw": "lz4"}


class ParquetWriter(TableWriter):
    """Writes row groups, with the compression and the sizes of a file that it may be made of.

    Parameters
    ----------
    target : path or binary file
    like : pyarrow.parquet.FileMetaData or None
    output : OutputOptions
    """

    def __init__(
        self, target: Path | BinaryIO, like: pq.FileMetaData | None, output: OutputOptions
    ) -> None:
        self._compression = codec_of(output)
        self._target, self._like = target, like
        rows = output.row_group_rows or _rows_of_groups(like) or _GROUP_ROWS
        self._groups = RowGroups(rows, _GROUP_BYTES)
        self._writer: pq.ParquetWriter | None = None

    def write(self, batch: TableBatch) -> None:
        """See :meth:`TableWriter.write`."""
        data = batch.to_arrow()
        if self._writer is None:
            self._writer = self._open(data.schema)
        data = converted(data, self._writer.schema)
        self._write(self._groups.add(_fit_for_pages(data)))

    def close(self) -> None:
        """See :meth:`TableWriter.close`."""
        if self._writer is not None:
            try:
                self._write(self._groups.rest())
            finally:
                self._writer.close()

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        schema = storable_schema(schema, storable_type)
        leaves = _leaves(schema)
        like = _chunks(self._like)
        compression = self._compression or {
            leaf.path: like[leaf.path].compression if leaf.path in like else "snappy"
            for leaf in leaves
        }
        # pyarrow would try a dictionary for each column of floats, which costs much and is of no
        # use but where few values recur.
        encoded = [
            leaf.path
            for leaf in leaves
            if not leaf.is_float or (leaf.path in like and like[leaf.path].values_recur)
        ]
        return pq.ParquetWriter(
            self._target if isinstance(self._target, Path) else pa.PythonFile(self._target, "w"),
            schema,
            compression=compression,
            use_dictionary=encoded or False,
            # Values between looks at how long the page has become.
            write_batch_size=1 << 16 if all(map(pa.types.is_primitive, schema.types)) else 1 << 10,
        )

    def _write(self, groups: Iterable[list[pa.RecordBatch]]) -> None:
        assert self._writer is not None
        for group in groups:
            for table in _tables(group):
                self._writer.write_table(table, row_group_size=table.num_rows)


def check_fields(fields: Sequence[Field]) -> None:
    """Refuse columns that Parquet cannot hold.

    Raises
    ------
    ValueError
        Naming the first one.
    """
    refuse_types(fields, storable_type, "Parquet", ".arrow")


def storable_type(type_: pa.DataType) -> pa.DataType | None:
    """Return the type in which Parquet holds columns of a type, None if it cannot."""
    kinds = pa.types
    if kinds.is_run_end_encoded(type_):
        return storable_type(type_.value_type)
    if not kinds.is_dictionary(type_):
        return type_ if _is_writable(type_) else None
    value = type_.value_type
    if kinds.is_string_view(value):
        value = pa.string()
    elif kinds.is_binary_view(value):
        value = pa.binary()
    elif not _is_text(value):
        return storable_type(value)
    return pa.dictionary(type_.index_type, value, type_.ordered)


def _is_writable(type_: pa.DataType) -> bool:
    kinds = pa.types
    if isinstance(type_, pa.BaseExtensionType):
        return _is_writable(type_.storage_type)
    if kinds.is_dictionary(type_):
        return _is_text(type_.value_type)
    if kinds.is_struct(type_) and type_.num_fields == 0:
        return False
    if kinds.is_union(type_) or kinds.is_run_end_encoded(type_) or kinds.is_interval(type_):
        return False
    return all(_is_writable(type_.field(i).type) for i in range(type_.num_fields))


def _is_text(type_: pa.DataType) -> bool:
    kinds = pa.types
    return any(
        is_kind(type_) for is_kind in (kinds.is_string, kinds.is_large_string, kinds.is_binary)
    ) or bool(kinds.is_large_binary(type_) or kinds.is_fixed_size_binary(type_))


class _Leaf(NamedTuple):
    """A column of a Parquet file, which may be a part of a nested one of the table."""

    path: str
    is_float: bool
    compression: str
    #: Whether a dictionary makes the column much smaller.
    values_recur: bool


def _leaves(schema: pa.Schema) -> list[_Leaf]:
    """Return the columns that a file will have: those of one without rows."""
    target = pa.BufferOutputStream()
    pq.ParquetWriter(target, schema).close()
    file = pq.ParquetFile(pa.BufferReader(target.getvalue()))
    columns = [file.schema.column(i) for i in range(file.metadata.num_columns)]
    return [
        _Leaf(column.path, column.physical_type in ("FLOAT", "DOUBLE"), "snappy", False)
        for column in columns
    ]


def _chunks(like: pq.FileMetaData | None) -> dict[str, _Leaf]:
    """Return how a file stores its columns in the first row group."""
    if like is None or not like.num_row_groups:
        return {}
    group = like.row_group(0)
    found = {}
    for index in range(group.num_columns):
        chunk = group.column(index)
        width = {"FLOAT": 4, "DOUBLE": 8}.get(chunk.physical_type, 0)
        codec = "snappy"
        with suppress(ValueError):  # one that can only be read
            codec = _codec(chunk.compression)
        recur = chunk.has_dictionary_page and (
            2 * chunk.total_uncompressed_size < width * chunk.num_values
        )
        found[chunk.path_in_schema] = _Leaf(chunk.path_in_schema, bool(width), codec, recur)
    return found


def _rows_of_groups(like: pq.FileMetaData | None) -> int:
    """Return how many rows a row group of a file has, 0 if there is none."""
    if like is None:
        return 0
    rows = max((like.row_group(i).num_rows for i in range(like.num_row_groups)), default=0)
    # The one group of a small file says nothing.
    return rows if like.num_row_groups > 1 else max(rows, _GROUP_ROWS)


def codec_of(output: OutputOptions) -> str | None:
    """Return the compression that an output is to have, if it says one.

    Raises
    ------
    ValueError
        If there is no such compression.
    """
    return None if output.compression is None else _codec(output.compression)


def _codec(name: str) -> str:
    codec = _ALIASES.get(name.lower(), name.lower())
    if codec not in _CODECS or not (codec == "none" or pa.Codec.is_available(codec)):
        raise ValueError(f"Parquet has no compression {name!r}; it has {', '.join(_CODECS)}")
    return codec


def _fit_for_pages(data: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        without_hidden_nulls(column) if pa.types.is_dictionary(column.type) else column
        for column in data.columns
    ]
    return record_batch(columns, list(data.schema), data.schema.metadata)


def _tables(group: list[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield a row group as a table, or several: each has one dictionary a column."""
    changing = _changing_dictionaries(group)
    table = pa.Table.from_batches(group)
    if changing:
        try:
            # The order of categories is theirs alone, and must not come from another batch.
            if any(getattr(table.schema.field(index).type, "ordered", False) for index in changing):
                raise pa.ArrowInvalid("ordered")
            # Not unify_dictionaries, which writes into dictionaries of nested columns.
            for index in changing:
                chunk = pa.concat_arrays(table.column(index).chunks)
                table = table.set_column(index, table.schema.field(index), [chunk])
        except pa.ArrowInvalid:
            yield from (pa.Table.from_batches([data]) for data in group)
            return
    yield table


def _changing_dictionaries(group: list[pa.RecordBatch]) -> list[int]:
    """Return the columns whose dictionary is not that of the first batch; nested ones may be."""
    changing = []
    for index, type_ in enumerate(group[0].schema.types):
        if pa.types.is_dictionary(type_):
            dictionary = group[0].column(index).dictionary
            if any(not each.column(index).dictionary.equals(dictionary) for each in group[1:]):
                changing.append(index)
        elif len(group) > 1 and has_dictionary(type_):
            changing.append(index)
    return changing
