# cython: boundscheck=False, wraparound=False, cdivision=True
"""Statistics of segments of one array: of the columns of a sparse matrix, as CSC stores them."""

# Design: segments are short and many, so that neither lanes of channels nor threads help. Each is
# read once, in tiles of numbers that are copied beside each other without the NaN. Sums of a tile
# and of its squared deviations are error-free, in four lanes side by side; tiles merge by the law
# of Moments. Squares that could leave float64 are left to the kernels over views, which scale by
# powers of two.

import numpy as np

cimport numpy as cnp
from libc.math cimport fabs, isnan

from normcore.statistics.double_double cimport dd, dd_add, two_prod, two_sum
from normcore.statistics.moments cimport MOMENTS_ROWS, merged, moments_t, store_moments

__all__ = ["extrema", "grouped", "moments"]

cnp.import_array()

cdef enum:
    TILE = 128
    LANES = 4  # also the step of the loops below, which has to be a literal

cdef double LARGE = 1e140
cdef double SMALL = 1e-140

ctypedef fused real:
    float
    double

ctypedef fused index:
    cnp.int32_t
    cnp.int64_t


cdef struct tile_t:
    double values[TILE]
    double weights[TILE]


cdef struct lanes_t:
    double hi[LANES]
    double lo[LANES]


cdef inline void add_to(lanes_t* total, int lane, double value, double error) noexcept nogil:
    cdef dd s = two_sum(total.hi[lane], value)
    total.hi[lane] = s.hi
    total.lo[lane] += s.lo + error


cdef inline dd sum_of(const lanes_t* total) noexcept nogil:
    cdef dd s = two_sum(total.hi[0], total.lo[0])
    cdef int lane
    for lane in range(1, LANES):
        s = dd_add(s, two_sum(total.hi[lane], total.lo[lane]))
    return s


cdef inline moments_t moments_of_tile(tile_t* tile, int number, bint weighted) noexcept nogil:
    """Return the moments of the first numbers of a tile; without weights, each counts once."""
    cdef moments_t m
    cdef lanes_t counts, sums, squares
    cdef double errors[LANES]
    cdef double mean, deviation
    cdef dd product
    cdef int i, lane
    for lane in range(LANES):
        counts.hi[lane] = counts.lo[lane] = sums.hi[lane] = sums.lo[lane] = 0.0
        squares.hi[lane] = squares.lo[lane] = errors[lane] = 0.0
    for i in range(number, min(number + LANES, TILE)):
        tile.values[i] = tile.weights[i] = 0.0
    for i in range(0, number, 4):
        for lane in range(LANES):
            if weighted:
                product = two_prod(tile.weights[i + lane], tile.values[i + lane])
                add_to(&counts, lane, tile.weights[i + lane], 0.0)
            else:
                product.hi, product.lo = tile.values[i + lane], 0.0
            add_to(&sums, lane, product.hi, product.lo)
    if weighted:
        m.count = sum_of(&counts)
    else:
        m.count.hi, m.count.lo = number, 0.0
    m.sum = sum_of(&sums)
    m.exponent = 0.0
    mean = m.sum.hi / m.count.hi
    for i in range(number, min(number + LANES, TILE)):
        tile.values[i] = mean
    # Deviations from the rounded mean; their own sum says what that rounding adds.
    for i in range(0, number, 4):
        for lane in range(LANES):
            deviation = tile.values[i + lane] - mean
            if weighted:
                errors[lane] += tile.weights[i + lane] * deviation
                add_to(&squares, lane, deviation * (tile.weights[i + lane] * deviation), 0.0)
            else:
                errors[lane] += deviation
                add_to(&squares, lane, deviation * deviation, 0.0)
    m.m2 = sum_of(&squares)
    deviation = (errors[0] + errors[1]) + (errors[2] + errors[3])
    m.m2 = two_sum(m.m2.hi, m.m2.lo - deviation * (deviation / m.count.hi))
    if m.m2.hi < 0.0:
        m.m2.hi = m.m2.lo = 0.0
    return m


cdef bint moments_of_segments(
    const real* values,
    const double* weights,
    const cnp.int64_t* starts,
    Py_ssize_t number,
    double* parts,
) noexcept nogil:
    """Set the moments of each segment; False where squares might leave float64."""
    cdef tile_t tile
    cdef double value, size, least = 1.0, largest = 1.0
    cdef Py_ssize_t segment, i, stop
    cdef int filled
    cdef moments_t m
    for segment in range(number):
        m.count.hi = m.count.lo = m.sum.hi = m.sum.lo = m.m2.hi = m.m2.lo = m.exponent = 0.0
        i, stop = starts[segment], starts[segment + 1]
        while i < stop:
            filled = 0
            while filled < TILE and i < stop:
                value = values[i]
                tile.values[filled] = value
                size = fabs(value)
                largest = size if size > largest else largest
                least = size if (size < least) & (size > 0.0) else least
                if weights == NULL:
                    filled += value == value
                else:
                    tile.weights[filled] = weights[i]
                    filled += (value == value) & (weights[i] > 0.0)
                i += 1
            if not (least > SMALL and largest < LARGE):
                return False
            if filled:
                m = merged(m, moments_of_tile(&tile, filled, weights != NULL))
        store_moments(parts + segment, number, m)
    return True


