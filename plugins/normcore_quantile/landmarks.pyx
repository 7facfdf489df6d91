# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: a block of rows is mapped column by column, as the landmarks of one column fit into the
# first cache and those of all often do not. Values are gathered in short runs; each step of a
# binary search is taken for a whole run, without a branch, so that the loads of many searches are
# on the way together. What lies between two landmarks is a quotient of differences, not a slope:
# neither the widest nor the narrowest gap overflows. Where landmarks are tied, a second search,
# for the first of them, is made for values that hit them.
"""Piecewise linear maps of columns between landmarks, compiled."""

import numpy as np

from libc.math cimport INFINITY, NAN, fabs

from .normal cimport ndtr, ndtri

__all__ = ["forward", "inverse"]

cdef enum:
    RUN = 256           # values, and room for them
    SIDE_BY_SIDE = 8    # searches

# The distance from either end, as a probability, within which values of the normal distribution
# are mapped to it: scikit-learn's.
cdef double END = 1e-7
cdef double LEAST = ndtri(END - 2.0 ** -52)
cdef double LARGEST = ndtri(1.0 - (END - 2.0 ** -52))


cdef inline double share(double value, double low, double high) noexcept nogil:
    """Return where between two landmarks a value lies, from 0 to 1."""
    cdef double gap = high - low
    if gap == INFINITY:
        return (0.5 * value - 0.5 * low) / (0.5 * high - 0.5 * low)
    return (value - low) / gap


cdef inline double between(double low, double high, double t) noexcept nogil:
    """Return the value at a share of the way between two landmarks."""
    cdef double gap = high - low
    if fabs(gap) == INFINITY:
        return low * (1.0 - t) + high * t
    return low + gap * t


cdef Py_ssize_t first_equal(const double* landmarks, Py_ssize_t last) noexcept nogil:
    """Return the first landmark that is equal to another one."""
    cdef Py_ssize_t low = 0, high = last, middle
    while low < high:
        middle = (low + high) // 2
        if landmarks[middle] < landmarks[last]:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline void search(
    const double* values, const double* landmarks, Py_ssize_t size, Py_ssize_t* at
) noexcept nogil:
    """Find the last landmark that is not above each of some values, or else the first one."""
    cdef const double* base[SIDE_BY_SIDE]
    cdef double value[SIDE_BY_SIDE]
    cdef Py_ssize_t i, half
    for i in range(SIDE_BY_SIDE):
        base[i], value[i] = landmarks, values[i]
    while size > 1:
        half = size // 2
        for i in range(SIDE_BY_SIDE):
            base[i] += -(<Py_ssize_t> (base[i][half] <= value[i])) & half  # no branch
        size -= half
    for i in range(SIDE_BY_SIDE):
        at[i] = base[i] - landmarks


cdef void map_run(
    double* values, Py_ssize_t count, const double* landmarks, const double* references,
    Py_ssize_t size, bint normal,
) noexcept nogil:
    """Map values to probabilities, and these to those of a normal distribution."""
    cdef Py_ssize_t at[RUN]
    cdef Py_ssize_t i, j, k
    cdef double value, top = 1.0 if normal else references[size - 1]
    for i in range(0, count, 8):
        search(values + i, landmarks, size, at + i)
    for i in range(count):
        value, j = values[i], at[i]
        if value != value:
            pass
        elif value <= landmarks[0]:
            values[i] = 0.0
        elif j == size - 1:
            values[i] = top
        elif value == landmarks[j]:
            k = j if landmarks[j - 1] < value else first_equal(landmarks, j)
            values[i] = 0.5 * (references[k] + references[j])
        else:
            values[i] = between(
                references[j], references[j + 1], share(value, landmarks[j], landmarks[j + 1])
            )
    if normal:
        for i in range(count):
            values[i] = min(max(ndtri(values[i]), LEAST), LARGEST)


cdef void invert_run(
    double* values, Py_ssize_t count, const double* landmarks, const double* references,
    Py_ssize_t size, bint normal,
) noexcept nogil:
    """Map probabilities, or values of a normal distribution, back."""
    cdef Py_ssize_t i, j
    cdef double value, end = END if normal else 0.0
    for i in range(count):
        value = ndtr(values[i]) if normal else values[i]
        if value != value:
            pass
        elif value < end or value <= references[0]:
            values[i] = landmarks[0]
        elif value + end > 1.0 or value >= references[size - 1]:
            values[i] = landmarks[size - 1]
        else:
            j = min(<Py_ssize_t> (value * <double> (size - 1)), size - 2)
            while references[j] > value:
                j -= 1
            while references[j + 1] <= value:
                j += 1
            values[i] = between(
                landmarks[j], landmarks[j + 1], share(value, references[j], references[j + 1])
            )


cdef object mapped(
    object x, const double[:, ::1] landmarks, const double[::1] references, bint normal,
    bint inverse,
):
    cdef const double[:, :] values = x
    cdef object result = np.empty_like(x, dtype=np.float64, subok=False)
    cdef double[:, :] y = result
    cdef double run[RUN]
    cdef Py_ssize_t rows = values.shape[0], size = references.shape[0]
    cdef Py_ssize_t column, block, start, count, i
    if landmarks.shape[0] != values.shape[1] or landmarks.shape[1] != size or size == 0:
        raise ValueError(
            f"there are landmarks of shape {(landmarks.shape[0], landmarks.shape[1])} for "
            f"{values.shape[1]} features and {size} references"
        )
    with nogil:
        for column in range(values.shape[1]):
            for block in range((rows + RUN - 1) // RUN):
                start = block * RUN
                count = min(rows - start, <Py_ssize_t> RUN)
                if landmarks[column, 0] != landmarks[column, 0]:  # a feature without values
                    for i in range(count):
                        y[start + i, column] = NAN
                    continue
                for i in range(count):
                    run[i] = values[start + i, column]
                for i in range(count, RUN):
                    run[i] = NAN
                if inverse:
                    invert_run(run, count, &landmarks[column, 0], &references[0], size, normal)
                else:
                    map_run(run, count, &landmarks[column, 0], &references[0], size, normal)
                for i in range(count):
                    y[start + i, column] = run[i]
    return result


def forward(x, landmarks, references, bint normal):
    """Return the probabilities of values, or the values of a normal distribution that have them.

    Parameters
    ----------
    x : float64 array of shape (n, C)
        NaN stays NaN.
    landmarks : C-contiguous float64 array of shape (C, R)
        Ascending; NaN in a feature whose every result is NaN.
    references : float64 array of shape (R,)
        The probability of each landmark, ascending from 0 to 1.
    normal : bool
    """
    return mapped(x, landmarks, references, normal, False)


def inverse(x, landmarks, references, bint normal):
    """Return what :func:`forward` maps to ``x``; parameters are the same."""
    return mapped(x, landmarks, references, normal, True)
