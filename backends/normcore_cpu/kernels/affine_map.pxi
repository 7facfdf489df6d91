# Design: the four coefficients of some lanes and the map that uses them, written once for the
# forward kernel and for the ReLU mask of the backward ones. Rows of coefficients are `ld` apart,
# their leading dimension.

cdef enum:
    CENTER, SCALE, GAMMA, BETA, COEFFICIENTS    # rows of what is known of a channel
    LEAST = COEFFICIENTS, MOST, BOUNDED         # just below and above gamma / scale, if there are

cdef struct coefficients_t:
    lanes_t center
    lanes_t scale
    lanes_t gamma
    lanes_t beta


cdef inline lanes_t lanes_of(const double* row, Py_ssize_t lane, bint along) noexcept nogil:
    """Return the coefficients of some lanes: along positions, that of their channel."""
    return splat(row[0]) if along else load_double(row + lane)


cdef inline coefficients_t coefficients_of(
    const double* rows, Py_ssize_t ld, Py_ssize_t lane, bint along
) noexcept nogil:
    cdef coefficients_t coefficients
    coefficients.center = lanes_of(rows + CENTER * ld, lane, along)
    coefficients.scale = lanes_of(rows + SCALE * ld, lane, along)
    coefficients.gamma = lanes_of(rows + GAMMA * ld, lane, along)
    coefficients.beta = lanes_of(rows + BETA * ld, lane, along)
    return coefficients


@cython.cdivision(True)
cdef inline lanes_t mapped(lanes_t x, coefficients_t coefficients) noexcept nogil:
    return ((x - coefficients.center) / coefficients.scale) * coefficients.gamma + coefficients.beta
