# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: batch norm in one go: statistics, then the map that they decide, or the sums of the
# backward pass, then the gradient. Where each channel's positions lie together, this is done slab
# by slab of channels: the second pass then finds the slab in the last-level cache, and memory is
# read once. Where channels lie side by side a slab would be thin slices of rows, so there is one
# slab. A slab has a size of its own, not the machine's, and what a channel's statistics are does
# not depend on which others are beside it. Between the passes, the numbers of each channel are
# computed here in one loop, as the core does for arrays of any library.

import numpy as np

cimport numpy as cnp
from libc.math cimport INFINITY, isfinite, sqrt

from normcore.statistics cimport (
    COUNT_HI, COUNT_LO, MOMENTS_ROWS, load_moments, mean_of, moments_t, std_of, var_of,
)

from .backward import backward_elemt, backward_reduce
from .moments import moments
from .rescale import rescale

from .tiles cimport result_like

__all__ = ["normalize", "normalize_backward"]

cnp.import_array()

cdef enum:
    # Rows of an affine map, and of the vectors that the backward kernels take.
    CENTER, SCALE, GAMMA, BETA, AFFINE
    MEAN = 0, A = 1, B = 2, D = 3, GATE = 4, VECTORS = 8

# Bytes of the input that a slab has, and that it has in one piece at least.
cdef Py_ssize_t SLAB = 1 << 22
cdef Py_ssize_t PIECE = 1 << 12


cdef Py_ssize_t channels_of_slab(object x) except -1:
    """Return how many channels are worked on at a time."""
    cdef cnp.ndarray view = x
    cdef Py_ssize_t channels = view.shape[1], inner = view.strides[2], outer = view.strides[1]
    cdef Py_ssize_t piece = abs(outer), fitting
    if not channels or view.shape[2] < 2 or abs(inner) >= piece:
        return channels
    fitting = SLAB // max(view.shape[0] * view.shape[2] * view.itemsize, 1)
    return max(1, fitting, -(-PIECE // piece))


cdef double* data_of(object array) noexcept:
    return <double*> cnp.PyArray_DATA(array)


cdef int set_row(double* row, Py_ssize_t channels, Py_ssize_t first, object value) except -1:
    """Set one number for each channel: a vector's, from the first on, or one for all."""
    cdef const double[:] vector
    cdef Py_ssize_t c
    cdef double number
    if isinstance(value, np.ndarray) and value.ndim:
        vector = value
        for c in range(channels):
            row[c] = vector[first + c]
    else:
        number = value
        for c in range(channels):
            row[c] = number
    return 0


cdef double scale_of(moments_t m, double eps) noexcept nogil:
    """Return ``sqrt(var + eps)``; where var overflows, eps is negligible and std has a value."""
    cdef double var = var_of(m, 0.0)
    return sqrt(var + eps) if isfinite(var) else std_of(m, 0.0)


cdef object affine_of(object parts, object gamma, object beta, double eps, Py_ssize_t first):
    """Return the map that the moments of some channels decide, as an array of shape (4, C)."""
    cdef Py_ssize_t c, channels = parts.shape[1]
    cdef const double* states = data_of(parts)
    cdef moments_t m
    result = np.empty((AFFINE, channels))
    cdef double* rows = data_of(result)
    for c in range(channels):
        m = load_moments(states + c, channels)
        rows[CENTER * channels + c] = mean_of(m)
        rows[SCALE * channels + c] = scale_of(m, eps)
    set_row(rows + GAMMA * channels, channels, first, gamma)
    set_row(rows + BETA * channels, channels, first, beta)
    return result


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
    cdef Py_ssize_t first, last, channels = x.shape[1], step = channels_of_slab(x)
    if out is None:
        out = result_like(x)
    if step >= channels:
        parts = moments(x, mask, False)
        rescale(x, affine_of(parts, gamma, beta, eps, 0), out, None, relu, mask)
        return out, parts
    parts = np.empty((MOMENTS_ROWS, channels))
    first = 0
    while first < channels:
        last = min(first + step, channels)
        slab = x[:, first:last]
        found = moments(slab, mask, False)
        parts[:, first:last] = found
        rescale(
            slab, affine_of(found, gamma, beta, eps, first), out[:, first:last], None, relu, mask,
            False, out.nbytes,
        )
        first = last
    return out, parts


cdef object gradient_of(
    object dy, object x, object parts, object gamma, object beta, double eps, bint training,
    bint relu, object mask, object out, Py_ssize_t first, Py_ssize_t nbytes, object grads,
):
    """Write the gradients of some channels; `grads` has those of gamma and beta as rows."""
    cdef Py_ssize_t c, channels = x.shape[1], all_channels = grads.shape[1]
    cdef double a, scale, sum_dy, sum_dy_xmu, count
    cdef const double* states
    parts = np.ascontiguousarray(parts[:, first:first + channels])
    states = data_of(parts)
    affine = affine_of(parts, gamma, beta, eps, first)
    vectors = np.empty((VECTORS, channels))
    vectors[MEAN] = affine[CENTER]
    if relu:
        vectors[GATE:] = affine
    sums = backward_reduce(dy, x, vectors, relu, mask)
    cdef const double* map = data_of(affine)
    cdef const double* reduced = data_of(sums)
    cdef double* rows = data_of(vectors)
    cdef double* dgamma = data_of(grads) + first
    cdef double* dbeta = dgamma + all_channels
    for c in range(channels):
        scale = map[SCALE * channels + c]
        sum_dy, sum_dy_xmu = reduced[c], reduced[channels + c]
        count = INFINITY
        if training:
            count = states[COUNT_HI * channels + c] + states[COUNT_LO * channels + c]
        a = map[GAMMA * channels + c] / scale
        rows[A * channels + c] = a
        rows[B * channels + c] = a * (sum_dy / count)
        rows[D * channels + c] = a * (sum_dy_xmu / count) / (scale * scale)
        dgamma[c] = sum_dy_xmu / scale
        dbeta[c] = sum_dy
    return backward_elemt(dy, x, vectors, relu, mask, out, nbytes)


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
    cdef Py_ssize_t first, last, channels = x.shape[1]
    cdef Py_ssize_t step = max(1, channels_of_slab(x) // 2)  # there are two inputs
    if out is None:
        out = result_like(x)
    grads = np.empty((2, channels))
    if channels_of_slab(x) >= channels:
        step = channels
    first = 0
    while first < channels:
        last = min(first + step, channels)
        gradient_of(
            dy[:, first:last], x[:, first:last], parts, gamma, beta, eps, training, relu, mask,
            out[:, first:last], first, out.nbytes, grads,
        )
        first = last
    return out, grads[0], grads[1]
