# cython: boundscheck=False, wraparound=False, cdivision=True, auto_pickle=False
# Design: one pool of operating-system threads serves the process. A call of `parallel_for` is a job
# on its caller's stack: the next item, and how many threads are at work on it. The caller and the
# workers that have come take chunks of items until none is left, so a call waits for chunks that
# were begun, never for a thread that is slow to wake; nothing refers to a job that is over. Chunks
# begin large and shrink (guided self-scheduling), so that all end together where a processor is
# busy elsewhere. A worker joins while fewer threads are at work than the job's caller may use,
# every caller counted: several at once share the processors instead of multiplying threads.
# One lock guards all of this. It is held for a few instructions, and never by one who wants the
# GIL. Each worker sleeps on a lock of its own, after a spin, as waking it takes longer than many a
# kernel: some 10 microseconds of the caller's and 30 until it comes. A small kernel has the help
# of those awake only, unless it is one of many in close succession, so that whoever is woken for it
# will be awake for the next. Threads have no thread states of Python's: kernels need no GIL, and
# libraries that replace Python's threads do not meet them.
# Where the other processors of a virtual machine sleep, Linux queues who is woken on its waker's,
# and leaves it there for 10 to 30 milliseconds. It begins new threads elsewhere, though, so a
# worker that finds itself there spawns another in its place. A host may also let the pool set its
# workers' affinity, so that they keep off the waker's processor from the first.

import os
import sys
import threading
from time import perf_counter_ns

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport PyObject
from libc.stdlib cimport free, malloc

from .pool_state cimport (
    current_cpu,
    exclude_current_cpu,
    init_affinity,
    job_t,
    restore_affinity,
    worker_t,
)
from .spin_locks cimport (
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_release_lock,
    PyThread_type_lock,
    attempts_within,
    new_held_lock,
    spin,
)

__all__ = ["Work", "parallel_for", "set_affinity"]

cdef extern from "pythread.h" nogil:
    unsigned long PyThread_start_new_thread(void (*function)(void*) noexcept, void* argument)

# Nanoseconds of attempts before sleeping: on the pool's lock, whose holder is gone soon unless it
# lost its processor, and where a thread waits for work of others or for more work.
cdef long long LOCK_SPIN_TIME = 1000
cdef long long WAIT_SPIN_TIME = 100_000
cdef int lock_spins, wait_spins

# Jobs in close succession after which there will be more: a layer's passes have two each.
cdef int MANY_JOBS = 4


cdef void reset_pool() noexcept:
    """Begin without threads, as a forked child does; who held the lock may not exist there."""
    pool.lock = PyThread_allocate_lock()
    pool.jobs, pool.idle = NULL, NULL
    pool.num_callers = pool.num_busy = pool.num_workers = 0
    pool.generation += 1


cdef inline bint try_acquire(PyThread_type_lock lock, int attempts) noexcept nogil:
    """Spin for a lock, unless another thread needs the processor."""
    return pool.num_workers < pool.num_cpus and spin(lock, attempts)


cdef inline void acquire(PyThread_type_lock lock, int attempts) noexcept nogil:
    """Acquire a lock, sleeping on it only after some attempts."""
    if not try_acquire(lock, attempts):
        PyThread_acquire_lock(lock, WAIT_LOCK)


cdef inline void lock_pool() noexcept nogil:
    acquire(pool.lock, lock_spins)


cdef inline void unlock_pool() noexcept nogil:
    PyThread_release_lock(pool.lock)


# What follows, up to `spawn_workers`, runs with the pool locked.


cdef job_t* find_job(bint asleep) noexcept nogil:
    """Return the oldest job that has use for another worker, which may sleep; or null."""
    cdef job_t* job = pool.jobs
    cdef int at_work = pool.num_callers + pool.num_busy
    while job is not NULL and not (
        job.next < job.stop and job.num_helpers + 1 < job.max_threads and at_work < job.max_at_work
        and (job.wakes or not asleep)
    ):
        job = job.next_job
    return job


