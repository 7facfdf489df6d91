from .lanes cimport real

cdef struct options_t:
    bint clipped, relu, refuse_infinite, stream, bounded
    double low, high

# Rows of lanes. Along positions, each row has the numbers of a channel, `step` apart.
cdef struct strip_t:
    const char* x
    Py_ssize_t x_stride         # in elements
    char* y
    Py_ssize_t y_stride
    Py_ssize_t rows
    Py_ssize_t lanes
    const double* affine        # rows of numbers
    Py_ssize_t across
    Py_ssize_t step

cdef bint map_as(
    const real* _, const strip_t* strip, const options_t* options, bint along
) noexcept nogil
