from .lanes cimport real
from .running cimport running_t

# What became of a tile: summed; or its values are elsewhere than the center and the limit, or have
# bits below the quantum, or some are NaN or infinite.
cdef enum:
    DONE, MOVED, OFF_GRID, NOT_A_NUMBER

cdef bint prepare(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, running_t* s
) noexcept nogil
cdef void sweep(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t ahead, running_t* s,
    Py_ssize_t groups,
) noexcept nogil
cdef int verdict(running_t* s, Py_ssize_t rows, Py_ssize_t lanes) noexcept nogil
cdef void forget(running_t* s, Py_ssize_t rows) noexcept nogil
