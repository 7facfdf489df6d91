# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one read and one write of a block, value by value: a logarithm of 64 bits, a product, a
# power of e. What a feature's map needs beside that is made once a block. The map is measured from
# an origin within the data, where those lie on one side of zero: a power that is so negative that
# all of them round to its limit still has the digits that tell them apart.
"""The maps of power transforms, standardized, and their inverses, compiled.

On the side of zero where the origin is, with u the value there and c its power, the map is
``((1 + u) / (1 + origin)) ** c - 1`` over ``c * unit``, less the mean, over the scale. On the other
side it goes on as the Yeo-Johnson transform does. Box and Cox have u instead of 1 + u.
"""

import numpy as np

from libc.math cimport INFINITY, NAN, exp, fabs, sqrt

__all__ = ["forward", "inverse", "moments"]

cdef extern from "curve.h" nogil:
    ctypedef struct pair_t:
        double hi, lo
    pair_t two_sum(double a, double b)
    pair_t two_prod(double a, double b)
    pair_t fast_two_sum(double a, double b)
    pair_t pair_plus(pair_t a, pair_t b)
    pair_t pair_times(pair_t a, double b)
    pair_t pair_over(pair_t a, pair_t b)
    pair_t log_quotient(pair_t a, pair_t b)
    double exp_pair(pair_t a)
    double expm1_pair(pair_t a)
    ctypedef struct curve_t:
        double sign, power, other_power, unit, mean, scale, zero, slope, base, tiny, other_tiny
        double distance
        pair_t origin, logarithm
    const double LINEAR, TINY
    void map_values(
        const curve_t* curve, const double* x, int count, double* y, double* exponents
    )

# Exponents of e from which on a power is multiplied in two parts.
cdef double LARGE = 700.0
# From here on a product would overflow on its way, and 1 is no digit of it.
cdef double HUGE_VALUE = 1e200

# Of a value that is mapped, beside the size of what it is made of.
cdef double ROUNDING = 2.0 ** -50

cdef enum:
    RUN = 256


cdef inline pair_t as_pair(double value) noexcept nogil:
    cdef pair_t result
    result.hi, result.lo = value, 0.0
    return result


cdef inline double power_of(pair_t logarithm, double power, double unit) noexcept nogil:
    """Return ``(exp(power * logarithm) - 1) / power / unit``."""
    cdef pair_t e = pair_times(logarithm, power)
    cdef double value = expm1_pair(e) / (power * unit), linear = logarithm.hi / unit
    return linear if fabs(e.hi) < LINEAR else value


cdef inline pair_t logarithm_of(double value, double power, double unit) noexcept nogil:
    """Return the logarithm that :func:`power_of` maps to ``value``; NaN where it maps none."""
    cdef double factor = power * unit
    cdef pair_t t, q
    if fabs(value * factor) < LINEAR:
        return as_pair(value * unit)
    if fabs(value) > HUGE_VALUE:
        if (value < 0.0) != (factor < 0.0):
            return as_pair(NAN)
        q = log_quotient(as_pair(fabs(value)), as_pair(1.0 / fabs(factor)))
    else:
        t = two_prod(value, factor)
        q = two_sum(1.0, t.hi)
        q = fast_two_sum(q.hi, q.lo + t.lo)
        if not q.hi > 0.0:
            return as_pair(NAN)
        q = log_quotient(q, as_pair(1.0))
    return pair_over(q, as_pair(power))


cdef curve_t curve_of(bint plus_one, const double* of) noexcept nogil:
    """Return the map of a feature: its lambda, origin, unit, mean and scale."""
    cdef curve_t curve
    cdef double origin = fabs(of[1])
    cdef pair_t e
    curve.sign = -1.0 if plus_one and of[1] < 0.0 else 1.0
    curve.power, curve.other_power = of[0], 2.0 - of[0]
    if curve.sign < 0.0:
        curve.power, curve.other_power = curve.other_power, curve.power
    curve.unit, curve.mean, curve.scale = of[2], of[3], of[4]
    curve.base = 1.0 if plus_one else 0.0
    curve.tiny = TINY if plus_one and origin < TINY else 0.0
    curve.other_tiny = TINY
    curve.distance = origin
    curve.origin = two_sum(curve.base, origin)
    curve.logarithm = (
        as_pair(origin)
        if plus_one and origin < TINY
        else log_quotient(curve.origin, as_pair(1.0))
    )
    curve.zero, curve.slope = 0.0, 1.0
    if plus_one and origin != 0.0:
        e = as_pair(0.0)
        e.hi, e.lo = -curve.logarithm.hi, -curve.logarithm.lo
        curve.zero = power_of(e, curve.power, curve.unit)
        curve.slope = exp_pair(pair_times(e, curve.power))
    return curve


cdef void map_run(
    const curve_t* curve, const double* x, Py_ssize_t count, double* y
) noexcept nogil:
    cdef double exponents[RUN]
    cdef double half
    cdef Py_ssize_t i
    map_values(curve, x, <int> count, y, exponents)
    for i in range(count):
        if x[i] != x[i]:
            y[i] = NAN
        elif exponents[i] > LARGE:
            half = exp(0.5 * exponents[i])
            y[i] = curve.sign * (
                (half / curve.scale) * (half / (curve.power * curve.unit))
                - curve.mean / curve.scale
            )


