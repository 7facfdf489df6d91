"""Threads: how many and whose (``settings``), and the pool that works on ranges (``pool``)."""

from normcore.threads.settings import (
    get_num_threads,
    register_if_loaded,
    register_with_threadpoolctl,
    run,
    set_executor,
    set_num_threads,
    set_thread_affinity,
    use_executor,
    use_num_threads,
)

__all__ = [
    "get_num_threads",
    "register_if_loaded",
    "register_with_threadpoolctl",
    "run",
    "set_executor",
    "set_num_threads",
    "set_thread_affinity",
    "use_executor",
    "use_num_threads",
]
