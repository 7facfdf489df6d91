"""Work of several threads whose results come in the order of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from normcore.threads.settings import get_num_threads

__all__ = ["Ordered", "map_ordered"]

T = TypeVar("T")
R = TypeVar("R")


class Ordered(Generic[R]):
    """A pool of threads that hands out results in the order in which work was given to it.

    Attributes
    ----------
    ahead : int
        How many pieces of work are worth being given before a result is taken.
    """

    def __init__(self, name: str) -> None:
        threads = get_num_threads()
        self.ahead = threads + 1
        self._pool = ThreadPoolExecutor(threads, f"normcore-{name}")
        self._futures: deque[Future[R]] = deque()

    def __len__(self) -> int:
        return len(self._futures)

    def submit(self, function: Callable[[T], R], item: T) -> None:
        """Give work."""
        self._futures.append(self._pool.submit(function, item))

    def take(self) -> R:
        """Return the result of the oldest work, or raise its error."""
        return self._futures.popleft().result()

    def close(self) -> None:
        """Drop what has not begun, and wait for the rest."""
        self._pool.shutdown(cancel_futures=True)


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], name: str
) -> Iterator[tuple[T, Callable[[], R]]]:
    """Yield every item with a call for its result; the next ones are worked on meanwhile.

    An error of ``items`` comes after all results of what came before it.
    """
    waiting: deque[T] = deque()
    failure: Exception | None = None
    source = iter(items)
    pool: Ordered[R] = Ordered(name)
    try:
        more = True
        while more or waiting:
            while more and len(waiting) < pool.ahead:
                try:
                    item = next(source)
                except StopIteration:
                    more = False
                except Exception as error:
                    failure, more = error, False
                else:
                    waiting.append(item)
                    pool.submit(function, item)
            if waiting:
                yield waiting.popleft(), pool.take
        if failure is not None:
            raise failure
    finally:
        pool.close()
