from .lanes cimport real

cdef void select(
    const real* x, Py_ssize_t count, Py_ssize_t first, Py_ssize_t second, real* room,
    real* a, real* b,
) noexcept nogil
cdef void select_apart(
    const real* x, Py_ssize_t count, Py_ssize_t first, Py_ssize_t second, real* room,
    real* a, real* b,
) noexcept nogil