cdef double invert_value(const curve_t* curve, double y) noexcept nogil:
    cdef double value = curve.sign * y * curve.scale + curve.mean
    cdef bint beyond = curve.base != 0.0 and value < curve.zero
    cdef pair_t logarithm
    if value - value != 0.0:  # NaN, or what the scale makes infinite
        return NAN if value != value else curve.sign * value
    if beyond:
        logarithm = logarithm_of(
            (curve.zero - value) / curve.slope, curve.other_power, curve.unit
        )
    else:
        logarithm = logarithm_of(value, curve.power, curve.unit)
    if logarithm.hi != logarithm.hi:  # nothing, unless rounding alone led away from zero
        if curve.base != 0.0 and fabs(curve.zero - value) <= ROUNDING * (
            fabs(curve.zero) + fabs(curve.mean)
        ):
            return 0.0
        return NAN
    if beyond:
        return -curve.sign * expm1_pair(logarithm)
    logarithm = pair_plus(logarithm, curve.logarithm)
    return curve.sign * expm1_pair(logarithm) if curve.base != 0.0 else exp_pair(logarithm)


def forward(x, const double[:, ::1] parameters, bint plus_one):
    """Return the map of each value.

    Parameters
    ----------
    x : float64 array of shape (n, C)
        NaN stays NaN; positive where it is not for ``plus_one``.
    parameters : C-contiguous float64 array of shape (C, 5)
        Of each feature lambda, origin, unit, mean and scale.
    plus_one : bool
        Yeo-Johnson, and not Box-Cox.
    """
    cdef const double[:, :] values = x
    result = np.empty_like(x, dtype=np.float64, subok=False)
    cdef double[:, :] y = result
    cdef Py_ssize_t column
    cdef curve_t curve
    cdef double run[RUN]
    cdef double mapped[RUN]
    cdef Py_ssize_t rows = values.shape[0], block, start, count, i
    with nogil:
        for column in range(values.shape[1]):
            curve = curve_of(plus_one, &parameters[column, 0])
            for block in range((rows + RUN - 1) // RUN):
                start = block * RUN
                count = min(rows - start, <Py_ssize_t> RUN)
                for i in range(count):
                    run[i] = values[start + i, column]
                map_run(&curve, run, count, mapped)
                for i in range(count):
                    y[start + i, column] = mapped[i]
    return result


def moments(
    const double[::1] values,
    const double[:, ::1] parameters,
    bint plus_one,
    const double[::1] weights=None,
):
    """Return the mean and the standard deviation of the map of finite values.

    Of what grows away from zero, where the origin is below zero.

    Parameters
    ----------
    parameters : C-contiguous float64 array of shape (1, 5)
        As of :func:`forward`, with a mean of 0 and a scale of 1.
    weights : float64 array of the shape of values, optional
        Positive; by default all are 1.
    """
    cdef curve_t curve = curve_of(plus_one, &parameters[0, 0])
    cdef double mapped[RUN]
    cdef double low = INFINITY, high = -INFINITY, size, mean = 0.0, total = 0.0
    cdef double part, square, delta, weight, seen = 0.0, number = 0.0
    cdef double share[RUN]
    cdef Py_ssize_t start = 0, count, i
    cdef bint weighted = weights is not None
    with nogil:
        for i in range(values.shape[0]):
            low, high = min(low, values[i]), max(high, values[i])
        # The ends of the map, by which all is divided so that squares stay in range.
        mapped[0], mapped[1] = low, high
        map_run(&curve, mapped, 2, mapped + 2)
        size = max(fabs(mapped[2]), fabs(mapped[3]))
        size = size if size > 0.0 else 1.0
        while start < values.shape[0]:
            count = min(values.shape[0] - start, <Py_ssize_t> RUN)
            map_run(&curve, &values[start], count, mapped)
            part = square = weight = 0.0
            for i in range(count):
                share[i] = weights[start + i] if weighted else 1.0
                mapped[i] = mapped[i] / size
                part += share[i] * mapped[i]
                weight += share[i]
            part /= weight
            for i in range(count):
                square += share[i] * (mapped[i] - part) * (mapped[i] - part)
            number, delta = seen + weight, part - mean
            total += square + delta * delta * (seen * weight / number)
            mean += delta * (weight / number)
            start += count
            seen = number
    return curve.sign * (mean * size), sqrt(total / number) * size


def inverse(x, const double[:, ::1] parameters, bint plus_one):
    """Return what :func:`forward` maps to each value, NaN where that is nothing."""
    cdef const double[:, :] values = x
    result = np.empty_like(x, dtype=np.float64, subok=False)
    cdef double[:, :] y = result
    cdef Py_ssize_t row, column
    cdef curve_t curve
    with nogil:
        for column in range(values.shape[1]):
            curve = curve_of(plus_one, &parameters[column, 0])
            for row in range(values.shape[0]):
                y[row, column] = invert_value(&curve, values[row, column])
    return result
