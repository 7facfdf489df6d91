# Design: the four numbers of some lanes and the map that uses them, written once for the forward
# kernel and for the gate of the backward ones.


cdef enum:
    CENTER, SCALE, GAMMA, BETA, NUMBERS     # rows of what is known of a channel
    LEAST = NUMBERS, MOST, BOUNDED          # just below and above gamma / scale, where there are

cdef struct numbers_t:
    lanes_t center
    lanes_t scale
    lanes_t gamma
    lanes_t beta


cdef inline lanes_t lanes_of(const double* row, Py_ssize_t lane, bint along) noexcept nogil:
    """Return the numbers of some lanes: along positions, that of their channel."""
    return splat(row[0]) if along else load_double(row + lane)


cdef inline numbers_t numbers_of(
    const double* rows, Py_ssize_t across, Py_ssize_t lane, bint along
) noexcept nogil:
    cdef numbers_t numbers
    numbers.center = lanes_of(rows + CENTER * across, lane, along)
    numbers.scale = lanes_of(rows + SCALE * across, lane, along)
    numbers.gamma = lanes_of(rows + GAMMA * across, lane, along)
    numbers.beta = lanes_of(rows + BETA * across, lane, along)
    return numbers


@cython.cdivision(True)
cdef inline lanes_t mapped(lanes_t x, numbers_t numbers) noexcept nogil:
    return ((x - numbers.center) / numbers.scale) * numbers.gamma + numbers.beta
