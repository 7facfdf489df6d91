cdef extern from "prefetch.h" nogil:
    void prefetch(const void* address)
    void prefetch_band(
        const void* group_rows, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t band,
        Py_ssize_t distance, Py_ssize_t group, Py_ssize_t groups,
    )
