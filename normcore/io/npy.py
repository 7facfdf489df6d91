"""Tables that are one 2-D array in a ``.npy`` file."""

from __future__ import annotations

import math
import os
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal, NamedTuple

import numpy as np

from normcore.io.array_batch import ArrayBatch
from normcore.io.batch import Field, TableBatch, TableWriter, choose_batch_rows, float_dtype
from normcore.io.table import TableSource

__all__ = ["Npy"]

_ZIP = b"PK"


class _Header(NamedTuple):
    """What stands before the values."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    size: int


class Npy(TableSource):
    """A 2-D array in NumPy's own format; its columns are called x0, x1, ...

    It is read as any file is, not memory-mapped: one that is truncated meanwhile must not end the
    process.
    """

    format: ClassVar[str] = ".npy"
    numbers_only: ClassVar[bool] = True
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "nothing"
    has_names: bool = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with open(self.path, "rb") as file:
            header = self._header = self._read_header(file)
        if len(header.shape) != 2:
            raise ValueError(
                f"{self.name} holds an array of shape {header.shape}; a table has two dimensions, "
                "rows and columns"
                + (": save it reshaped with .reshape(-1, 1)" if len(header.shape) == 1 else "")
            )
        if header.dtype.kind not in "biuf":
            kind = "Python objects" if header.dtype.hasobject else f"{header.dtype} values"
            raise ValueError(f"{self.name} holds {kind}; expected real numbers")
        self._check_size()
        self.num_rows = header.shape[0]
        dtype, kind = float_dtype(header.dtype), str(header.dtype)
        self._set_fields([Field(f"x{index}", dtype, kind) for index in range(header.shape[1])])

    def _read_header(self, file: BinaryIO) -> _Header:
        reason = "it does not begin like one"
        try:
            version = np.lib.format.read_magic(file)
            # Version 3 differs from 2 in what names of fields may hold, and none are read here.
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
                (3, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is not None:
                shape, fortran_order, dtype = read(file)
                if all(type(length) is int and length >= 0 for length in shape):
                    return _Header(shape, fortran_order, dtype, file.tell())
                reason = f"its shape is {shape}"
            else:
                reason = f"it is of version {version[0]}.{version[1]}"
        except (
            ValueError,
            TypeError,
            SyntaxError,
            MemoryError,
            RecursionError,
            OverflowError,
            tokenize.TokenError,
            UnicodeError,
        ) as error:
            file.seek(0)
            start = file.read(6)
            if start[:2] == _ZIP:
                raise ValueError(
                    f"{self.name} is an .npz archive; save the one array as .npy"
                ) from error
            if start == np.lib.format.MAGIC_PREFIX:
                lines = str(error).splitlines() or [type(error).__name__]
                reason = f"its header cannot be understood ({lines[0][:200]})"
        raise ValueError(f"{self.name} is not a readable .npy file: {reason}")

    def _check_size(self) -> None:
        header, found = self._header, self.num_bytes or 0
        expected = header.size + math.prod(header.shape) * header.dtype.itemsize
        if found < expected:
            raise ValueError(
                f"{self.name} is truncated: it has {found:,} bytes, and an array of shape "
                f"{header.shape} of {header.dtype} takes {expected:,}"
            )
        if found > expected:
            raise ValueError(
                f"{self.name} goes on after its array of shape {header.shape}, which ends at byte "
                f"{expected:,} of {found:,}; save one array a file"
            )

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        names = [field.name for field in self.fields]
        num_rows, num_columns = self._header.shape
        step = choose_batch_rows(len(names), batch_rows)
        if batch_rows is None:
            bytes_per_row = max(num_columns * self._header.dtype.itemsize, 1)
            step = max(min(step, self.batch_bytes // bytes_per_row), 1)
        self.bytes_read = 0
        with open(self.path, "rb", buffering=0) as file:
            if self._read_header(file) != self._header:
                raise ValueError(f"{self.name} was changed while it was read")
            for start in range(0, max(num_rows, 1), step):
                rows = min(step, num_rows - start)
                array = self._read_rows(file, start, rows)
                self.bytes_read = (self.num_bytes or 0) * (start + rows) // max(num_rows, 1)
                yield ArrayBatch(start, names, array)

    def _read_rows(self, file: BinaryIO, start: int, rows: int) -> np.ndarray:
        num_rows, num_columns = self._header.shape
        itemsize = self._header.dtype.itemsize
        order: Literal["F", "C"] = "F" if self._header.fortran_order else "C"
        array = np.empty((rows, num_columns), self._header.dtype, order=order)
        if order == "C":
            self._fill(file, self._header.size + start * num_columns * itemsize, array)
        else:
            for index in range(num_columns):
                place = (index * num_rows + start) * itemsize
                self._fill(file, self._header.size + place, array[:, index])
        return array

    def _fill(self, file: BinaryIO, place: int, array: np.ndarray) -> None:
        """Read what is to be in contiguous memory."""
        if not array.size:
            return
        file.seek(place)
        memory = memoryview(array.view(np.uint8).reshape(-1).data)
        done = 0
        while done < len(memory):
            count = file.readinto(memory[done:])  # type: ignore[attr-defined]
            if not count:
                raise ValueError(
                    f"{self.name} ends at byte {place + done:,}, before its array does; it was "
                    "truncated while it was read"
                )
            done += count

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
