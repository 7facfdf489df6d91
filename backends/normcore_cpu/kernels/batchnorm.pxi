# Design: batch norm in one go: statistics, then the map that they decide; or the sums of the
# backward pass, then the gradient. Between two passes over memory, what each channel needs is
# computed here in one loop, as the core does in array terms for any library. The second pass reads
# memory again: slabs of channels that the last-level cache keeps from the first one were measured
# to cost more, in handing out threads' work anew for each, than the reading that they spare.


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


cdef void set_gradients(
    const double* states, const double* affine, const double* sums, Py_ssize_t channels,
    bint training, double* vectors, double* dgamma, double* dbeta,
) noexcept nogil:
    """Set A, B and D, and the gradients of gamma and beta, by the sums of the backward pass."""
    cdef Py_ssize_t c
    cdef double scale, sum_dy, sum_dy_xmu, count
    for c in range(channels):
        scale = affine[SCALE * channels + c]
        sum_dy, sum_dy_xmu = sums[c], sums[channels + c]
        count = INFINITY
        if training:
            count = states[COUNT_HI * channels + c] + states[COUNT_LO * channels + c]
        set_gradient(
            vectors + c, channels, affine[GAMMA * channels + c], scale, sum_dy, sum_dy_xmu, count
        )
        dgamma[c] = sum_dy_xmu / scale
        dbeta[c] = sum_dy


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
    cdef Py_ssize_t channels = x.shape[1]
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
    cdef double* dgamma = doubles_of(grads)
    set_gradients(
        doubles_of(parts), doubles_of(affine), doubles_of(sums), channels, training,
        doubles_of(vectors), dgamma, dgamma + channels,
    )
    dx = backward_elemt(dy, x, vectors, relu, mask, out)
    return dx, grads[0], grads[1]
