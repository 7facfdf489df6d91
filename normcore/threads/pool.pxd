cdef class Work:
    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

cdef void run_in_threads(
    Work work, Py_ssize_t num_items, Py_ssize_t min_items, int num_threads, bint wake
) noexcept nogil
