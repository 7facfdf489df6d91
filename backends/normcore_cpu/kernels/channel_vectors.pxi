# Design: what each channel needs between two passes over memory: the map that its moments decide,
# and the vectors of its gradient. A few operations for each channel, in one loop.

cdef enum:
    MEAN, A, B, D, FORWARD, VECTORS = 8    # rows of what is known of a channel


cdef inline object as_doubles(object value):
    """Return an array, in C order; itself where it is one."""
    return cnp.PyArray_FROM_OTF(
        value, cnp.NPY_DOUBLE, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST
    )


cdef int set_row(double* row, Py_ssize_t channels, object value, str name) except -1:
    """Set one number for each channel: a vector's, or one for all."""
    cdef cnp.ndarray vector
    cdef Py_ssize_t c
    cdef double number
    if isinstance(value, float):
        number = value
        for c in range(channels):
            row[c] = number
        return 0
    vector = as_doubles(value)
    if cnp.PyArray_NDIM(vector) == 0:
        return set_row(row, channels, float(value), name)
    if cnp.PyArray_SIZE(vector) != channels:
        raise ValueError(
            f"{name} has shape {np.shape(value)}, but there are {channels} channels"
        )
    memcpy(row, cnp.PyArray_DATA(vector), channels * sizeof(double))
    return 0


cdef void set_scales(
    const double* states, Py_ssize_t channels, double eps, double* scales
) noexcept nogil:
    """Set ``sqrt(var + eps)``; where var overflows, eps is negligible and std has a value."""
    cdef Py_ssize_t c
    set_vars(states, channels, 0.0, scales)
    for c in range(channels):
        if isfinite(scales[c]):
            scales[c] = sqrt(scales[c] + eps)
        else:
            scales[c] = std_of(load_moments(states + c, channels), 0.0)


cdef object affine_of(object parts, object gamma, object beta, double eps):
    """Return the map that moments decide, as an array of shape (4, C)."""
    cdef Py_ssize_t channels = parts.shape[1]
    cdef const double* states = doubles_of(parts)
    result = np.empty((COEFFICIENTS, channels))
    cdef double* rows = doubles_of(result)
    set_means(states, channels, rows + CENTER * channels)
    set_scales(states, channels, eps, rows + SCALE * channels)
    set_row(rows + GAMMA * channels, channels, gamma, "gamma")
    set_row(rows + BETA * channels, channels, beta, "beta")
    return result


cdef inline double mean_of_sum(double sum, double count) noexcept nogil:
    """Divide by an infinite count, too: 0, lest one sample's NaN be in the gradient of others."""
    return sum / count if isfinite(count) or isfinite(sum) else 0.0


cdef inline void set_gradient(
    double* vectors, Py_ssize_t ld, double gamma, double scale, double sum_dy, double sum_dy_xmu,
    double count,
) noexcept nogil:
    """Set A, B and D of one channel, whose vectors are `ld` apart."""
    cdef double a = gamma / scale
    vectors[A * ld] = a
    vectors[B * ld] = a * mean_of_sum(sum_dy, count)
    vectors[D * ld] = a * mean_of_sum(sum_dy_xmu, count) / (scale * scale)
