from .lanes cimport real
from .running cimport running_t

cdef bint look(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t step, running_t* s
) noexcept nogil
