# Design: locks of Python's C interface, without thread states, that are tried a number of times
# before a thread sleeps on them. Each pause leaves the core to its other hardware thread.

cdef extern from "pythread.h" nogil:  # Cython's own declarations ask for the GIL
    ctypedef void* PyThread_type_lock
    int WAIT_LOCK, NOWAIT_LOCK
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)

cdef extern from * nogil:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #define cpu_relax() __builtin_ia32_pause()
    #elif defined(__aarch64__) && defined(__GNUC__)
    #define cpu_relax() __asm__ volatile("isb")
    #else
    #define cpu_relax() ((void)0)
    #endif
    """
    void cpu_relax()


cdef inline PyThread_type_lock new_held_lock() noexcept nogil:
    cdef PyThread_type_lock lock = PyThread_allocate_lock()
    if lock is not NULL:
        PyThread_acquire_lock(lock, WAIT_LOCK)
    return lock


cdef inline bint spin(PyThread_type_lock lock, int attempts) noexcept nogil:
    """Acquire a lock within some attempts; return whether that succeeded."""
    for _attempt in range(attempts):
        if PyThread_acquire_lock(lock, NOWAIT_LOCK):
            return True
        cpu_relax()
    return False


cdef inline int attempts_within(long long time, object clock) except -1:
    """Return how many attempts take some nanoseconds; the shortest run is that without a break."""
    cdef PyThread_type_lock lock = new_held_lock()
    cdef long long start, shortest = 1_000_000
    cdef int number = 100
    if lock is NULL:
        raise MemoryError
    for _ in range(5):
        start = clock()
        spin(lock, number)
        shortest = min(shortest, <long long>clock() - start)
    PyThread_release_lock(lock)
    PyThread_free_lock(lock)
    shortest = max(shortest, number)  # a clock may be coarse
    return <int>(time * number // shortest) + 1
