# Design: the state of one channel's moments is seven float64 numbers, stored as the rows of a
# (7, C) array so that kernels and Python share it:
#
#     count_hi count_lo sum_hi sum_lo m2_hi m2_lo exponent
#
# with sum = (sum_hi + sum_lo) * 2**exponent and m2 = (m2_hi + m2_lo) * 4**exponent. Two states
# merge by Chan, Golub and LeVeque (1979) in double-double arithmetic, so any number of merges in
# any order leaves the rounded results alone. The sum is kept rather than the mean, because sums
# of data on a common grid are exact, and so a mean that cancels to the last digit comes out right.
# The exponent is 0 unless squares would overflow or underflow; of two states the larger one is
# kept. A state whose sum and m2 are 0 fits every exponent.

cimport cython
from libc.math cimport INFINITY, NAN, fabs, isfinite, ldexp, sqrt

from normcore.statistics.double_double cimport dd, dd_add, dd_div, dd_mul, dd_quotient, dd_sub

cdef enum:
    COUNT_HI, COUNT_LO, SUM_HI, SUM_LO, M2_HI, M2_LO, EXPONENT, MOMENTS_ROWS


cdef struct moments_t:
    dd count
    dd sum
    dd m2
    double exponent


cdef inline moments_t load_moments(const double* parts, Py_ssize_t stride) noexcept nogil:
    cdef moments_t m
    m.count.hi = parts[COUNT_HI * stride]
    m.count.lo = parts[COUNT_LO * stride]
    m.sum.hi = parts[SUM_HI * stride]
    m.sum.lo = parts[SUM_LO * stride]
    m.m2.hi = parts[M2_HI * stride]
    m.m2.lo = parts[M2_LO * stride]
    m.exponent = parts[EXPONENT * stride]
    return m


cdef inline void store_moments(double* parts, Py_ssize_t stride, moments_t m) noexcept nogil:
    parts[COUNT_HI * stride] = m.count.hi
    parts[COUNT_LO * stride] = m.count.lo
    parts[SUM_HI * stride] = m.sum.hi
    parts[SUM_LO * stride] = m.sum.lo
    parts[M2_HI * stride] = m.m2.hi
    parts[M2_LO * stride] = m.m2.lo
    parts[EXPONENT * stride] = m.exponent


cdef inline moments_t with_exponent(moments_t m, double exponent) noexcept nogil:
    """Express the state with another exponent; a state of zeros fits every one."""
    cdef int shift = <int> (m.exponent - exponent)
    m.exponent = exponent
    if shift != 0:
        m.sum.hi = ldexp(m.sum.hi, shift)
        m.sum.lo = ldexp(m.sum.lo, shift)
        m.m2.hi = ldexp(m.m2.hi, 2 * shift)
        m.m2.lo = ldexp(m.m2.lo, 2 * shift)
    return m


cdef inline moments_t merged(moments_t a, moments_t b) noexcept nogil:
    """Return the moments of both: Chan's law in double-double arithmetic."""
    cdef moments_t m
    cdef dd mean, delta
    if b.count.hi == 0.0:
        return a
    if a.count.hi == 0.0:
        return b
    if a.exponent != b.exponent:
        if a.sum.hi == 0.0 and a.m2.hi == 0.0:
            a.exponent = b.exponent
        elif b.sum.hi == 0.0 and b.m2.hi == 0.0:
            b.exponent = a.exponent
        elif a.exponent < b.exponent:
            a = with_exponent(a, b.exponent)
        else:
            b = with_exponent(b, a.exponent)
    m.exponent = a.exponent
    m.count = dd_add(a.count, b.count)
    if not (isfinite(a.sum.hi) and isfinite(b.sum.hi)):
        m.sum.hi = a.sum.hi + b.sum.hi
        m.sum.lo = 0.0
        m.m2.hi = m.sum.hi - m.sum.hi  # NaN
        m.m2.lo = 0.0
        return m
    m.sum = dd_add(a.sum, b.sum)
    mean = dd_div(a.sum, a.count)
    delta = dd_sub(dd_div(b.sum, b.count), mean)
    if a.m2.hi == 0.0 and b.m2.hi == 0.0 and fabs(delta.hi) < 1e-20 * fabs(mean.hi):
        # Two constants are equal or an ulp apart; less is what rounding left of weighted sums.
        delta.hi = delta.lo = 0.0
    m.m2 = dd_add(
        dd_add(a.m2, b.m2),
        dd_mul(dd_mul(delta, delta), dd_mul(a.count, dd_div(b.count, m.count))),
    )
    return m


