# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: the logarithms of a feature are taken once; each look at a lambda then reads them once, in
# runs that stay in the first cache, and a power of e and four sums are all it computes, in vectors.
# The likelihood is convex in lambda, so its derivative has one root, found by bisection and inverse
# quadratic interpolation; of many values a part says first where. The derivative is a quotient of a
# covariance and a variance, in which scales and offsets cancel: logarithms count from an origin
# within the data and in units of the largest, powers of e from the largest one. Nothing overflows,
# and nothing is lost in a constant.
"""The lambda of a power transform that is the most likely, compiled.

References
----------
G. E. P. Box and D. R. Cox, "An Analysis of Transformations", Journal of the Royal Statistical
Society B 26 (1964), 211-252. I.-K. Yeo and R. A. Johnson, "A new family of power transformations to
improve normality or symmetry", Biometrika 87 (2000), 954-959. That the derivative is monotone:
T. Marchand et al., "SecureFedYJ", Advances in Neural Information Processing Systems 35 (2022).
T. R. Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear
function", Advances in Engineering Software 28 (1997), 145-149.
"""

import numpy as np

from libc.math cimport INFINITY, exp, expm1, fabs, log, log1p

__all__ = ["most_likely"]

cdef extern from "curve.h" nogil:
    void logarithms(const double* x, int count, double base, double origin, double* logs)

cdef extern from "exponential.h" nogil:
    void powers(
        const double* logs, int count, double power, double shift, double one, double over,
        double* value, double* derivative,
    )

cdef enum:
    RUN = 256
    LANES = 4
    TERMS = 16
    MOST_LOOKS = 200
    PART = 1 << 13

# Up to this exponent of e a series has all digits of a power less 1, and is as quick.
cdef double SERIES = 0.5
cdef double MOST = 1e8          # of a power, in units of the largest logarithm
cdef double NEAR = 1e-3
cdef double TOLERANCE = 1e-13   # of a power, in those units
cdef double[TERMS] POWER, DERIVATIVE
cdef int _k
cdef double _factorial = 1.0
for _k in range(TERMS):         # (exp(e) - 1) / e, and what a derivative makes of it
    _factorial *= _k + 1
    POWER[_k] = 1.0 / _factorial
    DERIVATIVE[_k] = (_k + 1) / (_factorial * (_k + 2))

ctypedef struct sums_t:
    double value, derivative, square, product

ctypedef struct sample_t:
    const double* logs      # in units of the largest, those of the upper side first
    const double* weights   # of them, NULL where all are 1
    double total            # of the weights
    Py_ssize_t count, upper
    double least, most      # of the upper side
    double most_below       # of the lower side
    double mean             # of all, those of the lower side negative
    double unit


