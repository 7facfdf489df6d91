# cython: language_level=3, boundscheck=False
"""Columns of a matrix standardized chunk by chunk, from Cython, without the GIL."""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from normcore.c_api cimport (
    NORMCORE_FLOAT32, NORMCORE_FLOAT64, NORMCORE_OK, NORMCORE_STATE_ROWS, normcore_api,
    normcore_array, normcore_call, normcore_import,
)

cdef const normcore_api* api = normcore_import()


cdef int standardize_chunks(
    float* x, int64_t rows, int64_t columns, int64_t chunk, normcore_call* call
) noexcept nogil:
    """Observe all chunks, merge, and map them in place; return a status."""
    cdef int64_t sizes[2]
    cdef int64_t done = 0
    cdef normcore_array part, center, scale
    cdef double* states = <double*> calloc((2 * NORMCORE_STATE_ROWS + 2) * columns, sizeof(double))
    cdef double* more = states + NORMCORE_STATE_ROWS * columns
    cdef double* mean = more + NORMCORE_STATE_ROWS * columns
    cdef double* deviation = mean + columns
    cdef int64_t c
    cdef int status = NORMCORE_OK
    if states == NULL:
        return -1
    sizes[1] = columns
    part.sizes, part.strides, part.ndim, part.dtype = sizes, NULL, 2, NORMCORE_FLOAT32
    while done < rows and status == NORMCORE_OK:
        sizes[0], part.data = min(chunk, rows - done), x + done * columns
        status = api.moments(&part, 1, False, more, call)
        if status == NORMCORE_OK:
            status = api.merge(columns, states, more, call)
        done += chunk
    if status == NORMCORE_OK:
        status = api.summarize(columns, states, 0.0, NULL, mean, deviation, call)
    for c in range(columns):
        deviation[c] = deviation[c] ** 0.5
    center.data, center.sizes, center.strides, center.ndim = mean, &sizes[1], NULL, 1
    center.dtype, scale = NORMCORE_FLOAT64, center
    scale.dtype, scale.data, scale.sizes = NORMCORE_FLOAT64, deviation, &sizes[1]
    scale.strides, scale.ndim = NULL, 1
    sizes[0], part.data = rows, x
    if status == NORMCORE_OK:
        status = api.rescale(&part, 1, &center, &scale, NULL, NULL, &part, call)
    free(states)
    return status


def standardize(float[:, ::1] x, int64_t chunk, int num_threads=0):
    """Standardize the columns of a matrix in place, reading `chunk` rows at a time."""
    cdef normcore_call call
    cdef int status
    call.num_threads = num_threads
    with nogil:
        status = standardize_chunks(&x[0, 0], x.shape[0], x.shape[1], chunk, &call)
    if status == -1:
        raise MemoryError
    if status != NORMCORE_OK:
        raise ValueError((<bytes> call.message).decode())


def batch_norm(float[:, :, ::1] x, int passes, int num_threads=0):
    """Normalize images in place so many times, in one stretch without the GIL."""
    cdef int64_t sizes[3]
    cdef normcore_array array
    cdef normcore_call call
    cdef int axis, status = NORMCORE_OK, _
    cdef double* states = <double*> calloc(NORMCORE_STATE_ROWS * x.shape[1], sizeof(double))
    if states == NULL:
        raise MemoryError
    for axis in range(3):
        sizes[axis] = x.shape[axis]
    array.data, array.sizes, array.strides, array.ndim = &x[0, 0, 0], sizes, NULL, 3
    array.dtype, call.num_threads = NORMCORE_FLOAT32, num_threads
    with nogil:
        for _ in range(passes):
            if status == NORMCORE_OK:
                status = api.batch_norm(&array, 1, NULL, NULL, 1e-5, &array, states, &call)
    free(states)
    if status != NORMCORE_OK:
        raise ValueError((<bytes> call.message).decode())
