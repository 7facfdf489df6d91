"""Bounds of results, as values of the dtype that results are rounded to."""

from __future__ import annotations

import numpy as np

from normcore.layout.namespace import Array
from normcore.layout.out_argument import result_dtype

__all__ = ["NARROW", "narrow_dtype", "representable"]

# Results of these dtypes are rounded once more; the ends of their range must survive that.
NARROW = (np.dtype(np.float32), np.dtype(np.float16))
_BY_NAME = {dtype.name: dtype for dtype in NARROW}


def narrow_dtype(x: Array) -> np.dtype | None:
    """Return NumPy's dtype of the results of ``x`` where that is narrower than float64."""
    dtype = result_dtype(x)
    if isinstance(dtype, np.dtype):
        return dtype if dtype in NARROW else None
    return _BY_NAME.get(str(dtype).rpartition(".")[2])  # of a library with dtypes of its own


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
