"""The maps of power transforms in terms of the array API, for arrays that are not NumPy's.

They are those of the compiled ones, :mod:`normcore_power.curve`, with logarithms of one float64.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["forward", "inverse"]


def forward(xp: ModuleType, x: Any, parameters: np.ndarray, plus_one: bool) -> Any:
    """Return the map of each value; see :func:`normcore_power.curve.forward`."""
    sign, power, other, unit, mean, scale, logarithm = _vectors(xp, x, parameters, plus_one)
    u = sign * x
    if not plus_one:
        return (_power_of(xp, xp.log(u) - logarithm, power) / unit - mean) / scale
    near = _power_of(xp, xp.log1p(xp.where(u > 0, u, 0 * u)) - logarithm, power) / unit
    far = _power_of(xp, xp.log1p(xp.where(u < 0, -u, 0 * u)), other) / unit
    value = xp.where(u < 0, near - far * xp.exp(-power * logarithm), near)
    return sign * ((value - mean) / scale)


def inverse(xp: ModuleType, x: Any, parameters: np.ndarray, plus_one: bool) -> Any:
    """Return what :func:`forward` maps to each value, NaN where that is nothing."""
    sign, power, other, unit, mean, scale, logarithm = _vectors(xp, x, parameters, plus_one)
    value = sign * x * scale + mean
    near = _logarithm_of(xp, value * unit, power) + logarithm
    if not plus_one:
        return xp.exp(near)
    rest = _power_of(xp, -logarithm, power) - value * unit
    far = _logarithm_of(xp, rest * xp.exp(power * logarithm), other)
    return sign * xp.where(rest > 0, -xp.expm1(far), xp.expm1(near))


def _vectors(xp: ModuleType, x: Any, parameters: np.ndarray, plus_one: bool) -> list[Any]:
    """Return sign, both powers, unit, mean, scale and the origin's logarithm of each feature."""
    power, origin, unit, mean, scale = parameters.T
    sign = np.where(plus_one & (origin < 0), -1.0, 1.0)
    other = np.where(sign < 0, power, 2.0 - power)
    power = np.where(sign < 0, 2.0 - power, power)
    logarithm = np.log1p(np.abs(origin)) if plus_one else np.log(origin)
    vectors = (sign, power, other, unit, mean, scale, logarithm)
    beside = {} if hasattr(x, "get") else {"device": getattr(x, "device", None)}  # not of CuPy
    return [xp.asarray(np.array(each)[None, :], **beside) for each in vectors]


def _power_of(xp: ModuleType, logarithm: Any, power: Any) -> Any:
    safe = xp.where(power == 0, xp.ones_like(power), power)
    return xp.where(power == 0, logarithm, xp.expm1(power * logarithm) / safe)


def _logarithm_of(xp: ModuleType, value: Any, power: Any) -> Any:
    safe = xp.where(power == 0, xp.ones_like(power), power)
    t = power * value
    good = t > -1
    found = xp.log1p(xp.where(good, t, 0 * t)) / safe
    found = xp.where(power == 0, value, found)
    return xp.where(good | (power == 0), found, xp.full_like(t, float("nan")))
