# cython: boundscheck=False, wraparound=False, cdivision=True, auto_pickle=False
# Design: work for callers without Python, such as threads of a C library: a job of the pool like
# any other, which begins without the GIL, a thread state or an exception. Only the pool's own
# threads help, as an executor is Python's. Nothing here reads the clock, so jobs in close
# succession are not counted: each says for itself whether sleepers are woken.

from cpython.ref cimport PyObject

from .pool cimport Work, pool, run_in_pool
from .pool_state cimport job_t
from .spin_locks cimport PyThread_free_lock, new_held_lock

__all__ = ["set_num_threads"]

cdef enum:
    MOST_THREADS = 1024

cdef int noted_num_threads = 1


def set_num_threads(int n):
    """Note how many threads work for callers without Python that name no number."""
    global noted_num_threads
    noted_num_threads = min(n, <int> MOST_THREADS)


cdef int num_threads_for(int asked) noexcept nogil:
    """Return how many threads a caller has that asks for some, or by 0 for the usual number."""
    return min(asked, <int> MOST_THREADS) if asked > 0 else noted_num_threads


cdef void run_in_threads(
    Work work, Py_ssize_t num_items, Py_ssize_t min_items, int num_threads, bint wake
) noexcept nogil:
    """Work on chunks of ``range(num_items)`` in at most so many threads, the caller's included."""
    cdef job_t job
    job.finished = NULL
    job.max_threads = min(num_threads, num_items // min_items)
    if job.max_threads > 1:
        job.finished = new_held_lock()
    if job.finished is NULL:
        work.work(0, num_items)
        return
    job.work = <PyObject*> work
    job.next, job.stop, job.min_chunk = 0, num_items, min_items
    job.max_at_work, job.wakes = num_threads, wake
    job.num_helpers, job.waiting = 0, False
    job.generation, job.next_job = pool.generation, NULL
    run_in_pool(&job)
    PyThread_free_lock(job.finished)
