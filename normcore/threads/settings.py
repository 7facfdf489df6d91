"""How many threads kernels use, and whose.

Kernels work on chunks of items; what an item gives never depends on the chunk it is in, so results
are the same for any number of threads, to the bit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from math import ceil, inf
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from normcore.threads import foreign_calls
from normcore.threads.pool import parallel_for, set_affinity
from normcore.threads.threadpoolctl_controller import register_controller

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from types import ModuleType

__all__ = [
    "get_num_threads",
    "note_num_threads",
    "register_with_threadpoolctl",
    "run",
    "set_executor",
    "set_num_threads",
    "set_thread_affinity",
    "use_executor",
    "use_num_threads",
]

_MOST_THREADS = 1024

# What holds for the process, unless the running thread or asynchronous task says otherwise.
_num_threads: int | None = None
_num_threads_here: ContextVar[int | None] = ContextVar("normcore_num_threads", default=None)
_executor: Executor | None = None
_executor_here: ContextVar[Executor | None] = ContextVar("normcore_executor", default=None)


def get_num_threads() -> int:
    """Return the number of threads that kernels called from here use, the caller included.

    The first of these that says something: :func:`use_num_threads`, :func:`set_num_threads`,
    ``NORMCORE_NUM_THREADS``, ``OMP_NUM_THREADS``, and the number of processors that this process
    may use by its affinity and by the control groups it is in. The two variables are read once.

    Raises
    ------
    ValueError
        If ``NORMCORE_NUM_THREADS`` is not a whole number of at least 1.

    Examples
    --------
    >>> import normcore as nc
    >>> with nc.use_num_threads(2):
    ...     nc.get_num_threads()
    2
    """
    register_if_loaded()
    here = _num_threads_here.get()
    return _process_num_threads() if here is None else here


def set_num_threads(n: int) -> None:
    """Set the number of threads that kernels use, for the whole process.

    Results do not depend on it, to the bit. ``with`` blocks of :func:`use_num_threads` keep
    their own number.

    Parameters
    ----------
    n : int
        At least 1; 1 means that callers work alone.

    Raises
    ------
    ValueError
        If ``n`` is not a whole number of at least 1.

    Examples
    --------
    >>> import normcore as nc
    >>> before = nc.get_num_threads()
    >>> nc.set_num_threads(1)
    >>> nc.get_num_threads()
    1
    >>> nc.set_num_threads(before)
    """
    global _num_threads
    register_if_loaded()
    _num_threads = _checked(n)
    note_num_threads()


def note_num_threads() -> None:
    """Let callers without Python have the process's number of threads, as it is now."""
    foreign_calls.set_num_threads(_process_num_threads())


@contextmanager
def use_num_threads(n: int) -> Iterator[None]:
    """Use at most so many threads for kernels that are called in a ``with`` block.

    It holds for the running thread or asynchronous task; threads started in the block are not
    included.

    Parameters
    ----------
    n : int
        At least 1; 1 means that the caller works alone.

    Raises
    ------
    ValueError
        If ``n`` is not a whole number of at least 1.

    Examples
    --------
    >>> import normcore as nc
    >>> with nc.use_num_threads(1):
    ...     scaler = nc.StandardScaler().fit([[0.0], [2.0]])  # by this thread alone
    """
    register_if_loaded()
    token = _num_threads_here.set(_checked(n))
    try:
        yield
    finally:
        _num_threads_here.reset(token)


def set_executor(executor: Executor | None) -> None:
    """Let kernels run in the threads of an executor, in the whole process.

    A kernel submits one task less than :func:`get_num_threads` says, works itself, and never
    waits for a task that has not begun: it may be called by a task of the same executor, and
    one that takes no more tasks does no harm.

    Parameters
    ----------
    executor : concurrent.futures.Executor or None
        None gives the work back to normcore's own threads.

    Raises
    ------
    TypeError
        If it is not an executor, or runs its tasks in other processes or interpreters.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import normcore as nc
    >>> with ThreadPoolExecutor(2) as executor:
    ...     nc.set_executor(executor)
    ...     scaler = nc.StandardScaler().fit([[0.0], [2.0]])
    ...     nc.set_executor(None)
    """
    global _executor
    _executor = None if executor is None else _checked_executor(executor)


@contextmanager
def use_executor(executor: Executor) -> Iterator[None]:
    """Let kernels that are called in a ``with`` block run in the threads of an executor.

    It holds for the running thread or asynchronous task; threads started in the block are not
    included.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        As for :func:`set_executor`, which also says what is raised.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import normcore as nc
    >>> with ThreadPoolExecutor(2) as executor, nc.use_executor(executor):
    ...     scaler = nc.StandardScaler().fit([[0.0], [2.0]])
    """
    token = _executor_here.set(_checked_executor(executor))
    try:
        yield
    finally:
        _executor_here.reset(token)


def set_thread_affinity(enabled: bool) -> None:
    """Let normcore set the processor affinity of its own threads, in the whole process.

    Where all processors of a virtual machine sleep, Linux queues a thread that is woken on its
    waker's processor, so that the first kernel after a pause may run without help. If this is
    enabled, a thread of normcore's pool is woken with its caller's processor taken from its
    affinity, and takes back its own at once. Threads of the host are never touched, and without
    this call no thread is. Elsewhere than on Linux it has no effect.

    Parameters
    ----------
    enabled : bool
        False is the default.

    Raises
    ------
    TypeError
        If it is not a bool, as a set of processors would be.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.set_thread_affinity(False)  # the default
    """
    if not isinstance(enabled, bool):
        raise TypeError(f"set_thread_affinity takes True or False, not {enabled!r}")
    set_affinity(enabled)


