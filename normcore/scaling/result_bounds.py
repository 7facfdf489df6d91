"""Bounds of results, as values of the dtype that results are rounded to."""

from __future__ import annotations

import numpy as np

__all__ = ["NARROW", "representable"]

# Results of these dtypes are rounded once more; the ends of their range must survive that.
NARROW = (np.dtype(np.float32), np.dtype(np.float16))


def representable(lo: float, hi: float, dtype: np.dtype) -> tuple[float, float]:
    """Return the widest range inside [lo, hi] whose ends are values of ``dtype``."""
    with np.errstate(over="ignore"):
        low, high = np.asarray(lo, dtype=dtype)[()], np.asarray(hi, dtype=dtype)[()]
    if float(low) < lo:
        low = np.nextafter(low, np.asarray(np.inf, dtype=dtype)[()])
    if float(high) > hi:
        high = np.nextafter(high, np.asarray(-np.inf, dtype=dtype)[()])
    if not low < high:  # the dtype has no two values there
        return lo, hi
    return float(low), float(high)
