"""Gathers rows into groups of one size, as files of row groups or record batches have them."""

from __future__ import annotations

from collections.abc import Iterator

from normcore.io.libraries import pa

__all__ = ["RowGroups"]


class RowGroups:
    """Rows that wait until they are a group.

    Parameters
    ----------
    rows : int
        Of a group.
    nbytes : int
        A group of more bytes is complete, whatever its rows.
    """

    def __init__(self, rows: int, nbytes: int) -> None:
        self._rows = rows
        self._bytes = nbytes
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0

    def add(self, data: pa.RecordBatch) -> Iterator[list[pa.RecordBatch]]:
        """Take more rows, and yield the groups that are complete."""
        while self._pending_rows + data.num_rows >= self._rows:
            count = self._rows - self._pending_rows
            self._keep(data.slice(0, count))
            data = data.slice(count)
            yield self._release()
        self._keep(data)
        if self._pending_bytes >= self._bytes:
            yield self._release()

    def rest(self) -> Iterator[list[pa.RecordBatch]]:
        """Yield what waits."""
        if self._pending_rows:
            yield self._release()

    def _keep(self, data: pa.RecordBatch) -> None:
        if data.num_rows:
            self._pending.append(data)
            self._pending_rows += data.num_rows
            # Dictionaries are shared.
            self._pending_bytes += data.nbytes - data.slice(0, 0).nbytes

    def _release(self) -> list[pa.RecordBatch]:
        released, self._pending = self._pending, []
        self._pending_rows = self._pending_bytes = 0
        return released