def run(
    function: Callable[[int, int], None],
    num_items: int,
    *,
    min_items: int = 1,
    wake: bool = True,
) -> None:
    """Call ``function(start, stop)`` on chunks that cover ``range(num_items)``, in some threads.

    Parameters
    ----------
    function : normcore.threads.pool.Work or callable
        May run in several threads at once; a Work does so without the GIL.
    num_items : int
        Number of items.
    min_items : int
        A chunk has at least this many items, so that small work stays in the caller. A call
        inside ``function`` stays in its caller too.
    wake : bool
        Whether the work is worth waking threads that sleep, which takes longer than many a small
        kernel; otherwise only those that are still awake after other work help.

    Raises
    ------
    Exception
        The first one that ``function`` raised, after every chunk has ended.

    Examples
    --------
    >>> import normcore as nc
    >>> done = []
    >>> nc.parallel_for(lambda start, stop: done.extend(range(start, stop)), 5)
    >>> sorted(done)
    [0, 1, 2, 3, 4]
    """
    # The number of processors costs a look at the system, which small work does without.
    small = num_items < 2 * min_items
    num_threads = 1 if small else min(get_num_threads(), _MOST_THREADS)
    executor = _executor_here.get() or _executor
    parallel_for(function, num_items, min_items, num_threads, executor, wake)


def register_with_threadpoolctl() -> None:
    """Let ``threadpoolctl.threadpool_limits`` and ``threadpool_info`` include normcore.

    normcore does so by itself when it is imported after threadpoolctl, and else when its number of
    threads is first asked for or set, or more than one might be used. Call this where a limit is
    to hold already that was set before.

    Raises
    ------
    ImportError
        If threadpoolctl is not installed, or older than 3.2.

    Examples
    --------
    >>> import normcore as nc
    >>> from threadpoolctl import threadpool_limits
    >>> nc.register_with_threadpoolctl()
    >>> with threadpool_limits(1):
    ...     nc.get_num_threads()
    1
    """
    # A compiled import statement takes what stands in sys.modules, also where that is None.
    threadpoolctl = import_module("threadpoolctl")
    if not _register(threadpoolctl):
        version = getattr(threadpoolctl, "__version__", "without a version")
        raise ImportError(
            f"threadpoolctl {version} knows no controllers of others; install threadpoolctl>=3.2",
            name="threadpoolctl",
        )


def register_if_loaded() -> None:
    """Tell threadpoolctl of normcore if it is loaded; this costs next to nothing."""
    module = sys.modules.get("threadpoolctl")
    if module is not None:
        _register(module)


def _register(threadpoolctl: ModuleType) -> bool:
    return register_controller(threadpoolctl, get_num_threads, _limit_here)


def _limit_here(n: int) -> None:
    """Set the number of threads for the running thread or asynchronous task until further notice.

    The process's number, which whoever restores it passes, ends this.
    """
    n = max(n, 1)
    _num_threads_here.set(None if n == _process_num_threads() else n)


def _checked(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, Real) or not n >= 1 or n % 1 != 0:
        raise ValueError(f"the number of threads must be a whole number of at least 1, not {n!r}")
    return int(n)


def _checked_executor(executor: Executor) -> Executor:
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"the executor must be a concurrent.futures.Executor, not {executor!r}")
    for each in type(executor).__mro__:  # by name: the modules of these need not be loaded
        if each.__name__ in {"ProcessPoolExecutor", "InterpreterPoolExecutor"}:
            raise TypeError(
                f"{type(executor).__name__} does not run tasks in threads that share this "
                "process's arrays; pass a ThreadPoolExecutor or one like it"
            )
    return executor


def _process_num_threads() -> int:
    return _num_threads or _from_environment() or _num_processors()


@cache
def _from_environment() -> int | None:
    text = os.environ.get("NORMCORE_NUM_THREADS", "").strip()
    if text:
        if text.isdecimal() and int(text) > 0:
            return int(text)
        raise ValueError(
            f"the environment variable NORMCORE_NUM_THREADS is {text!r}; it must be a whole "
            "number of at least 1, or unset"
        )
    # A list has one number for each level of nested parallel regions.
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return (int(text) or None) if text.isdecimal() else None


def _num_processors() -> int:
    """Return the number of processors that the calling thread may use now."""
    if hasattr(os, "process_cpu_count"):
        number = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        number = len(os.sched_getaffinity(0))
    else:
        number = os.cpu_count()
    return max(1, ceil(min(number or 1, _granted_processors())))


@cache
def _granted_processors(root: str = "/") -> float:
    """Return the processors' worth of time that Linux's control groups grant, or infinity.

    A group's limit binds the groups below it. A container may see its own group as the root.
    """
    try:
        lines = Path(root, "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return inf
    granted = inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            hierarchy, names = "", ["cpu.max"]
        elif "cpu" in controllers.split(","):
            hierarchy, names = "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = Path(path.lstrip("/"))
        for each in (group, *group.parents):
            folder = Path(root, "sys/fs/cgroup", hierarchy, each)
            try:
                words = " ".join((folder / name).read_text() for name in names).split()
                quota, period = int(words[0]), int(words[1])
            except (OSError, ValueError, IndexError):
                continue  # no such group here, or no limit
            if quota > 0 and period > 0:
                granted = min(granted, quota / period)
    return granted
