"""Moments in exact rational arithmetic, and errors counted in units in the last place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import SupportsFloat

import numpy as np

from normcore.layout.namespace import Array

__all__ = ["ExactMoments", "exact_moments", "exact_sqrt", "ulp_error"]


@dataclass(frozen=True)
class ExactMoments:
    """Count (sum of weights), mean and sum of squared deviations, without any rounding."""

    count: Fraction
    mean: Fraction
    m2: Fraction

    def var(self, ddof: int = 0) -> Fraction:
        """Return the variance."""
        return self.m2 / (self.count - ddof)


def exact_moments(column: Array, weights: Array = None) -> ExactMoments | None:
    """Return the moments of the stored values of a column, or None if it has no values.

    Parameters
    ----------
    column : array of any shape
        Finite values and NaN, which is left out.
    weights : array of the same number of elements, optional
        Values of weight 0 are left out.

    Examples
    --------
    >>> from normcore.testing import exact_moments
    >>> exact_moments([1.0, 3.0, 8.0]).mean
    Fraction(4, 1)
    """
    values = np.asarray(column).reshape(-1)
    plane = np.ones(values.size) if weights is None else np.asarray(weights).reshape(-1)
    valid = (plane > 0) & ~np.isnan(values)
    if not valid.any():
        return None
    v, unit = _integers(values[valid])
    w, weight_unit = _integers(plane[valid].astype(np.float64))
    count = sum(w)
    first = sum(weight * value for weight, value in zip(w, v, strict=True))
    second = sum(weight * value * value for weight, value in zip(w, v, strict=True))
    return ExactMoments(
        Fraction(count, weight_unit),
        Fraction(first, count * unit),
        Fraction(second * count - first * first, count * weight_unit * unit * unit),
    )


def _integers(values: np.ndarray) -> tuple[list[int], int]:
    """Return whole numbers and the common denominator under which they are the values."""
    ratios = [value.as_integer_ratio() for value in values.tolist()]
    unit = max(denominator for _, denominator in ratios)  # powers of two
    return [numerator * (unit // denominator) for numerator, denominator in ratios], unit


def exact_sqrt(value: Fraction, bits: int = 200) -> Fraction:
    """Return a square root that is right to about ``bits`` bits."""
    if value == 0:
        return Fraction(0)
    scale = bits + max(0, value.denominator.bit_length() - value.numerator.bit_length())
    shifted = (value.numerator << (2 * scale)) // value.denominator
    return Fraction(math.isqrt(shifted), 1 << scale)


def ulp_error(value: SupportsFloat, exact: Fraction) -> float:
    """Return how far ``value`` lies from ``exact``, in units in the last place of ``exact``.

    Infinite if ``value`` is not finite, or if it is not infinite where ``exact`` exceeds float64.

    Parameters
    ----------
    value : float
        Or what becomes one.
    exact : Fraction

    Examples
    --------
    >>> from fractions import Fraction
    >>> from normcore.testing import ulp_error
    >>> ulp_error(1.0 + 2.0**-52, Fraction(1))
    1.0
    """
    number = float(value)
    try:
        unit = math.ulp(float(exact))
    except OverflowError:
        return 0.0 if number == (math.inf if exact > 0 else -math.inf) else math.inf
    if not math.isfinite(number):
        return math.inf
    return float(abs(Fraction(number) - exact) / Fraction(unit))
