"""Tables that are one 2-D array in a ``.npy`` file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from normcore.io.array_batch import ArrayBatch
from normcore.io.table import (
    Field,
    TableBatch,
    TableSource,
    TableWriter,
    choose_batch_rows,
    float_dtype,
)

__all__ = ["Npy"]


class Npy(TableSource):
    """A 2-D array in NumPy's own format; its columns are named x0, x1, ...

    The array is memory-mapped.
    """

    format: ClassVar[str] = ".npy"
    numbers_only: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        array = self._map()
        if array.ndim != 2:
            raise ValueError(
                f"{self.path} holds an array of shape {array.shape}; a table has two dimensions, "
                "rows and columns"
                + (": save it reshaped with .reshape(-1, 1)" if array.ndim == 1 else "")
            )
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{self.path} holds {array.dtype} values; expected real numbers")
        dtype = float_dtype(array.dtype)
        self.num_rows = array.shape[0]
        self._set_fields(
            [Field(f"x{index}", dtype, str(array.dtype)) for index in range(array.shape[1])]
        )

    def _map(self) -> np.ndarray:
        try:
            array: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, SyntaxError) as error:
            if "array is too big" not in str(error) and "mmap" not in str(error):
                reason = str(error).splitlines()[0] if str(error) else "it ends too early"
                if "pickle" in reason:  # NumPy advises to load it all the same
                    reason = "it does not begin like one"
                raise ValueError(f"{self.path} is not a readable .npy file: {reason}") from error
            raise ValueError(f"{self.path} is truncated: {error}") from error
        if not isinstance(array, np.ndarray):  # a zip archive
            array.close()
            raise ValueError(f"{self.path} is an .npz archive; save the one array as .npy")
        return array

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        names = [field.name for field in self.fields]
        step = choose_batch_rows(len(names), batch_rows)
        assert self.num_rows is not None
        self.bytes_read = 0
        for start in range(0, max(self.num_rows, 1), step):
            # A fresh map for each batch: pages that were read do not stay resident.
            array = self._map()[start : start + step]
            done = start + len(array)
            self.bytes_read = self.num_bytes * done // max(self.num_rows, 1)
            yield ArrayBatch(start, names, array)

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """See :meth:`TableSource.sink`."""
        return _NpyWriter(path)


class _NpyWriter(TableWriter):
    """Appends rows behind a header that is completed at the end."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115
        self._num_rows = 0
        self._num_columns = 0
        self._dtype: np.dtype | None = None
        self._header_size = 0

    def write(self, batch: TableBatch) -> None:
        if isinstance(batch, ArrayBatch):
            array = batch.array
        else:
            array = batch.matrix(batch.to_arrow().schema.names)
        if self._dtype is None:
            self._dtype = array.dtype.newbyteorder("=")
            self._num_columns = array.shape[1]
            self._header_size = self._write_header()
        self._file.write(np.ascontiguousarray(array, dtype=self._dtype).data)
        self._num_rows += len(array)

    def close(self) -> None:
        try:
            if self._dtype is not None:
                self._file.seek(0)
                # NumPy pads the header so that the number of rows can grow in place.
                if self._write_header() != self._header_size:
                    raise ValueError("the .npy header does not fit; report this as a bug")
        finally:
            self._file.close()

    def _write_header(self) -> int:
        assert self._dtype is not None
        np.lib.format.write_array_header_2_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._num_rows, self._num_columns),
            },
        )
        return self._file.tell()
