"""bfloat16, which NumPy does not have: how it is recognized, and its conversions.

ml_dtypes gives NumPy a dtype of this name; memory of other libraries is viewed as
:data:`~normcore.layout.namespace.BFLOAT16`. Kernels read and write both.
"""

from __future__ import annotations

import sys

import numpy as np

from normcore.layout.namespace import BFLOAT16, Array, DType, array_namespace, is_on_host

__all__ = ["cast", "holds_bfloat16", "is_bfloat16", "is_floating", "is_real", "rounded", "widened"]


def is_bfloat16(dtype: np.dtype) -> bool:
    """Whether a dtype of NumPy's is bfloat16."""
    return dtype.kind == "V" and (dtype == BFLOAT16 or dtype.name == "bfloat16")


def holds_bfloat16(X: Array) -> bool:
    """Whether ``X`` is an array on the host, of ml_dtypes or of PyTorch, that holds bfloat16."""
    dtype = getattr(X, "dtype", None)
    if isinstance(X, np.ndarray):
        return is_bfloat16(X.dtype)
    return dtype is not None and str(dtype) == "torch.bfloat16" and is_on_host(X)


def is_floating(dtype: np.dtype) -> bool:
    """Whether a dtype of NumPy's is a real float, bfloat16 included."""
    return dtype.kind == "f" or is_bfloat16(dtype)


def is_real(dtype: np.dtype) -> bool:
    """Whether a dtype of NumPy's is one of real numbers: a float, integer or bool."""
    return dtype.kind in "fiub" or is_bfloat16(dtype)


def cast(array: Array, dtype: DType) -> Array:
    """Return an array of another dtype, a copy; each element is rounded once."""
    if not isinstance(array, np.ndarray):
        return array_namespace(array).astype(array, dtype)
    dtype = np.dtype(dtype)
    if is_bfloat16(array.dtype):
        if is_bfloat16(dtype):
            return array.view(dtype).copy()
        array = _as_float32(array)
    with np.errstate(all="ignore"):
        if is_bfloat16(dtype):
            return _rounded(array.astype(np.float64)).view(dtype)
        return array.astype(dtype)


def widened(array: Array) -> Array:
    """Return an array in float64 where it is of bfloat16, of any library; others as they are."""
    if isinstance(array, np.ndarray):
        return cast(array, np.float64) if is_bfloat16(array.dtype) else array
    if not str(array.dtype).endswith("bfloat16"):
        return array
    return cast(array, array_namespace(array).float64)


def rounded(values: Array, like: Array) -> Array:
    """Return float64 values rounded once to bfloat16, as an array on the host of some kind."""
    if isinstance(like, np.ndarray):
        return cast(values, like.dtype)
    torch = sys.modules["torch"]  # whose own conversion rounds to float32 first
    return torch.from_numpy(cast(values.numpy(), BFLOAT16).view(np.int16)).view(torch.bfloat16)


def _as_float32(array: np.ndarray) -> np.ndarray:
    """Return an array of bfloat16 as float32, of which it is the upper half."""
    return (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return float64 rounded to the nearest bfloat16, ties to even, as its bits.

    By way of float32, rounded to odd: its last bit then says whether anything was lost, so that
    the second rounding is as if it were the only one.

    References
    ----------
    S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms
    using rounding to odd", IEEE Transactions on Computers 57 (2008).
    """
    narrow = values.astype(np.float32)
    back = narrow.astype(np.float64)
    bits = narrow.view(np.uint32)
    bits -= np.abs(back) > np.abs(values)  # towards zero
    missing = np.isnan(values)
    bits |= (back != values) & ~missing
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(missing, bits >> 16 | 0x40, rounded).astype(np.uint16)
