"""HDF5 files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import numpy as np

from normcore.io import (
    ArrayBatch,
    MissingLibrary,
    OutputOptions,
    TableBatch,
    TableSource,
    TableWriter,
)
from normcore_chunked.source import ArraySource, Stored

try:
    import h5py
except ImportError as error:
    raise MissingLibrary("h5py", "reading and writing HDF5 files", install="h5py") from error

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Hdf5"]

_CODECS = ("none", "gzip", "lzf")
_CHUNK_BYTES = 1 << 20
#: HDF5 holds no larger chunks.
_MAX_CHUNK_BYTES = (1 << 32) - 1


class Hdf5(ArraySource):
    """The one 2-D dataset of real numbers in an HDF5 file.

    Attributes
    ----------
    array_path : str
        Where it is in the file; that is kept by an output, as its compression is.
    """

    format: ClassVar[str] = "HDF5"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        table = self._find_table()
        self.compression = table.compression if table.compression in _CODECS else "none"

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Stored]]:
        unreadable = " is not a readable HDF5 file"
        with self._errors(unreadable):
            file = h5py.File(self.path, "r")
        with file:
            with self._errors(unreadable):
                datasets: dict[str, h5py.Dataset] = {}
                file.visititems(
                    lambda path, item: (
                        datasets.update({path: item}) if isinstance(item, h5py.Dataset) else None
                    )
                )
                arrays = {path: _stored(dataset) for path, dataset in datasets.items()}
            yield arrays

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """See :meth:`TableSource.sink`."""
        return cls.sink_like(path, None, OutputOptions())

    @classmethod
    def check_output(cls, path: Path | None, output: OutputOptions) -> None:
        """See :meth:`TableSource.check_output`."""
        if output.row_group_rows is not None:
            raise ValueError("HDF5 files have chunks of so many bytes, and no row groups")
        if path is None:
            raise ValueError("HDF5 cannot be written to a stream")
        _codec(output.compression)

    @classmethod
    def sink_like(
        cls, target: Path | BinaryIO, source: TableSource | None, output: OutputOptions
    ) -> TableWriter:
        """See :meth:`TableSource.sink_like`."""
        assert isinstance(target, Path)
        model = None if source is None else source.model
        array_path, named = "data", output.compression
        if isinstance(model, Hdf5):
            array_path, named = model.array_path, named or model.compression
        codec = _codec(named)
        return _Hdf5Writer(target, array_path, None if codec == "none" else codec)


def _codec(name: str | None) -> str:
    codec = "none" if name in (None, "uncompressed") else name
    if codec not in _CODECS:
        raise ValueError(f"HDF5 has no compression {name!r}; it has {', '.join(_CODECS)}")
    return codec


def _stored(dataset: h5py.Dataset) -> Stored:
    try:
        dtype = dataset.dtype
    except TypeError:  # a type that NumPy does not have
        dtype = np.dtype(object)
    return Stored(
        dataset,
        dataset.shape or (),
        dtype,
        chunk_rows=dataset.chunks[0] if dataset.chunks else 1,
        compression=dataset.compression,
        is_elsewhere=bool(dataset.is_virtual or dataset.external),
    )


class _Hdf5Writer(TableWriter):
    """Appends rows to a dataset that grows."""

    def __init__(self, path: Path, array_path: str, codec: str | None) -> None:
        self._array_path = array_path
        self._codec = codec
        self._target = _Target(path, "w+b")
        self._file = h5py.File(self._target, "w")
        self._dataset: h5py.Dataset | None = None
        self._num_rows = 0

    def write(self, batch: TableBatch) -> None:
        if isinstance(batch, ArrayBatch):
            array = batch.array
        else:
            array = batch.matrix(batch.to_arrow().schema.names)
        if self._dataset is None:
            self._dataset = self._new_dataset(array.shape[1], array.dtype.newbyteorder("="))
        if len(array):
            start, self._num_rows = self._num_rows, self._num_rows + len(array)
            self._dataset.resize(self._num_rows, axis=0)
            self._dataset[start:] = array
        self._target.check()

    def _new_dataset(self, num_columns: int, dtype: np.dtype) -> h5py.Dataset:
        row_bytes = max(num_columns * dtype.itemsize, 1)
        columns = min(max(num_columns, 1), _MAX_CHUNK_BYTES // dtype.itemsize)
        return self._file.create_dataset(
            self._array_path,
            shape=(0, num_columns),
            maxshape=(None, num_columns or None),
            dtype=dtype,
            chunks=(max(_CHUNK_BYTES // row_bytes, 1), columns),
            compression=self._codec,
            shuffle=self._codec is not None,
        )

    def close(self) -> None:
        try:
            self._file.close()
        finally:
            self._target.close()
        self._target.check()


class _Target(io.FileIO):
    """The file that HDF5 writes, which must not learn that a write failed.

    Where the disk is full it would end the process. So the first error is kept, what follows is
    dropped, and :meth:`check` raises it.
    """

    _error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        memory = memoryview(data).cast("B")
        done = 0
        try:
            while self._error is None and done < len(memory):
                done += super().write(memory[done:]) or 0
        except OSError as error:
            self._error = error
        return len(memory)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return self.tell() if size is None else size

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error