cdef void add_run(
    const double* logs, const double* weights, Py_ssize_t count, double power, double shift,
    bint series, double* totals,
) noexcept nogil:
    """Add sums of some values' powers, and of their derivatives by the power."""
    cdef double value[RUN]
    cdef double derivative[RUN]
    cdef double products[2 * RUN]
    cdef double* weighed = value
    cdef double* slopes = derivative
    cdef double lanes[4 * LANES]
    cdef double one = exp(-shift), over = 0.0 if power == 0.0 else 1.0 / power, e, p, d
    cdef Py_ssize_t i, k
    if series:
        for i in range(count):
            e, p, d = power * logs[i], 0.0, 0.0
            for k in range(TERMS - 1, -1, -1):
                p = p * e + POWER[k]
                d = d * e + DERIVATIVE[k]
            value[i] = logs[i] * p * one
            derivative[i] = logs[i] * logs[i] * d * one
    else:
        powers(logs, <int> count, power, shift, one, over, value, derivative)
    for i in range(count, (count + LANES - 1) // LANES * LANES):
        value[i] = derivative[i] = 0.0
    if weights != NULL:
        weighed, slopes = products, products + RUN
        for i in range(count):
            weighed[i], slopes[i] = weights[i] * value[i], weights[i] * derivative[i]
        for i in range(count, (count + LANES - 1) // LANES * LANES):
            weighed[i] = slopes[i] = 0.0
    for i in range(4 * LANES):
        lanes[i] = 0.0
    for i in range((count + LANES - 1) // LANES):
        for k in range(LANES):
            p = weighed[i * LANES + k]
            lanes[k] += p
            lanes[LANES + k] += slopes[i * LANES + k]
            lanes[2 * LANES + k] += p * value[i * LANES + k]
            lanes[3 * LANES + k] += p * derivative[i * LANES + k]
    for i in range(4):
        totals[i] += (lanes[4 * i] + lanes[4 * i + 1]) + (lanes[4 * i + 2] + lanes[4 * i + 3])


cdef sums_t sums_of(
    const double* logs, const double* weights, Py_ssize_t count, double power, double shift
) noexcept nogil:
    cdef double totals[4]
    cdef Py_ssize_t start = 0, size
    cdef sums_t sums
    totals[0] = totals[1] = totals[2] = totals[3] = 0.0
    while start < count:
        size = min(count - start, <Py_ssize_t> RUN)
        add_run(logs + start, weights, size, power, shift, fabs(power) <= SERIES, totals)
        if weights != NULL:
            weights += size
        start += size
    sums.value, sums.derivative, sums.square, sums.product = (
        totals[0], totals[1], totals[2], totals[3]
    )
    return sums


cdef double slope(const sample_t* sample, double power) noexcept nogil:
    """Return the derivative of the log-likelihood, for each value and negated, by the power."""
    cdef double other = 2.0 * sample.unit - power
    cdef double shift = max(max(power * sample.least, power * sample.most), 0.0)
    cdef double number = sample.total, variance, covariance
    cdef const double* weights = sample.weights
    cdef bint both = sample.upper < sample.count
    cdef sums_t upper, lower
    if both:
        shift = max(shift, other * sample.most_below)
    upper = sums_of(sample.logs, weights, sample.upper, power, shift)
    if both:
        if weights != NULL:
            weights += sample.upper
        lower = sums_of(
            sample.logs + sample.upper, weights, sample.count - sample.upper, other, shift
        )
        upper.value -= lower.value
        upper.derivative += lower.derivative
        upper.square += lower.square
        upper.product -= lower.product
    variance = upper.square - upper.value * (upper.value / number)
    covariance = upper.product - upper.value * (upper.derivative / number)
    if not variance > 0.0:
        return 0.0
    return covariance / variance - sample.mean


cdef double root(
    const sample_t* sample, double low, double high, double start, double rate
) noexcept nogil:
    """Return the power at which the slope is zero, or the end of the range that is nearest.

    It is sought from a start on, where the slope may be known to grow at some rate.
    """
    cdef double a, b, c, fa, fb, fc, x, f, step = 1.0, xi, phi, t, tolerance
    cdef int _look
    if low > high:  # so large are the values that only lambda = 1 keeps those of both sides
        return sample.unit
    a = min(max(start, low), high)
    fa = slope(sample, a)
    if fa == 0.0:
        return a
    if rate > 0.0:
        step = 2.0 * fabs(fa) / rate
    while True:
        b = min(max(a - step if fa > 0.0 else a + step, low), high)
        if b == a:
            return a
        fb = slope(sample, b)
        if fb == 0.0:
            return b
        if (fb > 0.0) != (fa > 0.0):
            break
        a, fa, step = b, fb, 2.0 * step
    c, fc, t = a, fa, 0.5
    for _look in range(MOST_LOOKS):
        x = a + t * (b - a)
        f = slope(sample, x)
        if (f > 0.0) == (fa > 0.0):
            c, fc = a, fa
        else:
            c, b, fc, fb = b, a, fb, fa
        a, fa = x, f
        tolerance = TOLERANCE * (1.0 + fabs(a))
        if f == 0.0 or fabs(b - a) <= 2.0 * tolerance:
            break
        xi, phi, t = (a - b) / (c - b), (fa - fb) / (fc - fb), 0.5
        if phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi:
            t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (
                fc - fb
            )
        t = min(max(t, tolerance / fabs(b - a)), 1.0 - tolerance / fabs(b - a))
    return a if fabs(fa) <= fabs(fb) else b


cdef double root_of_large(
    sample_t* sample, double low, double high, double* room
) noexcept nogil:
    """Return the root, which a part of the values tells roughly where there are many."""
    cdef sample_t part = sample[0]
    cdef Py_ssize_t step = sample.count // PART, i, size = 0
    cdef double total = 0.0, start, rate, weight
    if step < 4:
        return root(sample, low, high, sample.unit, 0.0)
    part.upper, part.total, i = 0, 0.0, step // 2
    while i < sample.count:
        weight = 1.0 if sample.weights == NULL else sample.weights[i]
        room[size], room[2 * PART + size] = sample.logs[i], weight
        total += weight * room[size] if i < sample.upper else -weight * room[size]
        part.total += weight
        part.upper += i < sample.upper
        size += 1
        i += step
    part.logs, part.count, part.mean = room, size, total / part.total
    part.weights = NULL if sample.weights == NULL else room + 2 * PART
    start = root(&part, low, high, sample.unit, 0.0)
    rate = (slope(&part, start + NEAR) - slope(&part, start - NEAR)) / (2.0 * NEAR)
    return root(sample, low, high, start, rate)


cdef double origin_of(
    const double* values, Py_ssize_t count, bint plus_one
) noexcept nogil:
    """Return about the geometric mean of positive values, or of 1 and them less 1."""
    cdef Py_ssize_t step = max(count // PART, 1), i = step // 2, number = 0
    cdef double total = 0.0
    while i < count:
        total += log1p(fabs(values[i])) if plus_one else log(values[i])
        number += 1
        i += step
    total /= <double> number
    return expm1(total) if plus_one else exp(total)


cdef void take_logarithms(
    const double* values, Py_ssize_t count, bint plus_one, double origin, double* logs
) noexcept nogil:
    cdef Py_ssize_t start = 0
    while start < count:
        logarithms(
            values + start, <int> min(count - start, <Py_ssize_t> RUN),
            1.0 if plus_one else 0.0, origin, logs + start,
        )
        start += RUN


cdef void part_sides(
    const double* values, const double* given, Py_ssize_t count, Py_ssize_t upper, double* parted
) noexcept nogil:
    """Put the logarithms, or weights, of what is not below zero first."""
    cdef Py_ssize_t i, above = 0, below = upper
    for i in range(count):
        if values[i] >= 0.0:
            parted[above] = given[i]
            above += 1
        else:
            parted[below] = given[i]
            below += 1


def most_likely(
    const double[::1] values,
    bint plus_one,
    double least,
    double largest,
    const double[::1] weights=None,
):
    """Return the most likely lambda, and origin and unit of a map that has all digits.

    Parameters
    ----------
    values : float64 array of shape (n,)
        Finite, not all the same; positive where it is not for ``plus_one``.
    plus_one : bool
        Yeo-Johnson, and not Box-Cox.
    least, largest : float
        Exponents of e between which transforms of 20 times the largest value remain: bounds of
        lambda, as scikit-learn has them for Yeo-Johnson. Box-Cox has none here.
    weights : float64 array of shape (n,), optional
        Positive: how often each value counts; by default once.
    """
    cdef Py_ssize_t count = values.shape[0], i
    cdef double low = INFINITY, high = -INFINITY, most, reach, sign = 1.0, origin = 0.0
    cdef double power, total = 0.0, part = 0.0, weight
    cdef bint weighted = weights is not None
    cdef sample_t sample
    cdef double[::1] logs = np.empty(count), room = np.empty(4 * PART)
    cdef double[::1] parted = np.empty(count if plus_one else 1)
    cdef double[::1] parted_weights = np.empty(count if plus_one and weighted else 1)
    cdef double* taken = &logs[0]
    sample.weights, sample.total = NULL, <double> count
    if weighted:
        sample.weights, sample.total = &weights[0], np.sum(weights)
    with nogil:
        sample.upper, sample.count = 0, count
        for i in range(count):
            low, high = min(low, values[i]), max(high, values[i])
            sample.upper += values[i] >= 0.0
        if not (plus_one and low < 0.0 < high):
            sample.upper, sign = count, -1.0 if low < 0.0 else 1.0
            origin = origin_of(&values[0], count, plus_one)
        take_logarithms(&values[0], count, plus_one, origin, taken)
        if sample.upper < count:
            part_sides(&values[0], taken, count, sample.upper, &parted[0])
            taken = &parted[0]
            if weighted:
                part_sides(&values[0], sample.weights, count, sample.upper, &parted_weights[0])
                sample.weights = &parted_weights[0]
        most = sample.least = sample.most = sample.most_below = 0.0
        for i in range(count):
            most = max(most, fabs(taken[i]))
        for i in range(count):
            taken[i] = taken[i] / most
            if i < sample.upper:
                sample.least, sample.most = min(sample.least, taken[i]), max(sample.most, taken[i])
            else:
                sample.most_below = max(sample.most_below, taken[i])
            weight = sample.weights[i] if weighted else 1.0
            part += weight * taken[i] if i < sample.upper else -weight * taken[i]
            if i % RUN == RUN - 1:
                total += part
                part = 0.0
        sample.logs, sample.unit, sample.mean = taken, most, (total + part) / sample.total
        reach = max(fabs(low), fabs(high))
        reach = most / (log1p(20.0 * reach) if reach < 1e300 else log(reach) + log(20.0))
        low, high = -MOST, MOST
        if plus_one:
            low, high = least * reach, largest * reach
            if sample.upper < count:
                low, high = max(2.0 * most - high, low), min(2.0 * most - low, high)
        power = root_of_large(&sample, low, high, &room[0])
        power = min(max(power / most, -1e290), 1e290)
    return 2.0 - power if sign < 0.0 else power, sign * origin, most
