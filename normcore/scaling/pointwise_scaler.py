"""PointwiseScaler, the base of scalers that map each value by a function and its inverse."""

from __future__ import annotations

from abc import abstractmethod
from types import ModuleType
from typing import Any

import numpy as np

from normcore.array_backend.abstract import Backend, InfiniteInput
from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace
from normcore.scaling import input_validation
from normcore.scaling.scaler import Scaler
from normcore.statistics import Statistic

__all__ = ["PointwiseScaler"]


class PointwiseScaler(Scaler):
    """Base of scalers that map each value by a function with an inverse.

    A subclass gives :meth:`forward` and :meth:`inverse` in terms of the array-API namespace
    ``xp``. It may name a :attr:`statistic` too, and take what they need from it in
    :meth:`prepare`. Values are float64 within, rounded once to the dtype of the input.
    """

    __module__ = "normcore"

    @abstractmethod
    def forward(self, xp: ModuleType, x: Array) -> Array:
        """Return the map of ``x``, a float64 array of shape (n_samples, n_features)."""

    @abstractmethod
    def inverse(self, xp: ModuleType, x: Array) -> Array:
        """Return what :meth:`forward` maps to ``x``."""

    def prepare(self, statistic: Any) -> None:
        """Set fitted attributes from the statistic, in NumPy."""

    def _prepare(self, statistic: Statistic | None) -> None:
        self.prepare(statistic)

    def _map(self, backend: Backend, x: Array, out: Array, inverse: bool) -> Array:
        xp = array_namespace(x)
        dtype = out_argument.result_dtype(x)
        if out is not None:
            out_argument.check_out(out, x)
        if input_validation.first_infinity(x, xp) is not None:
            raise InfiniteInput
        function = self.inverse if inverse else self.forward
        result = _cast(function(xp, _cast(x, xp.float64, xp)), dtype, xp)
        if out is None:
            return result
        out[...] = result
        return out


def _cast(x: Array, dtype: Any, xp: ModuleType) -> Array:
    if x.dtype == dtype:
        return x
    return x.astype(dtype) if isinstance(x, np.ndarray) else xp.astype(x, dtype)
