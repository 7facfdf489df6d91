"""A queue between two threads that is bounded in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["ByteQueue"]

T = TypeVar("T")


class ByteQueue(Generic[T]):
    """Items on their way from one thread to another.

    Either end may be given up, which the other end finds out at its next call: nobody waits for a
    thread that is gone.

    Parameters
    ----------
    max_bytes : int
        More wait outside, but for an item that is larger alone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._changed = Condition()
        self._complete = self._cancelled = False
        self._error: BaseException | None = None

    def put(self, item: T, nbytes: int) -> bool:
        """Append an item when there is room; False if the other end takes no more."""
        with self._changed:
            while self._items and self._bytes + nbytes > self._max_bytes and not self._cancelled:
                self._changed.wait()
            if self._cancelled:
                return False
            self._items.append((item, nbytes))
            self._bytes += nbytes
            self._changed.notify_all()
            return True

    def complete(self, error: BaseException | None = None) -> None:
        """Say that no more items come, because of an error if there is one."""
        with self._changed:
            self._complete, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Take no more items; those on their way are dropped."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take the items one by one, then raise the error with which they end."""
        while True:
            with self._changed:
                while not (self._items or self._complete or self._cancelled):
                    self._changed.wait()
                if not self._items:
                    if self._error is not None and not self._cancelled:
                        raise self._error
                    return
                item, nbytes = self._items.popleft()
                self._bytes -= nbytes
                self._changed.notify_all()
            yield item
            del item  # it is not to be kept while the next one is awaited
