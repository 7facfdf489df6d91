# The dtypes that kernels read and write directly; the others go through a tile of float64.
cdef enum:
    OTHER, FLOAT, DOUBLE

ctypedef void (*load_t)(
    const char* source, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, double* tile, Py_ssize_t row,
) noexcept nogil
ctypedef void (*store_t)(
    char* target, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, const double* tile, Py_ssize_t row,
) noexcept nogil

# An (N, C, S) array, or a plane (N, S) with a channel stride of 0. Strides are in bytes.
cdef struct view_t:
    char* data
    Py_ssize_t runs         # outer positions
    Py_ssize_t run_stride
    Py_ssize_t length       # inner positions: position p is (p // length, p % length)
    Py_ssize_t stride
    Py_ssize_t positions
    Py_ssize_t channels
    Py_ssize_t channel_stride
    Py_ssize_t itemsize
    int real
    load_t load
    store_t store

cdef view_t view_of(object array, bint plane=*) except *
cdef object result_like(object x)
