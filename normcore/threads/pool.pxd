cdef class Work:
    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
