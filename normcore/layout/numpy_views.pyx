# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: NumPy arrays in C order are what nearly every call brings. They are recognized and viewed
# here, by a few looks at their C structures, where Python would make a dozen objects and take
# longer than the kernel of a small batch. What is not plainly such a case is answered by None or
# False, and then the general forms, in array_views and out_argument, do it or say what is wrong.

cimport numpy as cnp
from libc.math cimport INFINITY, NAN, sqrt
from libc.string cimport memcmp, memcpy

__all__ = [
    "DISTINCT", "SAME", "fits", "is_floats", "is_table", "normalizing", "shaped_as",
    "still_normalizing", "views",
]

cnp.import_array()

#: Truths of :func:`fits`.
DISTINCT, SAME = 1, 2


cdef inline bint is_plain(object array) noexcept:
    """Whether it is a NumPy array in C order and of native byte order."""
    return (
        cnp.PyArray_CheckExact(array)
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray> array)
        and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray> array)
    )


cdef inline bint is_real(object array) noexcept:
    """Whether it is a NumPy array of float32 or float64, native and aligned, in any order."""
    return (
        cnp.PyArray_CheckExact(array)
        and cnp.PyArray_TYPE(<cnp.ndarray> array) in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE)
        and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray> array)
        and cnp.PyArray_ISALIGNED(<cnp.ndarray> array)
    )


def is_floats(array):
    """Whether kernels take an array as it is: NumPy's own, float32 or float64, in any order."""
    return is_real(array)


def is_table(array, Py_ssize_t num_columns):
    """Whether an array that :func:`is_floats` has rows, and this many columns."""
    return (
        is_real(array) and cnp.PyArray_NDIM(<cnp.ndarray> array) == 2
        and cnp.PyArray_DIM(<cnp.ndarray> array, 0) > 0
        and cnp.PyArray_DIM(<cnp.ndarray> array, 1) == num_columns
    )


