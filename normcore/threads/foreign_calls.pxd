from .pool cimport Work

cdef int num_threads_for(int asked) noexcept nogil
cdef void run_in_threads(
    Work work, Py_ssize_t num_items, Py_ssize_t min_items, int num_threads, bint wake
) noexcept nogil
