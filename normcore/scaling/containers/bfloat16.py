"""Arrays of bfloat16 on the host, of ml_dtypes and of PyTorch, a block of rows at a time.

NumPy's kernels do not read bfloat16. Every value of it is one of float32, whose upper half it is;
results are rounded once, from float64.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.layout.namespace import Array, is_on_host
from normcore.scaling import input_validation
from normcore.scaling.containers.table import PiecewiseTable
from normcore.statistics import Statistic

if TYPE_CHECKING:
    from normcore.scaling.learning import Learning
    from normcore.scaling.transforming import Transforming

__all__ = ["Bfloat16Table", "is_bfloat16", "rounded", "widened"]

# Values in float64 at a time.
_BLOCK = 1 << 18
_INFINITY, _SIGN = 0x7F80, 0x8000


def is_bfloat16(X: Array) -> bool:
    """Whether ``X`` is an array on the host that holds bfloat16."""
    dtype = getattr(X, "dtype", None)
    if isinstance(X, np.ndarray):
        return X.dtype.kind == "V" and X.dtype.name == "bfloat16"
    return dtype is not None and str(dtype) == "torch.bfloat16" and is_on_host(X)


def widened(bits: np.ndarray) -> np.ndarray:
    """Return the bits of bfloat16 as the same numbers in float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    """Return float64 rounded to the nearest bfloat16, ties to even, as its bits.

    By way of float32, rounded to odd: its last bit then says whether anything was lost, so that
    the second rounding is as if it were the only one.

    References
    ----------
    S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms
    using rounding to odd", IEEE Transactions on Computers 57 (2008).
    """
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    back = narrow.astype(np.float64)
    bits = narrow.view(np.uint32)
    bits -= np.abs(back) > np.abs(values)  # towards zero
    bits |= (back != values) & ~np.isnan(values)
    result = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    missing = np.isnan(values)
    if missing.any():
        result[missing] = 0x7FC0
    return result


class Bfloat16Table(PiecewiseTable):
    """A two-dimensional array of bfloat16."""

    kind = "bfloat16"

    def __init__(self, X: Array, owner: str) -> None:
        input_validation.check_shape(X, owner)
        self._table, self._bits = X, _bits_of(X)
        self.names = None
        self.shape = self.num_rows, self._num_columns = self._bits.shape
        if not isinstance(X, np.ndarray):
            self.like = X[:1].double()  # fitted attributes are tensors, then

    def observed(self, scaler: Learning, weights: Array) -> Statistic | None:
        """Return the scaler's statistic; one that does not merge, of some columns at a time."""
        self._refuse_infinity(None)
        if scaler.statistic is None:
            return None
        if weights is not None:
            weights = input_validation.as_weights(weights, self.num_rows)
        if scaler.exact_streaming:
            parts = (
                scaler._observed(
                    widened(self._bits[rows]), None if weights is None else weights[rows], None
                )
                for rows in self._blocks(0)
            )
            return reduce(_merged, parts)
        groups = [
            scaler._observed(widened(self._bits[:, columns]), weights, None)
            for columns in self._blocks(1)
        ]
        return scaler.statistic.side_by_side([each for each in groups if each is not None])

    def mapped(
        self,
        scaler: Transforming,
        inverse: bool,
        copy: bool,
        out: Array,
        chosen: np.ndarray | None,
    ) -> Array:
        """Return the array scaled, in bfloat16."""
        names = scaler.__dict__.get("feature_names_in_")
        self._refuse_infinity(names if names is None or chosen is None else names[chosen])
        if out is None:
            in_place = not copy and self._bits.flags.writeable
            out = self._table if in_place else _empty_like(self._table)
        target = _checked_out(out, self._table)
        for rows in self._blocks(0):
            x = widened(self._bits[rows]).astype(np.float64)
            backend = select_backend(x, scaler.backend)
            scaled = scaler._mapped(backend, x, inverse, True, None, None, chosen)
            target[rows] = rounded(np.asarray(scaled))
        return out

    def _blocks(self, axis: int) -> Iterator[slice]:
        step = max(1, _BLOCK // self._bits.shape[1 - axis])
        for start in range(0, self._bits.shape[axis], step):
            yield slice(start, start + step)

    def _refuse_infinity(self, names: Array) -> None:
        for rows in self._blocks(0):
            infinite = self._bits[rows] & np.uint16(~_SIGN & 0xFFFF) == _INFINITY
            if infinite.any():
                row, column = np.argwhere(infinite)[0].tolist()
                raise input_validation.infinity_error(rows.start + row, column, names)


def _merged(statistic: Statistic | None, other: Statistic | None) -> Statistic | None:
    return None if statistic is None or other is None else statistic.merge(other)


def _bits_of(X: Array) -> np.ndarray:
    """Return the memory of ``X`` as integers."""
    if isinstance(X, np.ndarray):
        native = X if X.dtype.isnative else X.astype(X.dtype.newbyteorder("="))
        return native.view(np.uint16)
    bits: np.ndarray = X.detach().view(sys.modules["torch"].int16).numpy()
    return bits.view(np.uint16)


def _empty_like(X: Array) -> Array:
    if isinstance(X, np.ndarray):
        return np.empty_like(X, dtype=X.dtype.newbyteorder("="), subok=False)
    return sys.modules["torch"].empty_like(X, requires_grad=False)


def _checked_out(out: Array, X: Array) -> np.ndarray:
    """Return the memory of ``out`` as integers.

    Raises
    ------
    TypeError
        If it is no array of bfloat16.
    ValueError
        If it has another shape or is read-only.
    """
    if not is_bfloat16(out):
        kind = getattr(out, "dtype", type(out).__name__)
        raise TypeError(f"out must be an array of bfloat16, as X is, not {kind}")
    if tuple(out.shape) != tuple(X.shape):
        raise ValueError(f"out has shape {tuple(out.shape)}, but the input has {tuple(X.shape)}")
    bits = _bits_of(out)
    if not bits.flags.writeable:
        raise ValueError("out is read-only")
    return bits
