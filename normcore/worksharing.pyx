# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one pool of operating-system threads serves the process. A call of `share` is a job on
# its caller's stack: how far its items have been handed out, and how many are at work on it. The
# caller and the workers that have come take ranges until none is left, so a call waits for ranges
# that were begun, never for a thread that is slow to wake; nothing refers to a job that is over.
# Ranges begin large and shrink, so that all end together where a processor is busy elsewhere.
# A worker joins while fewer threads are at work than the job's caller may use, counting every
# caller: several callers at once share the processors instead of multiplying threads.
# One lock guards all of this. It is held for a few instructions, and never by one who wants the
# GIL. Each worker sleeps on a lock of its own, after a spin, as waking it takes longer than many a
# kernel: some 10 microseconds of the caller's and 30 until it comes. A small kernel has the help
# of those awake only, unless it is one of many in close succession, so that whoever is woken for it
# will be awake for the next. Threads and locks are those of Python's C interface, without thread
# states: kernels need no GIL, and libraries that replace Python's threads do not meet them.
# Where the other processors of a virtual machine sleep, Linux queues who is woken on its waker's,
# and leaves it there for 10 to 30 milliseconds. It begins new threads elsewhere, though, so a
# worker that finds itself there starts another in its place. A host may also let the pool set its
# workers' affinity, so that they keep off the waker's processor from the first.

import os
import sys
import threading
from time import perf_counter_ns

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport PyObject
from libc.stdlib cimport free, malloc

__all__ = ["Work", "set_affinity", "share"]

cdef extern from "pythread.h" nogil:  # Cython's own declarations ask for the GIL
    ctypedef void* PyThread_type_lock
    int WAIT_LOCK, NOWAIT_LOCK
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)
    unsigned long PyThread_start_new_thread(void (*function)(void*) noexcept, void* argument)

cdef extern from "placing.h" nogil:
    ctypedef struct place_t:
        pass
    void relax()
    void begin_place(place_t* place)
    void place_elsewhere(place_t* place)
    void place_as_usual(place_t* place)
    int current_cpu()

# Nanoseconds of attempts before sleeping: on the pool's lock, whose holder is gone soon unless it
# lost its processor, and where a thread waits for work of others or for more work.
cdef long long ENTER_TIME = 1000
cdef long long WAIT_TIME = 100_000
cdef int enter_attempts, wait_attempts

# Jobs in close succession after which there will be more: a layer's passes have two each.
cdef int MANY_JOBS = 4


cdef struct job_t:
    PyObject* work  # a Work, which the caller keeps alive
    Py_ssize_t next  # the first item that is not handed out
    Py_ssize_t stop
    Py_ssize_t smallest  # items of a range
    int most  # threads at work on this job, its caller included
    int limit  # threads at work in the process, callers included
    int helpers
    bint wakes  # workers that sleep
    bint waiting
    PyThread_type_lock finished  # held until the last helper has left
    unsigned int generation
    job_t* following


cdef struct worker_t:
    PyThread_type_lock wake
    bint asleep
    place_t place
    int waker  # processor of the thread that woke it
    worker_t* below  # in the stack of the idle


cdef struct pool_t:
    PyThread_type_lock lock
    job_t* jobs
    worker_t* idle
    int callers
    int busy
    int workers
    int processors
    bint sets_affinity  # of workers that it wakes
    unsigned int generation  # counts forks
    long long last  # when a job ended
    int in_succession  # jobs that began soon after another


cdef pool_t pool


cdef void reset_pool() noexcept:
    """Begin without threads, as a forked child does; who held the lock may not exist there."""
    pool.lock = PyThread_allocate_lock()
    pool.jobs, pool.idle = NULL, NULL
    pool.callers = pool.busy = pool.workers = 0
    pool.generation += 1


cdef inline bint try_to_take(PyThread_type_lock lock, int attempts) noexcept nogil:
    """Acquire a lock within some attempts; return whether that succeeded."""
    if pool.workers < pool.processors:  # else another thread needs the processor
        for _attempt in range(attempts):
            if PyThread_acquire_lock(lock, NOWAIT_LOCK):
                return True
            relax()
    return False


cdef inline void take(PyThread_type_lock lock, int attempts) noexcept nogil:
    """Acquire a lock, sleeping on it only after some attempts."""
    if not try_to_take(lock, attempts):
        PyThread_acquire_lock(lock, WAIT_LOCK)


cdef inline void enter() noexcept nogil:
    take(pool.lock, enter_attempts)


cdef inline void leave() noexcept nogil:
    PyThread_release_lock(pool.lock)


cdef PyThread_type_lock taken_lock() noexcept nogil:
    cdef PyThread_type_lock lock = PyThread_allocate_lock()
    if lock is not NULL:
        PyThread_acquire_lock(lock, WAIT_LOCK)
    return lock


