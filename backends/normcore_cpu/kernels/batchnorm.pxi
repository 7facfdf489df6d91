# Design: batch norm in one go: statistics, then the map that they decide; or the sums of the
# backward pass, then the gradient. Between two passes over memory, what each channel needs is
# computed here in one loop, as the core does in array terms for any library. The second pass reads
# memory again: slabs of channels that the last-level cache keeps from the first one were measured
# to cost more, in handing out threads' work anew for each, than the reading that they spare.


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


def normalize(x, gamma, beta, double eps, bint relu=False, mask=None, out=None):
    """Normalize each channel with its own moments.

    Parameters
    ----------
    x : array of shape (N, C, S), any strides
    gamma, beta : number or float64 array of shape (C,)
    eps : float
    relu : bool
    mask : array of shape (N, S), optional
        Positions where it is 0 do not count, and the result is 0 there.
    out : floating array of shape (N, C, S), any strides, optional
        May be ``x`` itself; by default a fresh array in the memory order of ``x``.

    Returns
    -------
    out : array
    parts : float64 array of shape (7, C)
        The state of the moments.
    """
    parts = moments(x, mask, False)
    out, _, _ = rescale(x, affine_of(parts, gamma, beta, eps), out, None, relu, mask)
    return out, parts


def normalize_backward(
    dy, x, parts, gamma, beta, double eps, bint training=True, bint relu=False, mask=None, out=None
):
    """Return the gradients of :func:`normalize` with respect to x, gamma and beta.

    Parameters
    ----------
    dy : array of shape (N, C, S), any strides
    parts : float64 array of shape (7, C)
        What :func:`normalize` returned.
    training : bool
        Whether the moments were those of ``x``, so that the gradient flows through them.
    x, gamma, beta, eps, relu, mask
        As in the forward call.
    out : floating array of shape (N, C, S), any strides, optional
        May be ``dy`` or ``x`` itself.
    """
    cdef Py_ssize_t c, channels = x.shape[1]
    cdef double a, scale, sum_dy, sum_dy_xmu, count
    parts = as_doubles(parts)
    if parts.shape[1] != channels:
        raise ValueError(f"the moments are of {parts.shape[1]} channels, but x has {channels}")
    affine = affine_of(parts, gamma, beta, eps)
    vectors = np.empty((VECTORS, channels))
    vectors[MEAN] = affine[CENTER]
    if relu:
        vectors[FORWARD:] = affine
    sums = backward_reduce(dy, x, vectors, relu, mask)
    grads = np.empty((2, channels))
    cdef const double* states = doubles_of(parts)
    cdef const double* map = doubles_of(affine)
    cdef const double* reduced = doubles_of(sums)
    cdef double* rows = doubles_of(vectors)
    cdef double* dgamma = doubles_of(grads)
    cdef double* dbeta = dgamma + channels
    for c in range(channels):
        scale = map[SCALE * channels + c]
        sum_dy, sum_dy_xmu = reduced[c], reduced[channels + c]
        count = INFINITY
        if training:
            count = states[COUNT_HI * channels + c] + states[COUNT_LO * channels + c]
        a = map[GAMMA * channels + c] / scale
        rows[A * channels + c] = a
        rows[B * channels + c] = a * mean_of_sum(sum_dy, count)
        rows[D * channels + c] = a * mean_of_sum(sum_dy_xmu, count) / (scale * scale)
        dgamma[c] = sum_dy_xmu / scale
        dbeta[c] = sum_dy
    dx = backward_elemt(dy, x, vectors, relu, mask, out)
    return dx, grads[0], grads[1]
