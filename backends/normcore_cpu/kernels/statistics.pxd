# What other units take of statistics.pyx: moments of rows, and of channels without Python.

from libc.math cimport isfinite, ldexp, sqrt

cimport cython

from normcore.statistics.double_double cimport dd, two_prod
from normcore.statistics cimport moments_t

from .lanes cimport LANES
from .tiling cimport TILE, view_t

cdef enum:
    GROUP = 16      # rows in work at once, at most
    BLOCK = TILE    # columns of a block

# What maps a row: to (x - center) / scale.
cdef struct row_scale_t:
    double center
    double scale

cdef double widened_sum(
    const float* x, Py_ssize_t columns, Py_ssize_t distance, double* row, double* unit
) noexcept nogil
cdef void row_moments(
    double* x, Py_ssize_t rows, Py_ssize_t columns, const double* sums, const double* units,
    moments_t* states,
) noexcept nogil
cdef dd sum_lanes(double* hi, double* lo) noexcept nogil


@cython.cdivision(True)
cdef inline Py_ssize_t padded(Py_ssize_t columns) noexcept nogil:
    """Return the columns of a row in work: whole vectors of 16 lanes."""
    return (columns + LANES - 1) // LANES * LANES


@cython.cdivision(True)
cdef inline dd mean_of(dd total, double count) noexcept nogil:
    """Return the mean in two parts; of what is not finite, whatever the sum is."""
    cdef dd mean, product
    cdef double first, second
    first = total.hi / count
    if not isfinite(total.hi):
        mean.hi, mean.lo = first, 0.0
        return mean
    product = two_prod(first, count)
    second = (((total.hi - product.hi) - product.lo) + total.lo) / count
    mean.hi = first + second
    mean.lo = second - (mean.hi - first)
    return mean


@cython.cdivision(True)
cdef inline row_scale_t row_scale(const moments_t* m, double eps, bint centered) noexcept nogil:
    """Return the mean and sqrt(var + eps), or 0 and the root of the mean square and eps."""
    cdef row_scale_t row
    cdef double count = m.count.hi + m.count.lo, scaled = m.m2.hi / count, var = scaled
    row.center = mean_of(m.sum, count).hi
    if m.exponent != 0.0:
        row.center = ldexp(row.center, <int> m.exponent)
        var = ldexp(scaled, 2 * <int> m.exponent)
    if not centered:
        row.scale = sqrt(var + row.center * row.center + eps)
        row.center = 0.0
    elif isfinite(var):
        row.scale = sqrt(var + eps)
    else:
        row.scale = ldexp(sqrt(scaled), <int> m.exponent)
    return row

cdef bint observe_moments(
    const view_t* x, const view_t* weights, bint skipna, bint apart, int num_threads,
    double* states,
) noexcept nogil
