# Design: what the pool of pool.pyx consists of. Jobs lie on the stacks of their callers, a worker's
# memory is its own for ever, and all of it is guarded by the pool's lock.

from cpython.ref cimport PyObject

from .spin_locks cimport PyThread_type_lock

cdef extern from "affinity.h" nogil:
    ctypedef struct affinity_t:
        pass
    int current_cpu()
    void init_affinity(affinity_t* affinity)
    void exclude_current_cpu(affinity_t* affinity)
    void restore_affinity(affinity_t* affinity)

# A symbol by which threadpoolctl_controller.py tells this pool from others' modules of the name.
cdef extern from *:
    """
    #ifdef _WIN32
    __declspec(dllexport)
    #elif defined(__GNUC__)
    __attribute__((visibility("default")))
    #endif
    const char normcore_thread_pool = 1;
    """


cdef struct job_t:
    PyObject* work  # a Work, which the caller keeps alive
    Py_ssize_t next  # the first item that no thread has taken
    Py_ssize_t stop
    Py_ssize_t min_chunk  # items of a chunk but the last
    int max_threads  # threads at work on this job, its caller included
    int max_at_work  # threads at work in the process, callers included
    int num_helpers
    bint wakes  # workers that sleep
    bint waiting
    PyThread_type_lock finished  # held until the last helper has left
    unsigned int generation
    job_t* next_job


cdef struct worker_t:
    PyThread_type_lock wake
    bint asleep
    affinity_t affinity
    int waker_cpu  # processor of the thread that woke it
    worker_t* next_idle  # in the stack of the idle


cdef struct pool_t:
    PyThread_type_lock lock
    job_t* jobs
    worker_t* idle
    int num_callers
    int num_busy
    int num_workers
    int num_cpus
    bint sets_affinity  # of workers that it wakes
    unsigned int generation  # counts forks
    long long last_end  # when a job ended
    int num_in_succession  # jobs that began soon after another
