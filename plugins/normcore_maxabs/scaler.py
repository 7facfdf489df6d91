"""MaxAbsScaler, which divides each feature by its largest absolute value, and its function."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc

__all__ = ["MaxAbsScaler", "maxabs_scale"]


class MaxAbsScaler(nc.AffineScaler):
    """Divide each feature by its largest absolute value.

    Nothing is shifted, so zeros stay zero. NaN is skipped in fit and kept in transform.

    Parameters
    ----------
    copy : bool, default=True
        With False, ``transform`` works in place where it can.
    backend : str or Backend, optional
        Where to compute; by default the input decides.

    Attributes
    ----------
    max_abs_ : ndarray of shape (n_features,)
        Largest absolute value of each feature.
    scale_ : ndarray of shape (n_features,)
        The same, with 1 for a feature that is zero throughout.
    n_samples_seen_ : int
        Number of rows seen.
    """

    statistic = nc.Extrema
    keeps_zero = True

    def affine(self, extrema: nc.Extrema) -> nc.Affine:
        """Return the map, and set the fitted attributes."""
        self.max_abs_ = np.maximum(-extrema.min, extrema.max)
        return nc.Affine(scale=self.max_abs_)


def maxabs_scale(X: Any, *, axis: int = 0, copy: bool = True) -> Any:
    """Divide each feature by its largest absolute value, without keeping a scaler.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The data.
    axis : {0, 1}
        With 0 each column is scaled, with 1 each row.
    copy : bool
        With False, ``X`` is overwritten where it can be.

    Returns
    -------
    array of the shape and kind of X

    Raises
    ------
    ValueError
        If ``axis`` is not 0 or 1, or ``X`` cannot be fitted.
    """
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 or 1, not {axis!r}")
    scaler = MaxAbsScaler(copy=copy)
    return scaler.fit_transform(X) if axis == 0 else scaler.fit_transform(np.asarray(X).T).T