cdef void extrema_of_segments(
    const real* values,
    const cnp.int64_t* starts,
    Py_ssize_t number,
    double* count,
    double* least,
    double* largest,
) noexcept nogil:
    cdef Py_ssize_t segment, i, counted
    cdef double low, high, value
    for segment in range(number):
        low, high, counted = least[segment], largest[segment], 0
        for i in range(starts[segment], starts[segment + 1]):
            value = values[i]
            low = value if value < low else low
            high = value if value > high else high
            counted += not isnan(value)
        count[segment], least[segment], largest[segment] = counted, low, high


cdef void count_entries(
    const index* channels, Py_ssize_t number, Py_ssize_t num_channels, cnp.int64_t* starts
) noexcept nogil:
    """Set where each channel's segment starts, by how many entries it has."""
    cdef Py_ssize_t i, c
    for i in range(number):
        starts[channels[i] + 1] += 1
    for c in range(num_channels):
        starts[c + 1] += starts[c]


cdef void group_entries(
    const real* values, const index* channels, Py_ssize_t number, cnp.int64_t* places, real* out
) noexcept nogil:
    """Copy each entry to the next place of its channel."""
    cdef Py_ssize_t i
    for i in range(number):
        out[places[channels[i]]] = values[i]
        places[channels[i]] += 1


cdef void group_any(
    const void* values, const index* channels, Py_ssize_t number, bint narrow,
    cnp.int64_t* places, void* out
) noexcept nogil:
    if narrow:
        group_entries(<const float*> values, channels, number, places, <float*> out)
    else:
        group_entries(<const double*> values, channels, number, places, <double*> out)


def grouped(values, channels, Py_ssize_t num_channels):
    """Return entries sorted by channel into segments, in their order, and the starts of those.

    Parameters
    ----------
    values : contiguous float64 or float32 array of shape (n,)
    channels : contiguous int32 or int64 array of shape (n,)
        Below ``num_channels``, which is not checked, and not negative.
    """
    cdef Py_ssize_t number = cnp.PyArray_DIM(values, 0)
    starts = np.zeros(num_channels + 1, dtype=np.int64)
    result = np.empty_like(values)
    cdef cnp.int64_t* begins = <cnp.int64_t*> data_of(starts)
    cdef void* of = data_of(channels)
    cdef const void* data = data_of(values)
    cdef void* out = data_of(result)
    cdef cnp.int64_t* next_places
    cdef bint narrow = values.dtype == np.float32, short = channels.dtype == np.int32
    with nogil:
        if short:
            count_entries(<const cnp.int32_t*> of, number, num_channels, begins)
        else:
            count_entries(<const cnp.int64_t*> of, number, num_channels, begins)
    places = starts[:num_channels].copy()
    next_places = <cnp.int64_t*> data_of(places)
    with nogil:
        if short:
            group_any(data, <const cnp.int32_t*> of, number, narrow, next_places, out)
        else:
            group_any(data, <const cnp.int64_t*> of, number, narrow, next_places, out)
    return result, starts


def moments(values, starts, weights=None):
    """Return the state of the moments of each segment, (7, C), NaN left out.

    Parameters
    ----------
    values : contiguous float64 or float32 array of shape (n,)
    starts : contiguous int64 array of shape (C + 1,)
        Segment c is ``values[starts[c]:starts[c + 1]]``.
    weights : contiguous float64 array of shape (n,), optional

    Returns
    -------
    array, or None where squares of values might leave float64
    """
    cdef Py_ssize_t number = cnp.PyArray_DIM(starts, 0) - 1
    parts = np.empty((MOMENTS_ROWS, number))
    cdef const cnp.int64_t* begins = <const cnp.int64_t*> data_of(starts)
    cdef double* plane = NULL
    if weights is not None:
        plane = <double*> data_of(weights)
    cdef const void* data = data_of(values)
    cdef double* found = <double*> data_of(parts)
    cdef bint narrow = values.dtype == np.float32, ordinary
    with nogil:
        if narrow:
            ordinary = moments_of_segments(<const float*> data, plane, begins, number, found)
        else:
            ordinary = moments_of_segments(<const double*> data, plane, begins, number, found)
    return parts if ordinary else None


def extrema(values, starts):
    """Return the count, the minimum and the maximum of each segment, NaN left out.

    Parameters are those of :func:`moments`. Of a segment without numbers, the minimum is +inf and
    the maximum -inf.
    """
    cdef Py_ssize_t number = cnp.PyArray_DIM(starts, 0) - 1
    result = np.empty((3, number))
    result[1], result[2] = np.inf, -np.inf
    cdef const cnp.int64_t* begins = <const cnp.int64_t*> data_of(starts)
    cdef const void* data = data_of(values)
    cdef double* found = <double*> data_of(result)
    cdef bint narrow = values.dtype == np.float32
    with nogil:
        if narrow:
            extrema_of_segments(
                <const float*> data, begins, number, found, found + number, found + 2 * number
            )
        else:
            extrema_of_segments(
                <const double*> data, begins, number, found, found + number, found + 2 * number
            )
    return result


cdef inline void* data_of(object array) noexcept:
    return cnp.PyArray_DATA(<cnp.ndarray> array)
