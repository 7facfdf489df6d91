"""Moments in double-double and their merging, in array-API terms.

A state is an array of shape (7, C) with the rows count_hi, count_lo, sum_hi, sum_lo, m2_hi,
m2_lo and exponent: the sum counts in units of ``2**exponent`` and m2 in ``4**exponent``.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import array_api_double_double as dd

__all__ = ["block_moments", "merge_moments"]

# Channels whose largest magnitude lies outside are scaled by a power of two, so that squares
# and their error terms neither overflow nor underflow.
_SMALLEST, _LARGEST = 2.0**-400, 2.0**400


def merge_moments(a: Array, b: Array) -> Array:
    """Merge two states of shape (7, C).

    The pairwise update of Chan, Golub and LeVeque (1979) with every quantity a double-double, as
    :class:`~normcore.Moments` cites it. An empty state is all zeros and leaves the other's bits
    alone.
    """
    xp = array_namespace(a)
    with np.errstate(all="ignore"):
        exponent = xp.where(a[6, ...] > b[6, ...], a[6, ...], b[6, ...])
        exponent = xp.where(_is_zero(a), b[6, ...], xp.where(_is_zero(b), a[6, ...], exponent))
        count_a, sum_a, m2_a = _in_unit(xp, a, exponent)
        count_b, sum_b, m2_b = _in_unit(xp, b, exponent)
        count = dd.add(count_a, count_b)
        mean_a, mean_b = dd.divide(sum_a, count_a), dd.divide(sum_b, count_b)
        delta = dd.add(mean_b, (-mean_a[0], -mean_a[1]))
        # Two constants are equal or an ulp apart; less is what rounding left of weighted sums.
        constant = (m2_a[0] == 0) & (m2_b[0] == 0)
        equal = constant & (xp.abs(delta[0]) < 1e-20 * xp.abs(mean_a[0]))
        delta = tuple(xp.where(equal, xp.zeros_like(each), each) for each in delta)
        pairs = dd.divide(dd.multiply(count_a, count_b), count)
        m2 = dd.add(dd.add(m2_a, m2_b), dd.multiply(dd.multiply(delta, delta), pairs))

        plain_sum = sum_a[0] + sum_b[0]
        broken = ~xp.isfinite(plain_sum + m2_a[0] + m2_b[0])
        merged = _state(xp, count, dd.add(sum_a, sum_b), m2, exponent, broken, plain_sum)
        merged = xp.where((a[0, ...] == 0)[None, :], b, merged)
        return xp.where((b[0, ...] == 0)[None, :], a, merged)


def block_moments(xp: ModuleType, values: Array, weights: Array, skipna: bool) -> Array:
    """Return the state of float64 values (P, C), with weights (P, 1) or None.

    Values of weight 0 do not count, whatever they are. Infinity and NaN make the sum what
    their plain sum is, and m2 NaN.
    """
    with np.errstate(all="ignore"):
        zeros = xp.zeros_like(values)
        valid = ~xp.isnan(values) if skipna else xp.ones_like(values, dtype=xp.bool)
        if weights is not None:
            valid = valid & (weights > 0)
        values = xp.where(valid, values, zeros)
        plain_sum = xp.sum(values, axis=0)
        broken = ~xp.all(xp.isfinite(values), axis=0)
        values = xp.where(broken[None, :], zeros, values)
        exponent = _exponent(xp, xp.max(xp.abs(values), axis=0))
        values = times_power(xp, values, -exponent)

        counted = xp.where(valid, zeros + (1.0 if weights is None else weights), zeros)
        count = dd.sum_rows(xp, counted, zeros)
        safe = xp.where(count[0] > 0, count[0], xp.ones_like(count[0])), count[1]
        # Deviations from the rounded mean are exact as pairs; what the rounding left of the
        # mean comes back through their sum.
        total = dd.sum_rows(xp, *dd.two_product(counted, values))
        center = dd.divide(total, safe)[0]
        xmu = dd.two_sum(values, -center)
        xmu = xp.where(valid, xmu[0], zeros), xp.where(valid, xmu[1], zeros)
        weighted = xmu if weights is None else dd.multiply((counted, zeros), xmu)
        rest = dd.sum_rows(xp, *weighted)
        correction = dd.multiply(rest, dd.divide(rest, safe))
        m2 = dd.add(dd.sum_rows(xp, *dd.multiply(weighted, xmu)), (-correction[0], -correction[1]))
        return _state(xp, count, total, m2, exponent, broken, plain_sum)


def times_power(xp: ModuleType, values: Array, exponent: Array) -> Array:
    """Return ``values * 2**exponent``, exactly where the result is a normal number.

    In four steps, as ``2**exponent`` itself may leave float64; the powers are multiplied up from
    squares because libraries differ in the last digit of ``pow``.
    """
    if not bool(xp.any(exponent != 0)):
        return values
    exponent = xp.clip(exponent, -2200.0, 2200.0)
    quarter = xp.round(exponent / 4.0)
    for step in (quarter, quarter, quarter, exponent - 3.0 * quarter):
        factor, rest = xp.ones_like(step), xp.abs(step)
        for bit in range(10):
            half = xp.floor(rest / 2.0)
            factor = xp.where(rest > 2.0 * half, factor * 2.0 ** (1 << bit), factor)
            rest = half
        values = values * xp.where(step < 0, 1.0 / factor, factor)
    return values


def _state(
    xp: ModuleType,
    count: dd.Pair,
    total: dd.Pair,
    m2: dd.Pair,
    exponent: Array,
    broken: Array,
    plain: Array,
) -> Array:
    """Stack a state; channels that hold infinity or NaN get their plain sum and no m2."""
    zero = xp.zeros_like(exponent)
    negative = m2[0] < 0  # what rounding made of 0
    return xp.stack(
        [
            count[0],
            count[1],
            xp.where(broken, plain, total[0]),
            xp.where(broken, zero, total[1]),
            xp.where(broken, zero + xp.nan, xp.where(negative, zero, m2[0])),
            xp.where(broken | negative, zero, m2[1]),
            exponent,
        ]
    )


def _is_zero(state: Array) -> Array:
    return (state[2, ...] == 0) & (state[4, ...] == 0)


def _in_unit(xp: ModuleType, state: Array, exponent: Array) -> tuple[dd.Pair, dd.Pair, dd.Pair]:
    """Return count, sum and m2 in the unit of a larger exponent."""
    shift = state[6, ...] - exponent
    shift = xp.where(_is_zero(state), xp.zeros_like(shift), shift)
    total = times_power(xp, state[2, ...], shift), times_power(xp, state[3, ...], shift)
    m2 = state[4, ...], state[5, ...]
    for _ in range(2):
        m2 = times_power(xp, m2[0], shift), times_power(xp, m2[1], shift)
    return (state[0, ...], state[1, ...]), total, m2


def _exponent(xp: ModuleType, largest: Array) -> Array:
    """Return a power of two near the largest magnitude, 0 where no scaling is needed."""
    ordinary = (largest == 0) | ((largest >= _SMALLEST) & (largest <= _LARGEST))
    exponent = xp.floor(xp.log2(xp.where(ordinary, xp.ones_like(largest), largest))) + 1.0
    return xp.where(ordinary, xp.zeros_like(largest), exponent)
