"""Reads batches in a thread, ahead of what is done with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread
from typing import NamedTuple

from normcore.io.batch import TableBatch
from normcore.io.streaming.byte_queue import ByteQueue
from normcore.io.table import TableSource

__all__ = ["PATIENCE", "Read", "prefetched"]

#: Seconds that a thread is given to notice that it is to stop. It may sit in a call that does not
#: end, as reading from a terminal; it is then left behind.
PATIENCE = 2.0


class Read(NamedTuple):
    """A batch, and how far the file had been read when it came."""

    batch: TableBatch
    bytes_read: int


@contextmanager
def prefetched(
    table: TableSource, batches: Callable[[], Iterator[TableBatch]], max_bytes: int
) -> Iterator[Iterator[Read]]:
    """Yield the batches that ``batches()`` gives, while a thread reads the next ones.

    What it raises is raised where the batches are used. At the end of the block, however it ends,
    the thread has stopped.

    Parameters
    ----------
    table : TableSource
        Which has the batches.
    batches : callable
        Called in the thread.
    max_bytes : int
        Of batches that wait; at least one may.
    """
    queue: ByteQueue[Read] = ByteQueue(max_bytes)

    def read() -> None:
        error: BaseException | None = None
        iterator: Iterator[TableBatch] = iter(())
        try:
            iterator = batches()
            for batch in iterator:
                if not queue.put(Read(batch, table.bytes_read), batch.nbytes):
                    break
        except BaseException as raised:
            error = raised
        finally:
            close = getattr(iterator, "close", None)  # a generator lets go of its file here
            if close is not None:
                close()
            queue.complete(error)
            stopped.set()

    stopped = Event()
    thread = Thread(target=copy_context().run, args=(read,), name="normcore-read", daemon=True)
    thread.start()
    try:
        yield iter(queue)
    finally:
        queue.cancel()
        stopped.wait(PATIENCE)
