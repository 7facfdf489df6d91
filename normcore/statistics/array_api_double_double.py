"""Double-double arithmetic on arrays of any array library.

A double-double is a pair ``(hi, lo)`` of float64 arrays whose unevaluated sum carries about 106
bits. Only the operators ``+ - *`` and ``/`` are used, so the same text runs on every namespace;
each must round once (no contraction). On C scalars, in compiled kernels, it is double_double.pxd.

References
----------
T. J. Dekker, "A floating-point technique for extending the available precision", Numerische
Mathematik 18 (1971).
D. E. Knuth, The Art of Computer Programming 2, section 4.2.2.
"""

from __future__ import annotations

from types import ModuleType
from typing import TypeAlias

from normcore.layout.namespace import Array

__all__ = ["add", "divide", "fast_two_sum", "multiply", "sum_rows", "two_product", "two_sum"]

#: The two halves of a double-double.
Pair: TypeAlias = tuple[Array, Array]

_SPLITTER = 134217729.0  # 2**27 + 1


def two_sum(a: Array, b: Array) -> Pair:
    """Return ``a + b`` rounded and its exact error."""
    total = a + b
    from_b = total - a
    return total, (a - (total - from_b)) + (b - from_b)


def fast_two_sum(a: Array, b: Array) -> Pair:
    """Return ``a + b`` rounded and its exact error where ``|a| >= |b|`` or a is 0."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Array, b: Array) -> Pair:
    """Return ``a * b`` rounded and its exact error, barring overflow and underflow."""
    product = a * b
    a_hi, a_lo = _split(a)
    b_hi, b_lo = _split(b)
    error = ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo
    return product, error


def add(a: Pair, b: Pair) -> Pair:
    """Return the sum of two double-doubles."""
    hi, error = two_sum(a[0], b[0])
    lo, lo_error = two_sum(a[1], b[1])
    hi, error = fast_two_sum(hi, error + lo)
    return fast_two_sum(hi, error + lo_error)


def multiply(a: Pair, b: Pair) -> Pair:
    """Return the product of two double-doubles."""
    product, error = two_product(a[0], b[0])
    return fast_two_sum(product, error + (a[0] * b[1] + a[1] * b[0]))


def divide(a: Pair, b: Pair) -> Pair:
    """Return the quotient of two double-doubles."""
    first = a[0] / b[0]
    rest = add(a, multiply((-first, 0.0 * first), b))
    second = rest[0] / b[0]
    rest = add(rest, multiply((-second, 0.0 * second), b))
    hi, lo = fast_two_sum(first, second)
    return add((hi, lo), (rest[0] / b[0], 0.0 * lo))


def sum_rows(xp: ModuleType, hi: Array, lo: Array) -> Pair:
    """Sum double-doubles of shape (P, C) along the first axis, by a halving tree."""
    if hi.shape[0] == 0:
        zero = xp.sum(hi, axis=0)
        return zero, zero
    while hi.shape[0] > 1:
        num_rows = hi.shape[0]
        half = num_rows // 2
        rest_hi, rest_lo = hi[2 * half :, :], lo[2 * half :, :]
        hi, lo = add((hi[:half, :], lo[:half, :]), (hi[half : 2 * half, :], lo[half : 2 * half, :]))
        if num_rows % 2:
            hi, lo = xp.concat([hi, rest_hi], axis=0), xp.concat([lo, rest_lo], axis=0)
    return hi[0, :], lo[0, :]


def _split(a: Array) -> Pair:
    """Split a float64 into two halves of 26 bits (Veltkamp)."""
    scaled = _SPLITTER * a
    hi = scaled - (scaled - a)
    return hi, a - hi
