cdef extern from "ahead.h" nogil:
    void ask_ahead(
        const void* group_rows, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t band,
        Py_ssize_t ahead, Py_ssize_t group, Py_ssize_t groups,
    )