cdef worker_t* workers_to_wake() noexcept nogil:
    """Return up to two workers to wake; they wake others, so that nobody has many to wake."""
    cdef const job_t* job = NULL
    cdef worker_t* woken = NULL
    cdef worker_t* worker
    cdef int number
    if pool.idle is not NULL:
        job = find_job(pool.idle.asleep)
    if job is not NULL:
        number = min(
            2, job.max_threads - job.num_helpers - 1,
            job.max_at_work - pool.num_callers - pool.num_busy,
        )
        while number > 0 and pool.idle is not NULL and (job.wakes or not pool.idle.asleep):
            worker = pool.idle
            pool.idle = worker.next_idle
            worker.next_idle, woken = woken, worker
            number -= 1
    return woken


cdef void unlock_and_wake() noexcept nogil:
    """Unlock first: a thread that is woken may take the processor at once, and want the lock."""
    cdef worker_t* woken = workers_to_wake()
    cdef worker_t* worker
    unlock_pool()
    while woken is not NULL:
        worker, woken = woken, woken.next_idle
        worker.waker_cpu = current_cpu()
        if worker.asleep and pool.sets_affinity:
            exclude_current_cpu(&worker.affinity)
        PyThread_release_lock(worker.wake)


cdef void drain(job_t* job) noexcept nogil:
    """Work on chunks until none is left to begin."""
    cdef Py_ssize_t start, left, size
    while job.next < job.stop:
        start, left = job.next, job.stop - job.next
        size = max(job.min_chunk, left // (2 * job.max_threads))
        if left - size < job.min_chunk:
            size = left
        job.next += size
        unlock_and_wake()
        (<Work>job.work).work(start, start + size)
        lock_pool()


cdef void join_job(job_t* job) noexcept nogil:
    job.num_helpers += 1
    drain(job)
    job.num_helpers -= 1
    if job.waiting and job.num_helpers == 0:
        PyThread_release_lock(job.finished)


cdef void wait_for_helpers(job_t* job) noexcept nogil:
    """Wait until the helpers of a job have left."""
    job.waiting = job.num_helpers > 0
    if job.waiting:
        unlock_pool()
        acquire(job.finished, wait_spins)
        lock_pool()


cdef bint is_on_wakers_cpu(const worker_t* worker) noexcept nogil:
    return (
        worker.waker_cpu >= 0 and worker.waker_cpu == current_cpu()
        and pool.num_workers < pool.num_cpus
    )


cdef bint start_thread(worker_t* worker) noexcept nogil:
    return <long>PyThread_start_new_thread(worker_loop, worker) != -1


cdef void worker_loop(void* argument) noexcept nogil:
    """Be a worker, for ever."""
    cdef worker_t* worker = <worker_t*>argument
    cdef job_t* job
    init_affinity(&worker.affinity)
    lock_pool()
    while True:
        job = find_job(False)
        if job is NULL:
            worker.asleep = False
            worker.next_idle, pool.idle = pool.idle, worker
            unlock_pool()
            if not try_acquire(worker.wake, wait_spins):
                lock_pool()
                worker.asleep = True
                unlock_pool()
                PyThread_acquire_lock(worker.wake, WAIT_LOCK)
                restore_affinity(&worker.affinity)
                if is_on_wakers_cpu(worker) and start_thread(worker):
                    return
            lock_pool()
        else:
            pool.num_busy += 1
            join_job(job)
            pool.num_busy -= 1


cdef void spawn_workers(int number) noexcept nogil:
    """Have this many workers, or as many as the system grants."""
    cdef worker_t* worker
    while pool.num_workers < number:
        worker = <worker_t*>malloc(sizeof(worker_t))
        if worker is NULL:
            return
        worker.wake = new_held_lock()
        if worker.wake is NULL or not start_thread(worker):
            if worker.wake is not NULL:
                PyThread_free_lock(worker.wake)
            free(worker)
            return
        pool.num_workers += 1


cdef class Work:
    """What kernels derive from: work on a chunk of items that needs no GIL."""

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        pass

    def __call__(self, Py_ssize_t start, Py_ssize_t stop):
        """Work on a chunk in the calling thread."""
        with nogil:
            self.work(start, stop)


class _Thread(threading.local):
    """Whether the running thread is inside a function that several threads run."""

    inside = False


_thread = _Thread()


cdef class PythonWork(Work):
    """A Python function as Work."""

    cdef object function
    cdef list errors

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        with gil:
            _thread.inside = True
            try:
                self.function(start, stop)
            except BaseException as error:
                self.errors.append(error)
            _thread.inside = False


cdef class ExecutorTask:
    """A worker's part in a job, for an executor, which may begin it late or never."""

    cdef job_t* job
    cdef unsigned int generation

    def __call__(self):
        """Drain the job unless it is over."""
        with nogil:
            lock_pool()
            if self.job is not NULL and self.generation == pool.generation:
                join_job(self.job)
            unlock_pool()

    def __reduce__(self):
        raise TypeError("normcore's executor must run its tasks in threads of this process")


cdef void run_in_pool(job_t* job) noexcept nogil:
    cdef job_t** link = &pool.jobs
    lock_pool()
    spawn_workers(job.max_threads - 1)
    while link[0] is not NULL:
        link = &link[0].next_job
    link[0] = job
    pool.num_callers += 1
    drain(job)
    if job.generation == pool.generation:
        wait_for_helpers(job)
        link = &pool.jobs
        while link[0] is not job:
            link = &link[0].next_job
        link[0] = job.next_job
        pool.num_callers -= 1
    unlock_and_wake()


cdef int run_in_executor(job_t* job, executor) except -1:
    cdef ExecutorTask helper = ExecutorTask()
    cdef list futures = []
    helper.job, helper.generation = job, job.generation
    try:
        for _ in range(job.max_threads - 1):
            futures.append(executor.submit(helper))
    except RuntimeError:
        pass  # it takes no more tasks, as at exit; the caller can do without
    finally:
        with nogil:
            lock_pool()
            drain(job)
            if job.generation == pool.generation:
                wait_for_helpers(job)
            helper.job = NULL
            unlock_pool()
        for future in futures:
            future.cancel()
    return 0


def parallel_for(
    object function,
    Py_ssize_t num_items,
    Py_ssize_t min_items,
    Py_ssize_t num_threads,
    object executor,
    bint wake=True,
):
    """Call ``function(start, stop)`` on chunks of ``range(num_items)``; see `normcore.threads.run`.

    A Work is given more chunks than there are threads; other callables, which are called with the
    GIL, at most one for each. At most `num_threads` are at work; those of an executor help if there
    is one, and otherwise those of the pool.
    """
    cdef job_t job
    cdef PythonWork call = None
    min_items = max(min_items, 1)
    job.max_threads = min(num_threads, num_items // min_items)
    if job.max_threads < 2 or _thread.inside or sys.is_finalizing():
        if num_items > 0:
            function(0, num_items)
        return
    if not isinstance(function, Work):
        call = PythonWork()
        call.function, call.errors = function, []
        function = call
        min_items = max(min_items, (num_items + job.max_threads - 1) // job.max_threads)
    job.work = <PyObject*>function
    job.next, job.stop, job.min_chunk = 0, num_items, min_items
    job.max_at_work = num_threads
    if perf_counter_ns() - pool.last_end < WAIT_SPIN_TIME:
        pool.num_in_succession = min(pool.num_in_succession + 1, MANY_JOBS)
    else:
        pool.num_in_succession = 0
    job.wakes = wake or pool.num_in_succession == MANY_JOBS
    job.num_helpers, job.waiting = 0, False
    job.generation, job.next_job = pool.generation, NULL
    job.finished = new_held_lock()
    if job.finished is NULL:
        raise MemoryError
    try:
        if executor is None:
            with nogil:
                run_in_pool(&job)
        else:
            run_in_executor(&job, executor)
    finally:
        PyThread_free_lock(job.finished)
        pool.last_end = perf_counter_ns()
    if job.num_helpers:
        raise RuntimeError("a function that normcore ran in several threads forked")
    if call is not None and call.errors:
        raise call.errors[0]
    PyErr_CheckSignals()


def set_affinity(bint enabled):
    """Say whether workers that are woken keep off their caller's processor until they run."""
    pool.sets_affinity = enabled


def _after_fork():
    _thread.inside = False
    reset_pool()


reset_pool()
lock_spins = attempts_within(LOCK_SPIN_TIME, perf_counter_ns)
wait_spins = attempts_within(WAIT_SPIN_TIME, perf_counter_ns)
pool.num_cpus = os.cpu_count() or 1
if hasattr(os, "sched_getaffinity"):
    pool.num_cpus = len(os.sched_getaffinity(0))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
