"""Columns divided by sums of what is in them: an affine scaler, as norms follow from moments."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc

__all__ = ["ColumnNormalizer"]

BLOCK_ROWS = 4096


class ColumnNormalizer(nc.AffineScaler):
    """Divide each feature by its norm.

    Parameters
    ----------
    norm : {"l1", "l2"}
    copy : bool

    Attributes
    ----------
    norms_ : float64 array of shape (n_features,)
        1 for a feature of zeros.
    """

    statistic = nc.Moments

    def __init__(self, norm: str = "l2", *, copy: bool = True) -> None:
        self.norm = norm
        self.copy = copy

    def observe(self, backend: nc.Backend, x: Any, *, weights: Any = None) -> nc.Moments:
        """Return the moments of a view; where the norm is the sum of them, of absolute values."""
        if self.norm != "l1":
            return backend.moments(x, weights=weights, skipna=True)
        moments = nc.Moments.empty(x.shape[1])
        for start in range(0, x.shape[0], BLOCK_ROWS):
            block = abs(x[start : start + BLOCK_ROWS, :, :])
            moments = moments.merge(backend.moments(block, skipna=True))
        return moments

    def affine(self, moments: nc.Moments) -> nc.Affine:
        """Return the map, and set the norms."""
        if self.norm == "l1":
            norms = moments.mean * moments.count
        else:  # not the root of a sum of squares, which would overflow
            norms = np.hypot(moments.std(), moments.mean) * np.sqrt(moments.count)
        self.norms_ = np.where(norms == 0, 1.0, norms)
        return nc.Affine(scale=self.norms_)
