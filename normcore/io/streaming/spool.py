"""Keeps batches for a second pass: in memory, and in a temporary file where that is full."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from normcore.io.batch import TableBatch
from normcore.io.streaming.memory import Budget
from normcore.io.table import TableSource

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Spool"]


class Spool:
    """The batches of a table, read once.

    A context manager; at its end nothing is left in memory or on disk.

    Parameters
    ----------
    table : TableSource
    budget : Budget
    keep : "nothing", "memory" or "file"
        Whether batches are kept at all, and whether a file takes those that memory does not.
    directory : path
        For the file.
    """

    def __init__(
        self,
        table: TableSource,
        budget: Budget,
        keep: Literal["nothing", "memory", "file"],
        directory: Path,
    ) -> None:
        self._table = table
        self._budget = budget
        self._keep = keep
        self._directory = directory
        self._settled = table.settled
        self._kept: deque[TableBatch] = deque()
        self._kept_bytes = 0
        self._files: list[_File] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self._forget()
        while self._files:
            self._files.pop().close()

    @property
    def keeps(self) -> bool:
        """Whether all batches that were added are here."""
        return self._keep != "nothing"

    def add(self, batch: TableBatch) -> None:
        """Keep a batch, or give up all of them."""
        if not self.keeps:
            return
        nbytes = batch.nbytes
        if not self._files and self._budget.take(nbytes):
            self._kept.append(batch)
            self._kept_bytes += nbytes
        elif self._keep == "file":
            if not self._files:
                self._files.append(_File(self._directory))
            self._files[-1].write(batch)
        else:
            self._keep = "nothing"
            self._forget()

    def make_room(self) -> bool:
        """Free memory for something more important; False if nothing was held."""
        if not self._kept:
            return False
        if self._keep == "file":
            file = _File(self._directory)
            self._files.insert(0, file)  # another one may hold what came later
            for batch in self._kept:
                file.write(batch)
        else:
            self._keep = "nothing"
        self._forget()
        return True

    def batches(self) -> Iterator[TableBatch]:
        """Yield the batches in their order, and let go of each."""
        final = self._settled or not self._table.settled
        while self._kept:
            batch = self._kept.popleft()
            yield batch if final else self._table.restore(batch.first_row, batch.to_arrow())
        self._forget()
        for file in self._files:
            for first_row, data in file.read():
                yield self._table.restore(first_row, data)

    def _forget(self) -> None:
        self._kept.clear()
        self._budget.give_back(self._kept_bytes)
        self._kept_bytes = 0


class _File:
    """An uncompressed Arrow stream on disk, which disappears with the process."""

    def __init__(self, directory: Path) -> None:
        import pyarrow as pa  # a source that gives Arrow batches has it

        descriptor, name = tempfile.mkstemp(".arrow", ".normcore-", directory)
        os.close(descriptor)
        self._path = Path(name)
        self._directory = directory
        self._pa = pa
        self._sink = pa.OSFile(name, "wb")
        self._source = pa.OSFile(name, "rb")
        # Where the system allows it the file has no name from here on, and cannot be left behind.
        with suppress(OSError):
            self._path.unlink()
        self._writer: pyarrow.RecordBatchStreamWriter | None = None
        self._first_rows: list[int] = []

    def write(self, batch: TableBatch) -> None:
        data = batch.to_arrow()
        try:
            if self._writer is None:
                self._writer = self._pa.ipc.new_stream(self._sink, data.schema)
            self._writer.write_batch(data)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                error.errno,
                f"cannot keep a temporary file of the table, which memory_limit does not hold: "
                f"{reason}",
                str(self._directory),
            ) from error
        self._first_rows.append(batch.first_row)

    def read(self) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
        assert self._writer is not None
        self._writer.close()
        self._sink.close()
        with self._pa.ipc.open_stream(self._source) as reader:
            for first_row in self._first_rows:
                yield first_row, reader.read_next_batch()

    def close(self) -> None:
        with suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        self._sink.close()
        self._source.close()
        self._path.unlink(missing_ok=True)
