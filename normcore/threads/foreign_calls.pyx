# cython: boundscheck=False, wraparound=False, cdivision=True, auto_pickle=False
# Design: how many threads callers without Python have, who cannot ask Python's settings: a number
# that these note here.

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
