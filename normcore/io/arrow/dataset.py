"""Tables of many files: directories, patterns of names, and pyarrow's datasets.

The rows are those of the files in the order of their names. Directories named ``key=value`` give a
column each, as Hive does. The output of such a table is one file, which keeps these columns.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from urllib.parse import unquote

import numpy as np

from normcore.io import opening
from normcore.io.arrow import pandas_metadata
from normcore.io.arrow.batch import ArrowBatch, record_batch
from normcore.io.arrow.numeric_types import describe
from normcore.io.arrow.source import ArrowSource
from normcore.io.batch import TableBatch
from normcore.io.csv.kinds import Kind
from normcore.io.csv.options import CsvOptions
from normcore.io.csv.source import Csv
from normcore.io.libraries import pa
from normcore.io.table import TableSource

if TYPE_CHECKING:
    import pyarrow.dataset

__all__ = ["Dataset", "ScannedDataset"]

_PATTERN = "*?["
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_IN_PATH = "a part of the files' paths"


class _File(NamedTuple):
    path: Path
    #: Values of the columns that its path gives.
    keys: dict[str, str | None]


class Dataset(TableSource):
    """The files of a directory, those below it included, or those that a pattern matches.

    Names that begin with a dot or an underscore are left out in directories. All files have the
    same columns, in any order.

    Parameters
    ----------
    path : path of a directory, or pattern as ``part-*.parquet`` or ``**/*.csv``
    csv : CsvOptions, optional
        How CSV files are read.
    """

    format: ClassVar[str] = "dataset"
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "memory"

    def __init__(self, path: str | os.PathLike[str], *, csv: CsvOptions | None = None) -> None:
        self.path = Path(path)
        self.name = str(path)
        self._csv = csv
        self._kinds: dict[str, Kind] = {}
        self._files = _directory(self.path) if self.path.is_dir() else _matching(str(path))
        if not self._files:
            raise FileNotFoundError(2, "No files of tables there", self.name)
        self._check_formats()
        rows: list[int | None] = []
        for number, file in enumerate(self._files):
            with self._open(file) as table:
                if not number:
                    self._first, self._fields = table, table.fields
                    self.notes, self.has_names = table.notes, table.has_names
                self._check_fields(table)
                rows.append(table.num_rows)
        self.num_bytes = sum(file.path.stat().st_size for file in self._files)
        self.num_rows = None if None in rows else sum(filter(None, rows))
        self._keys = self._key_columns()
        keys = [describe(pa.field(name, values.type)) for name, values in self._keys.items()]
        self._set_fields(
            [*self._fields, *(key._replace(kind=_IN_PATH, by_default=False) for key in keys)]
        )
        self.notes += tuple(f"column {key.name!r} is {_IN_PATH} and is left alone" for key in keys)

    def _open(self, file: _File) -> TableSource:
        table = opening.open_table(file.path, csv=self._csv)
        table.batch_bytes = self.batch_bytes
        if isinstance(table, Csv):
            table.kinds.update(self._kinds)
        return table

    def _check_formats(self) -> None:
        formats: dict[type[TableSource], Path] = {}
        for file in self._files:
            formats.setdefault(opening.source_class(file.path), file.path)
        if len(formats) > 1:
            first, second = list(formats.values())[:2]
            raise ValueError(
                f"{self.name} has files of several formats, as {first.name} and {second.name}; "
                "choose with a pattern, as *.parquet"
            )

    def _check_fields(self, table: TableSource) -> None:
        """Refuse a file with other columns than the first."""
        first = self._files[0].path
        expected = {field.name: field for field in self._fields}
        found = {field.name: field for field in table.fields}
        for name, field in expected.items():
            if name not in found:
                raise ValueError(f"{table.name} has no column {name!r}, which {first} has")
            if (field.dtype, field.type, field.kind) != (
                found[name].dtype,
                found[name].type,
                found[name].kind,
            ):
                raise ValueError(
                    f"{table.name}: column {name!r} holds {found[name].kind}, and in {first} "
                    f"{field.kind}; the files of a table have the same columns"
                )
        for name in found:
            if name not in expected:
                raise ValueError(f"{table.name} has a column {name!r}, which {first} has not")

    def _key_columns(self) -> dict[str, pa.Array]:
        """Return the values that the paths give, one for each file; integers if all are."""
        own = {field.name for field in self._fields}
        columns = {}
        for name in dict.fromkeys(key for file in self._files for key in file.keys):
            if name in own:
                continue  # the files say it themselves
            values = pa.array([file.keys.get(name) for file in self._files], pa.string())
            try:
                numbers = values.cast(pa.int64())
            except pa.ArrowInvalid:
                numbers = None
            # 007 is no number.
            if numbers is not None and numbers.cast(pa.string()).equals(values):
                values = numbers
            columns[name] = values
        return columns

    @property
    def model(self) -> TableSource:
        """See :attr:`TableSource.model`."""
        return self._first

    @property
    def files(self) -> Sequence[Path]:
        """The files that are read, in their order."""
        return [file.path for file in self._files]

    def settle(self, numeric: Sequence[str]) -> bool:
        """See :meth:`TableSource.settle`; all files decide."""
        if not isinstance(self._first, Csv):
            return self.settled
        columns = self._first.passing(numeric)
        if columns.names:
            for file in self._files:
                with self._open(file) as table:
                    self._check_fields(table)
                    assert isinstance(table, Csv)
                    table.look(columns)
            self._kinds = columns.result()
        return True

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        wanted = set(numeric)
        names = [field.name for field in self.fields if others or field.name in wanted]
        own = [name for name in numeric if name not in self._keys]
        first_row = done_bytes = self.bytes_read = 0
        empty: TableBatch | None = None
        for number, file in enumerate(self._files):
            keys = {
                name: values[number : number + 1]
                for name, values in self._keys.items()
                if name in names
            }
            with self._open(file) as table:
                self._check_fields(table)
                rows = 0
                for inner in table.batches(own, others=others, batch_rows=batch_rows):
                    batch = _FileBatch(first_row, inner, names, keys, self)
                    self.bytes_read = done_bytes + table.bytes_read
                    if inner.num_rows:
                        yield batch
                    else:
                        empty = batch
                    first_row += inner.num_rows
                    rows += inner.num_rows
                if table.num_rows not in (None, rows):
                    raise ValueError(
                        f"{table.name}: {rows:,} rows were read, but it says that it has "
                        f"{table.num_rows:,}; the file is damaged or was changed meanwhile"
                    )
                done_bytes += table.num_bytes or 0
        if not first_row and empty is not None:
            yield empty


class _FileBatch(TableBatch):
    """Rows of one of the files, with the columns that its path gives."""

    def __init__(
        self,
        first_row: int,
        inner: TableBatch,
        names: Sequence[str],
        keys: dict[str, pa.Array],
        table: Dataset,
    ) -> None:
        self.first_row = first_row
        self.num_rows = inner.num_rows
        self._inner, self._names, self._keys, self._table = inner, names, keys, table

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """See :meth:`TableBatch.matrix`."""
        return self._numbered(names).matrix(names)

    def column_arrays(self, names: Sequence[str]) -> Sequence[np.ndarray]:
        """See :meth:`TableBatch.column_arrays`."""
        return self._numbered(names).column_arrays(names)

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> TableBatch:
        """See :meth:`TableBatch.with_matrix`."""
        if self._keys.keys() & set(names):
            return self._arrow().with_matrix(names, values)
        inner = self._inner.with_matrix(names, values)
        return _FileBatch(self.first_row, inner, self._names, self._keys, self._table)

    def to_arrow(self) -> pa.RecordBatch:
        """See :meth:`TableBatch.to_arrow`."""
        data = self._inner.to_arrow()
        columns, fields = [], []
        for name in self._names:
            if name in self._keys:
                columns.append(self._keys[name].take(pa.array(np.zeros(self.num_rows, np.int32))))
                fields.append(pa.field(name, columns[-1].type))
            else:
                columns.append(data.column(name))
                fields.append(data.schema.field(name).with_nullable(True))
        metadata = pandas_metadata.with_rows(data.schema.metadata, self._table.num_rows)
        return record_batch(columns, fields, metadata)

    def _numbered(self, names: Sequence[str]) -> TableBatch:
        """Return the rows as a batch that counts them as the whole table does."""
        inner = self._arrow() if self._keys.keys() & set(names) else copy(self._inner)
        inner.first_row = self.first_row
        return inner

    def _arrow(self) -> ArrowBatch:
        return ArrowBatch(self.first_row, self.to_arrow())


def _directory(path: Path) -> list[_File]:
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in names:
            if name[0] not in "._":
                found.append(Path(folder, name))
    return [_File(each, _keys(each.relative_to(path).parent)) for each in _in_order(found)]


def _matching(pattern: str) -> list[_File]:
    found = [Path(each) for each in glob.glob(pattern, recursive=True) if os.path.isfile(each)]
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if any(c in part for c in _PATTERN))
    return [_File(each, _keys(Path(*each.parts[first:-1]))) for each in _in_order(found)]


def _in_order(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.parts)


def _keys(folders: Path) -> dict[str, str | None]:
    pairs = (part.partition("=") for part in folders.parts if "=" in part)
    found = ((unquote(key), unquote(value)) for key, _, value in pairs)
    return {key: None if value == _HIVE_NULL else value for key, value in found}


class ScannedDataset(ArrowSource):
    """A dataset of pyarrow, whose schema and order of files are those that it was made with."""

    format: ClassVar[str] = "dataset"
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "memory"

    def __init__(self, dataset: pyarrow.dataset.Dataset) -> None:
        self.name = f"pyarrow {type(dataset).__name__}"
        self._dataset = dataset
        self._set_schema(dataset.schema)

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        from pyarrow import dataset as pa_dataset  # slow to import

        format_ = getattr(self._dataset, "format", None)
        options = None
        if isinstance(format_, pa_dataset.ParquetFileFormat):
            # By default whole row groups of several files are read ahead.
            options = pa_dataset.ParquetFragmentScanOptions(
                pre_buffer=False, use_buffered_stream=True, buffer_size=1 << 16
            )
        for data in self._dataset.to_batches(
            columns=list(names),
            batch_size=batch_rows,
            batch_readahead=1,
            fragment_readahead=1,
            fragment_scan_options=options,
        ):
            yield data, 0
