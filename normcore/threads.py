"""Ranges of blocks on one shared pool of threads.

Kernels are single-threaded functions over a range of blocks that release the GIL; what a block
computes never depends on the range it is in, so results are the same for any number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import pairwise
from numbers import Real

__all__ = ["get_num_threads", "run", "set_num_threads"]


class _Thread(threading.local):
    """Whether the running thread is a worker of the pool."""

    is_worker = False


_local = _Thread()
_lock = threading.Lock()
_executor: Executor | None = None
_num_threads: int | None = None


def _available_cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _from_environment() -> int | None:
    for variable in ("NORMCORE_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable, "")
        if text.isdigit() and int(text) > 0:
            return int(text)
    return None


def get_num_threads() -> int:
    """Return the number of threads that kernels use.

    Unless :func:`set_num_threads` said otherwise: ``NORMCORE_NUM_THREADS``, ``OMP_NUM_THREADS``,
    or the number of processors this process may run on, in this order.
    """
    global _num_threads
    if _num_threads is None:
        _num_threads = _from_environment() or _available_cpus()
    return _num_threads


def set_num_threads(n: int) -> None:
    """Set the number of threads that kernels use, for the whole process.

    Results do not depend on it, to the bit.

    Raises
    ------
    ValueError
        If ``n`` is below 1.
    """
    global _num_threads, _executor
    if isinstance(n, bool) or not isinstance(n, Real) or not n >= 1 or n % 1 != 0:
        raise ValueError(f"the number of threads must be a whole number of at least 1, not {n!r}")
    with _lock:
        executor, _executor, _num_threads = _executor, None, int(n)
    if executor is not None:
        executor.shutdown(wait=False)


def _mark_worker() -> None:
    _local.is_worker = True


def _submit(function: Callable[[int, int], None], start: int, stop: int):  # type: ignore[no-untyped-def]
    global _executor
    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(
                max(get_num_threads() - 1, 1), "normcore", initializer=_mark_worker
            )
        return _executor.submit(function, start, stop)


def run(function: Callable[[int, int], None], num_items: int, *, min_items: int = 1) -> None:
    """Call ``function(start, stop)`` on ranges that cover ``range(num_items)``.

    Parameters
    ----------
    function : callable
        Releases the GIL while it works; may run in several threads at once.
    num_items : int
        Number of blocks.
    min_items : int
        A range that is given to another thread has at least this many blocks, so that small
        work stays in the caller.

    Raises
    ------
    Exception
        The first one that ``function`` raised, after every range has ended.
    """
    parts = min(get_num_threads(), num_items // max(min_items, 1))
    # A worker that waited for workers could wait for itself; at exit there are none.
    if parts < 2 or _local.is_worker or not threading.main_thread().is_alive():
        if num_items:
            function(0, num_items)
        return
    edges = [num_items * part // parts for part in range(parts + 1)]
    futures = []
    error: BaseException | None = None
    try:
        for edge in pairwise(edges[1:]):
            futures.append(_submit(function, *edge))
        function(edges[0], edges[1])
    except BaseException as raised:
        error = raised
    for future in futures:
        while not future.done():
            try:
                future.exception()
            except BaseException as raised:  # an interrupt, but the arrays are still in use
                error = error or raised
        error = error or future.exception()
    if error is not None:
        raise error


def _forget_pool() -> None:
    """Leave the parent's pool behind: its threads do not exist in a forked child."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()
    _local.is_worker = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
