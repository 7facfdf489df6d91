"""Arrays of bfloat16 on the host, of ml_dtypes and of PyTorch.

Kernels read them. Maps are of float64, a block of rows at a time, and rounded once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.layout.bfloat16 import cast, holds_bfloat16
from normcore.layout.namespace import Array, host_view
from normcore.scaling import input_validation
from normcore.scaling.containers.table import PiecewiseTable
from normcore.statistics import Extrema, Moments, Statistic

if TYPE_CHECKING:
    from normcore.scaling.learning import Learning
    from normcore.scaling.transforming import Transforming

__all__ = ["Bfloat16Table"]

# Values in float64 at a time.
_BLOCK = 1 << 18
_INFINITY, _SIGN = 0x7F80, 0x8000


class Bfloat16Table(PiecewiseTable):
    """A two-dimensional array of bfloat16."""

    kind = "bfloat16"

    def __init__(self, X: Array, owner: str) -> None:
        input_validation.check_shape(X, owner)
        self._table, self._memory = X, _memory_of(X)
        self.names = None
        self.shape = self.num_rows, self._num_columns = self._memory.shape
        if not isinstance(X, np.ndarray):
            self.like = X[:1].double()  # fitted attributes are tensors, then

    def observed(self, scaler: Learning, weights: Array) -> Statistic | None:
        """Return the scaler's statistic; what is no kernel's, of some columns at a time."""
        if weights is not None:
            weights = input_validation.host_weights(weights, self.num_rows, of_all=self.is_whole)
        self._refuse_infinity(None, weights)
        if scaler.statistic is None:
            return None
        if scaler._observes_values and scaler.statistic in (Moments, Extrema):
            return scaler._observed(self._memory, weights, None)
        groups = [
            scaler._observed(cast(self._memory[:, columns], np.float32), weights, None)
            for columns in _blocks(self._num_columns, self.num_rows)
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
            in_place = not copy and self._memory.flags.writeable
            out = self._table if in_place else _empty_like(self._table)
        target = _checked_out(out, self._table)
        for rows in _blocks(self.num_rows, self._num_columns):
            x = cast(self._memory[rows], np.float64)
            backend = select_backend(x, scaler.backend)
            scaled = scaler._mapped(backend, x, inverse, True, None, None, chosen)
            target[rows] = cast(np.asarray(scaled), target.dtype)
        return out

    def _refuse_infinity(self, names: Array, weights: np.ndarray | None = None) -> None:
        bits = self._memory.view(np.uint16)
        for rows in _blocks(self.num_rows, self._num_columns):
            infinite = bits[rows] & np.uint16(~_SIGN & 0xFFFF) == _INFINITY
            if weights is not None:
                infinite &= weights[rows, None] > 0
            if infinite.any():
                row, column = np.argwhere(infinite)[0].tolist()
                raise input_validation.infinity_error(rows.start + row, column, names)


def _memory_of(X: Array) -> np.ndarray:
    """Return the memory of ``X`` as NumPy's."""
    return X if isinstance(X, np.ndarray) else host_view(X.detach())


def _blocks(size: int, other: int) -> Iterator[slice]:
    """Split an axis beside another one."""
    step = max(1, _BLOCK // other)
    for start in range(0, size, step):
        yield slice(start, start + step)


def _empty_like(X: Array) -> Array:
    if isinstance(X, np.ndarray):
        return np.empty_like(X, subok=False)
    return sys.modules["torch"].empty_like(X, requires_grad=False)


def _checked_out(out: Array, X: Array) -> np.ndarray:
    """Return the memory of ``out`` as NumPy's.

    Raises
    ------
    TypeError
        If it is no array of bfloat16.
    ValueError
        If it has another shape or is read-only.
    """
    if not holds_bfloat16(out):
        kind = getattr(out, "dtype", type(out).__name__)
        raise TypeError(f"out must be an array of bfloat16, as X is, not {kind}")
    if tuple(out.shape) != tuple(X.shape):
        raise ValueError(f"out has shape {tuple(out.shape)}, but the input has {tuple(X.shape)}")
    memory = _memory_of(out)
    if not memory.flags.writeable:
        raise ValueError("out is read-only")
    return memory