cdef inline double scaled(double value, double exponent) noexcept nogil:
    return value if exponent == 0.0 else ldexp(value, <int> exponent)


cdef inline double mean_of(moments_t m) noexcept nogil:
    """Return the mean; NaN where nothing was counted."""
    if not m.count.hi > 0.0:
        return NAN
    return scaled(dd_quotient(m.sum, m.count) if isfinite(m.sum.hi) else m.sum.hi, m.exponent)


cdef inline double scaled_var(moments_t m, double ddof) noexcept nogil:
    """Return m2 / (count - ddof) / 4**exponent; NaN where the divisor is not positive."""
    cdef double divisor = (m.count.hi + m.count.lo) - ddof
    return m.m2.hi / divisor if divisor > 0.0 else NAN


cdef inline double var_of(moments_t m, double ddof) noexcept nogil:
    return scaled(scaled_var(m, ddof), 2.0 * m.exponent)


cdef inline double std_of(moments_t m, double ddof) noexcept nogil:
    """Return the root of the variance, also where that leaves float64."""
    return scaled(sqrt(scaled_var(m, ddof)), m.exponent)


# Of all channels at once. Where every state is an ordinary one, there is nothing to decide in the
# loops, and compilers make vectors of them.


cdef inline bint are_plain(const double* parts, Py_ssize_t num_channels) noexcept nogil:
    """Whether all channels have values, a finite sum and no exponent."""
    cdef Py_ssize_t c
    cdef bint plain = True
    for c in range(num_channels):
        plain &= (
            (parts[COUNT_HI * num_channels + c] > 0.0)
            & (fabs(parts[SUM_HI * num_channels + c]) < INFINITY)
            & (parts[EXPONENT * num_channels + c] == 0.0)
        )
    return plain


cdef inline void set_means(
    const double* parts, Py_ssize_t num_channels, double* means
) noexcept nogil:
    """Set :func:`mean_of` of each channel."""
    cdef Py_ssize_t c
    cdef dd total, count
    if not are_plain(parts, num_channels):
        for c in range(num_channels):
            means[c] = mean_of(load_moments(parts + c, num_channels))
        return
    for c in range(num_channels):
        total.hi, total.lo = parts[SUM_HI * num_channels + c], parts[SUM_LO * num_channels + c]
        count.hi, count.lo = parts[COUNT_HI * num_channels + c], parts[COUNT_LO * num_channels + c]
        means[c] = dd_quotient(total, count)


@cython.cdivision(True)
cdef inline void set_vars(
    const double* parts, Py_ssize_t num_channels, double ddof, double* variances
) noexcept nogil:
    """Set :func:`var_of` of each channel."""
    cdef Py_ssize_t c
    cdef double divisor, var
    if not are_plain(parts, num_channels):
        for c in range(num_channels):
            variances[c] = var_of(load_moments(parts + c, num_channels), ddof)
        return
    for c in range(num_channels):
        divisor = (
            parts[COUNT_HI * num_channels + c] + parts[COUNT_LO * num_channels + c]
        ) - ddof
        var = parts[M2_HI * num_channels + c] / divisor
        variances[c] = var if divisor > 0.0 else NAN


cdef inline bint has_variance(
    const double* parts, Py_ssize_t num_channels, Py_ssize_t channel, double ddof
) noexcept nogil:
    """Whether more was counted in a channel than the degrees of freedom that are taken off."""
    return parts[COUNT_HI * num_channels + channel] + parts[
        COUNT_LO * num_channels + channel
    ] > ddof


cdef inline double moved_average(double average, double value, double weight) noexcept nogil:
    """Return a running average moved towards a value."""
    return weight * value + (1.0 - weight) * average
