"""Tables that are one 2-D array among those that a file or store holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from normcore.io import (
    ArrayBatch,
    Field,
    TableBatch,
    TableSource,
    choose_batch_rows,
    float_dtype,
)

__all__ = ["ArraySource", "Stored", "StoredArray"]

#: A chunk is read whole if it takes no more batches than this, and in parts else.
_BATCHES_OF_CHUNK = 4
_LISTED = 5


class StoredArray(Protocol):
    """What h5py and zarr have in common: rows are read when they are asked for."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Return rows."""


class Stored(NamedTuple):
    """An array, and what is known of it without reading it."""

    array: StoredArray
    shape: tuple[int, ...]
    dtype: np.dtype
    #: How many rows are stored together.
    chunk_rows: int
    #: As h5py calls it.
    compression: str | None = None
    #: Whether the file only says where the values are.
    is_elsewhere: bool = False

    @property
    def is_table(self) -> bool:
        """Whether it has rows and columns of real numbers."""
        return len(self.shape) == 2 and self.dtype.kind in "biuf"


class ArraySource(TableSource):
    """The one 2-D array of real numbers in a file or store; its columns are called x0, x1, ...

    Other arrays are left alone, and a note says so. Subclasses implement :meth:`_arrays`, and call
    :meth:`_find_table` in their constructor.
    """

    numbers_only: ClassVar[bool] = True
    # Chunks may be compressed.
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "memory"
    has_names: bool = False

    @abstractmethod
    def _arrays(self) -> AbstractContextManager[Mapping[str, Stored]]:
        """Open the file, for as long as the block takes, and give its arrays by their paths."""

    def _find_table(self) -> Stored:
        """Set what is known of the table, and return it; its rows cannot be read any more."""
        with self._arrays() as arrays:
            self.array_path, table = self._table_of(arrays)
            self._shape, self._dtype = table.shape, table.dtype
            left = {path: each for path, each in arrays.items() if path != self.array_path}
        if left:
            self.notes = (f"{self.array_path} is read; left alone: {_listed(left)}",)
        self.num_rows = self._shape[0]
        dtype, kind = float_dtype(self._dtype), str(self._dtype)
        self.fields = tuple(Field(f"x{index}", dtype, kind) for index in range(self._shape[1]))
        return table

    def _table_of(self, arrays: Mapping[str, Stored]) -> tuple[str, Stored]:
        tables = {path: each for path, each in arrays.items() if each.is_table}
        if len(tables) == 1:
            path, table = next(iter(tables.items()))
            if table.is_elsewhere:
                # Where such a file is missing or cut off, there would be fill values.
                raise ValueError(
                    f"{self.name}: the values of {path} are in other files; save them in this one"
                )
            return path, table
        if tables:
            raise ValueError(
                f"{self.name} holds {len(tables)} tables: {_listed(tables)}; save the one that is "
                f"meant as {self.path.suffix} of its own"
            )
        found = f": {_listed(arrays)}" if arrays else ", and no array at all"
        raise ValueError(
            f"{self.name} holds no table, which is an array of real numbers with two dimensions, "
            f"rows and columns{found}"
        )

    def kept_bytes(self, numeric: Sequence[str]) -> int:
        """See :meth:`TableSource.kept_bytes`."""
        return self._shape[0] * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return max(self._shape[1] * self._dtype.itemsize, 1)

    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """See :meth:`TableSource.batches`."""
        names = [field.name for field in self.fields]
        num_rows = self._shape[0]
        step = choose_batch_rows(len(names), batch_rows)
        if batch_rows is None:
            step = max(min(step, self.batch_bytes // self._row_bytes), 1)
        self.bytes_read = 0
        with self._arrays() as arrays:
            path, table = self._table_of(arrays)
            if (path, table.shape, table.dtype) != (self.array_path, self._shape, self._dtype):
                raise ValueError(f"{self.name} was changed while it was read")
            block = step
            # Whoever reads a part of a chunk decodes all of it.
            if table.chunk_rows * self._row_bytes <= _BATCHES_OF_CHUNK * self.batch_bytes:
                block = max(step // table.chunk_rows, 1) * table.chunk_rows
            for start in range(0, max(num_rows, 1), block):
                rows = self._read(table.array, start, min(start + block, num_rows))
                for first in range(0, max(len(rows), 1), step):
                    part = rows[first : first + step]
                    done = start + first + len(part)
                    self.bytes_read = (self.num_bytes or 0) * done // max(num_rows, 1)
                    yield ArrayBatch(start + first, names, part)

    def _read(self, array: StoredArray, start: int, stop: int) -> np.ndarray:
        with self._errors(f": rows {start + 1:,} to {stop:,} of {self.array_path} are damaged"):
            rows = np.asarray(array[start:stop])
        if rows.shape != (stop - start, self._shape[1]) or rows.dtype != self._dtype:
            raise ValueError(f"{self.name} was changed while it was read")
        return rows

    @contextmanager
    def _errors(self, said: str) -> Iterator[None]:
        """Turn what the library raises into an error that names the file.

        What a damaged file makes of it is of any kind.
        """
        try:
            yield
        except (MemoryError, PermissionError):
            raise
        except Exception as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"{self.name}{said} ({lines[0][:200]})") from error


def _listed(arrays: Mapping[str, Stored]) -> str:
    listed = [f"{path} (shape {each.shape}, {each.dtype})" for path, each in arrays.items()]
    more = len(listed) - _LISTED
    return ", ".join(listed[:_LISTED]) + (f" and {more} more" if more > 0 else "")
