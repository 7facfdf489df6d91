"""Writes batches in a thread, behind what makes them."""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from threading import Event, Thread

from normcore.io.batch import TableBatch, TableWriter
from normcore.io.streaming.byte_queue import ByteQueue
from normcore.io.streaming.prefetch import PATIENCE

__all__ = ["WriteBehind"]


class WriteBehind:
    """Hands batches to a writer in a thread.

    Parameters
    ----------
    writer : TableWriter
        Closed by :meth:`finish` or :meth:`abandon`.
    max_bytes : int
        Of batches that wait; at least one may.
    """

    def __init__(self, writer: TableWriter, max_bytes: int) -> None:
        self._writer = writer
        self._queue: ByteQueue[TableBatch] = ByteQueue(max_bytes)
        self._error: BaseException | None = None
        self._num_rows = 0
        self._stopped = Event()
        target, args = copy_context().run, (self._write,)
        Thread(target=target, args=args, name="normcore-write", daemon=True).start()

    def _write(self) -> None:
        try:
            for batch in self._queue:
                self._writer.write(batch)
                self._num_rows += batch.num_rows
                del batch  # nor is it to be kept while the next one is awaited
        except BaseException as error:
            self._error = error
            self._queue.cancel()
        finally:
            self._stopped.set()

    def write(self, batch: TableBatch) -> None:
        """Append rows; raises what writing earlier ones has raised."""
        if not self._queue.put(batch, batch.nbytes):
            self._raise()

    def finish(self, num_rows: int) -> None:
        """Wait until everything is written, and close the writer.

        Raises
        ------
        ValueError
            If other than ``num_rows`` rows were written.
        """
        self._queue.complete()
        self._stopped.wait()
        self._raise()
        self._writer.close()
        for written in (self._num_rows, self._writer.num_rows):
            if written is not None and written != num_rows:
                raise ValueError(f"{written:,} rows were written of {num_rows:,}; report this")

    def abandon(self) -> None:
        """Stop writing, and close the writer; what went wrong first is what matters."""
        self._queue.cancel()
        if self._stopped.wait(PATIENCE):
            with suppress(Exception):
                self._writer.close()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