cdef inline bint is_alike(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two arrays have the same shape."""
    return cnp.PyArray_NDIM(a) == cnp.PyArray_NDIM(b) and cnp.PyArray_CompareLists(
        cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b), cnp.PyArray_NDIM(a)
    )


def views(axis, tuple arrays, out=None):
    """Return the one ``(N, C, S)`` view of each array, and of ``out`` if given; or None.

    Parameters
    ----------
    axis : int or None
        The channel axis.
    arrays : tuple of arrays
        NumPy's own, in C order and native byte order, of one shape without zeros, with two
        channels or more; otherwise there is no answer.
    out : array, optional
        One that fits them: see :func:`fits`.
    """
    if type(axis) is not int or not arrays:
        return None
    for array in arrays:
        if not is_plain(array) or not is_alike(<cnp.ndarray> arrays[0], <cnp.ndarray> array):
            return None
    cdef cnp.ndarray first = arrays[0]
    cdef Py_ssize_t i, channel, ndim = cnp.PyArray_NDIM(first)
    cdef const cnp.npy_intp* shape = cnp.PyArray_DIMS(first)
    cdef cnp.npy_intp merged[3]
    cdef cnp.PyArray_Dims dims
    dims.ptr, dims.len = merged, 3
    if not -ndim <= axis < ndim:
        return None
    channel = axis if axis >= 0 else axis + ndim
    if shape[channel] < 2:
        return None
    merged[0], merged[1], merged[2] = 1, shape[channel], 1
    for i in range(channel):
        merged[0] *= shape[i]
    for i in range(channel + 1, ndim):
        merged[2] *= shape[i]
    if merged[0] * merged[2] == 0:
        return None
    result = [cnp.PyArray_Newshape(array, &dims, cnp.NPY_CORDER) for array in arrays]
    if out is not None:
        if not fits(out, arrays):
            return None
        result.append(cnp.PyArray_Newshape(out, &dims, cnp.NPY_CORDER))
    return tuple(result)


def shaped_as(result, array):
    """Return a NumPy array in C order with the shape of another one, of the same memory."""
    cdef cnp.PyArray_Dims dims
    if not (is_plain(result) and cnp.PyArray_Check(array)):
        return result.reshape(array.shape)
    dims.ptr = cnp.PyArray_DIMS(<cnp.ndarray> array)
    dims.len = cnp.PyArray_NDIM(<cnp.ndarray> array)
    return cnp.PyArray_Newshape(<cnp.ndarray> result, &dims, cnp.NPY_CORDER)


def fits(out, tuple arrays):
    """Whether ``out`` plainly can hold the result of element-wise work on arrays of one shape.

    Parameters
    ----------
    out : array
    arrays : tuple of arrays
        The result has the dtype of the first one, which is a float.

    Returns
    -------
    int
        ``SAME`` if ``out`` is one of the arrays, in whole, ``DISTINCT`` if it shares memory with
        none of them; 0 if it does not fit, or is for the general forms to say.
    """
    cdef char* start
    cdef char* other
    cdef Py_ssize_t size
    cdef int answer = 1
    if not (is_plain(out) and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> out)):
        return 0
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray> out)
    if kind not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE, cnp.NPY_FLOAT16):
        return 0
    if not cnp.PyArray_ISALIGNED(<cnp.ndarray> out):
        return 0
    start, size = <char*> cnp.PyArray_DATA(<cnp.ndarray> out), cnp.PyArray_NBYTES(<cnp.ndarray> out)
    for array in arrays:
        if not (
            is_plain(array) and is_alike(<cnp.ndarray> array, <cnp.ndarray> out)
            and cnp.PyArray_TYPE(<cnp.ndarray> array) == kind
        ):
            return 0
        other = <char*> cnp.PyArray_DATA(<cnp.ndarray> array)
        if other == start:
            answer = 2
        elif other < start + size and start < other + size:
            return 0
    return answer


cdef inline bint is_vector(object value, Py_ssize_t size) noexcept:
    return (
        is_plain(value) and cnp.PyArray_TYPE(<cnp.ndarray> value) == cnp.NPY_DOUBLE
        and cnp.PyArray_ISALIGNED(<cnp.ndarray> value)
        and cnp.PyArray_NDIM(<cnp.ndarray> value) == 1
        and cnp.PyArray_DIM(<cnp.ndarray> value, 0) == size
    )


cdef inline void set_row(double* row, object value, Py_ssize_t size, double default) noexcept:
    cdef Py_ssize_t i
    if value is None:
        for i in range(size):
            row[i] = default
    else:
        memcpy(row, cnp.PyArray_DATA(<cnp.ndarray> value), size * sizeof(double))


def normalizing(mean, var, gamma, beta, double eps):
    """Return center, scale, gamma and beta of each channel as rows of a new, read-only array,
    or None.

    Parameters
    ----------
    mean, var : arrays of shape (C,)
        NumPy's own and float64, no variance negative; otherwise there is no answer.
    gamma, beta : arrays of shape (C,), or None
        Likewise; None stands for 1 and 0.
    eps : float
        Positive; added to the variance.
    """
    if not (cnp.PyArray_CheckExact(mean) and 0.0 < eps < INFINITY):
        return None
    cdef Py_ssize_t i, size = cnp.PyArray_SIZE(<cnp.ndarray> mean)
    if not (is_vector(mean, size) and is_vector(var, size)):
        return None
    if not ((gamma is None or is_vector(gamma, size)) and (beta is None or is_vector(beta, size))):
        return None
    cdef cnp.npy_intp[2] shape
    cdef bint negative = False
    shape[0], shape[1] = 4, size
    result = cnp.PyArray_EMPTY(2, shape, cnp.NPY_DOUBLE, 0)
    cdef double* rows = <double*> cnp.PyArray_DATA(<cnp.ndarray> result)
    cdef const double* variance = <const double*> cnp.PyArray_DATA(<cnp.ndarray> var)
    for i in range(size):
        negative |= variance[i] < 0.0
    if negative:
        return None
    set_row(rows, mean, size, 0.0)
    for i in range(size):  # by itself: so roots are taken in vectors
        rows[size + i] = sqrt(variance[i] + eps)
    set_row(rows + 2 * size, gamma, size, 1.0)
    set_row(rows + 3 * size, beta, size, 0.0)
    cnp.PyArray_CLEARFLAGS(<cnp.ndarray> result, cnp.NPY_ARRAY_WRITEABLE)
    return result


cdef inline bint holds(
    const double* row, object value, Py_ssize_t size, double default
) noexcept:
    """Whether numbers are, bit for bit, those of a vector, or the default all of them."""
    cdef Py_ssize_t i
    if value is not None:
        return is_vector(value, size) and not memcmp(
            row, cnp.PyArray_DATA(<cnp.ndarray> value), size * sizeof(double)
        )
    for i in range(size):
        if memcmp(&row[i], &default, sizeof(double)):
            return False
    return True


def still_normalizing(rows, kept_var, mean, var, gamma, beta):
    """Whether :func:`normalizing` would return the same rows again.

    Parameters
    ----------
    rows, kept_var : arrays
        What it returned, and a copy of the variance that it was given, with the same eps.
    mean, var, gamma, beta : as it takes them
    """
    cdef Py_ssize_t size = cnp.PyArray_DIM(<cnp.ndarray> rows, 1)
    cdef const double* row = <const double*> cnp.PyArray_DATA(<cnp.ndarray> rows)
    return (
        holds(<const double*> cnp.PyArray_DATA(<cnp.ndarray> kept_var), var, size, NAN)
        and holds(row, mean, size, NAN) and holds(row + 2 * size, gamma, size, 1.0)
        and holds(row + 3 * size, beta, size, 0.0)
    )