cdef void measure_attempts() noexcept:
    """Find how many attempts take how long; the shortest time is that without interruption."""
    global enter_attempts, wait_attempts
    cdef PyThread_type_lock lock = taken_lock()
    cdef long long start, shortest = WAIT_TIME
    cdef int number = 100
    if lock is NULL:
        return
    for _ in range(5):
        start = perf_counter_ns()
        for _attempt in range(number):
            PyThread_acquire_lock(lock, NOWAIT_LOCK)
            relax()
        shortest = min(shortest, perf_counter_ns() - start)
    shortest = max(shortest, number)  # a clock may be coarse
    enter_attempts = <int> (ENTER_TIME * number // shortest) + 1
    wait_attempts = <int> (WAIT_TIME * number // shortest) + 1
    PyThread_release_lock(lock)
    PyThread_free_lock(lock)


# What follows, up to `hire`, runs with the pool's lock held.


cdef job_t* open_job(bint asleep) noexcept nogil:
    """Return the oldest job that has use for another worker, which may sleep; or null."""
    cdef job_t* job = pool.jobs
    cdef int at_work = pool.callers + pool.busy
    while job is not NULL and not (
        job.next < job.stop and job.helpers + 1 < job.most and at_work < job.limit
        and (job.wakes or not asleep)
    ):
        job = job.following
    return job


cdef worker_t* called_workers() noexcept nogil:
    """Return up to two workers to wake; they wake others, so that nobody has many to wake."""
    cdef const job_t* job = NULL
    cdef worker_t* called = NULL
    cdef worker_t* worker
    cdef int number
    if pool.idle is not NULL:
        job = open_job(pool.idle.asleep)
    if job is not NULL:
        number = min(2, job.most - job.helpers - 1, job.limit - pool.callers - pool.busy)
        while number > 0 and pool.idle is not NULL and (job.wakes or not pool.idle.asleep):
            worker = pool.idle
            pool.idle = worker.below
            worker.below, called = called, worker
            number -= 1
    return called


cdef void leave_and_wake() noexcept nogil:
    """Leave first: a thread that is woken may take the processor at once, and want the lock."""
    cdef worker_t* called = called_workers()
    cdef worker_t* worker
    leave()
    while called is not NULL:
        worker, called = called, called.below
        worker.waker = current_cpu()
        if worker.asleep and pool.sets_affinity:
            place_elsewhere(&worker.place)
        PyThread_release_lock(worker.wake)


cdef void attend(job_t* job) noexcept nogil:
    """Work on ranges until none is left to begin."""
    cdef Py_ssize_t start, left, size
    while job.next < job.stop:
        start, left = job.next, job.stop - job.next
        size = max(job.smallest, left // (2 * job.most))
        if left - size < job.smallest:
            size = left
        job.next += size
        leave_and_wake()
        (<Work>job.work).work(start, start + size)
        enter()


cdef void help_with(job_t* job) noexcept nogil:
    job.helpers += 1
    attend(job)
    job.helpers -= 1
    if job.waiting and job.helpers == 0:
        PyThread_release_lock(job.finished)


cdef void close(job_t* job) noexcept nogil:
    """Wait until the helpers of a job have left."""
    job.waiting = job.helpers > 0
    if job.waiting:
        leave()
        take(job.finished, wait_attempts)
        enter()


cdef bint is_queued_behind_waker(const worker_t* worker) noexcept nogil:
    return worker.waker >= 0 and worker.waker == current_cpu() and pool.workers < pool.processors


cdef bint start_thread(worker_t* worker) noexcept nogil:
    return <long>PyThread_start_new_thread(serve, worker) != -1


cdef void serve(void* argument) noexcept nogil:
    """Be a worker, for ever."""
    cdef worker_t* worker = <worker_t*>argument
    cdef job_t* job
    begin_place(&worker.place)
    enter()
    while True:
        job = open_job(False)
        if job is NULL:
            worker.asleep = False
            worker.below, pool.idle = pool.idle, worker
            leave()
            if not try_to_take(worker.wake, wait_attempts):
                enter()
                worker.asleep = True
                leave()
                PyThread_acquire_lock(worker.wake, WAIT_LOCK)
                place_as_usual(&worker.place)
                if is_queued_behind_waker(worker) and start_thread(worker):
                    return
            enter()
        else:
            pool.busy += 1
            help_with(job)
            pool.busy -= 1


cdef void hire(int number) noexcept nogil:
    """Have this many workers, or as many as the system grants."""
    cdef worker_t* worker
    while pool.workers < number:
        worker = <worker_t*>malloc(sizeof(worker_t))
        if worker is NULL:
            return
        worker.wake = taken_lock()
        if worker.wake is NULL or not start_thread(worker):
            if worker.wake is not NULL:
                PyThread_free_lock(worker.wake)
            free(worker)
            return
        pool.workers += 1


cdef class Work:
    """What kernels derive from: work on a range of items that needs no GIL."""

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        pass

    def __call__(self, Py_ssize_t start, Py_ssize_t stop):
        """Work on a range in the calling thread."""
        with nogil:
            self.work(start, stop)


class _Thread(threading.local):
    """Whether the running thread is inside a function that is being shared."""

    sharing = False


_thread = _Thread()


cdef class Call(Work):
    """A Python function as Work."""

    cdef object function
    cdef list errors

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        with gil:
            _thread.sharing = True
            try:
                self.function(start, stop)
            except BaseException as error:
                self.errors.append(error)
            _thread.sharing = False


cdef class Helper:
    """A hand with a job for an executor, which may begin it late or never."""

    cdef job_t* job
    cdef unsigned int generation

    def __call__(self):
        """Work on ranges until none is left, unless the job is over."""
        with nogil:
            enter()
            if self.job is not NULL and self.generation == pool.generation:
                help_with(self.job)
            leave()

    def __reduce__(self):
        raise TypeError("normcore's executor must run its tasks in threads of this process")


cdef void share_in_pool(job_t* job) noexcept nogil:
    cdef job_t** link = &pool.jobs
    enter()
    hire(job.most - 1)
    while link[0] is not NULL:
        link = &link[0].following
    link[0] = job
    pool.callers += 1
    attend(job)
    if job.generation == pool.generation:
        close(job)
        link = &pool.jobs
        while link[0] is not job:
            link = &link[0].following
        link[0] = job.following
        pool.callers -= 1
    leave_and_wake()


cdef int share_in_executor(job_t* job, executor) except -1:
    cdef Helper helper = Helper()
    cdef list futures = []
    helper.job, helper.generation = job, job.generation
    try:
        for _ in range(job.most - 1):
            futures.append(executor.submit(helper))
    except RuntimeError:
        pass  # it takes no more tasks, as at exit; the caller can do without
    finally:
        with nogil:
            enter()
            attend(job)
            if job.generation == pool.generation:
                close(job)
            helper.job = NULL
            leave()
        for future in futures:
            future.cancel()
    return 0


def share(
    object function,
    Py_ssize_t num_items,
    Py_ssize_t min_items,
    Py_ssize_t num_threads,
    object executor,
    bint wake=True,
):
    """Call ``function(start, stop)`` on ranges that cover ``range(num_items)``, in some threads.

    Parameters
    ----------
    function : Work or callable
        A Work is given more ranges than there are threads; other callables, which are called
        with the GIL, at most one for each.
    num_items, min_items : int
        Items, and the fewest of a range.
    num_threads : int
        The most threads at work.
    executor : concurrent.futures.Executor or None
        Whose threads help; otherwise those of the pool.
    wake : bool
        Whether the work is worth waking threads that sleep.

    Raises
    ------
    Exception
        The first that ``function`` raised, after every range has ended.
    """
    cdef job_t job
    cdef Call call = None
    min_items = max(min_items, 1)
    job.most = min(num_threads, num_items // min_items)
    if job.most < 2 or _thread.sharing or sys.is_finalizing():
        if num_items > 0:
            function(0, num_items)
        return
    if not isinstance(function, Work):
        call = Call()
        call.function, call.errors = function, []
        function = call
        min_items = max(min_items, (num_items + job.most - 1) // job.most)
    job.work = <PyObject*>function
    job.next, job.stop, job.smallest = 0, num_items, min_items
    job.limit = num_threads
    if perf_counter_ns() - pool.last < WAIT_TIME:
        pool.in_succession = min(pool.in_succession + 1, MANY_JOBS)
    else:
        pool.in_succession = 0
    job.wakes = wake or pool.in_succession == MANY_JOBS
    job.helpers, job.waiting = 0, False
    job.generation, job.following = pool.generation, NULL
    job.finished = taken_lock()
    if job.finished is NULL:
        raise MemoryError
    try:
        if executor is None:
            with nogil:
                share_in_pool(&job)
        else:
            share_in_executor(&job, executor)
    finally:
        PyThread_free_lock(job.finished)
        pool.last = perf_counter_ns()
    if job.helpers:
        raise RuntimeError("a function that normcore had shared out among threads forked")
    if call is not None and call.errors:
        raise call.errors[0]
    PyErr_CheckSignals()


def set_affinity(bint enabled):
    """Say whether workers that are woken keep off their caller's processor until they run."""
    pool.sets_affinity = enabled


def _after_fork():
    _thread.sharing = False
    reset_pool()


reset_pool()
measure_attempts()
pool.processors = os.cpu_count() or 1
if hasattr(os, "sched_getaffinity"):
    pool.processors = len(os.sched_getaffinity(0))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
