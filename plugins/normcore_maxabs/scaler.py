"""MaxAbsScaler, which divides each feature by its largest absolute value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

import normcore as nc

__all__ = ["MaxAbsScaler"]


class MaxAbsScaler(nc.AffineScaler):
    """Divide each feature by its largest absolute value.

    Nothing is shifted, so zeros stay zero. NaN is skipped in fit and kept in transform.

    Parameters
    ----------
    copy : bool, default=True
        With False, ``transform`` works in place where it can.
    clip : bool, default=False
        Clip new data to [-1, 1].
    backend : str or Backend, optional
        Where to compute; by default the input decides.
    axis : "columns", int, tuple of int or None, default="columns"
        The axes whose positions have statistics of their own, of arrays of any number of
        dimensions; None makes everything one feature. By default ``X`` is a table.

    Attributes
    ----------
    max_abs_ : ndarray of shape (n_features,)
        Largest absolute value of each feature.
    scale_ : ndarray of shape (n_features,)
        The same, with 1 for a feature that is zero throughout.
    n_samples_seen_ : int
        Number of rows seen.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.MaxAbsScaler().fit_transform([[-4.0], [0.0], [2.0]])
    array([[-1. ],
           [ 0. ],
           [ 0.5]])
    """

    statistic = nc.Extrema
    sklearn_class = "sklearn.preprocessing.MaxAbsScaler"
    clip: bool = False
    keeps_zero = True

    def __init__(
        self,
        *,
        copy: bool = True,
        clip: bool = False,
        backend: str | nc.Backend | None = None,
        axis: Any = "columns",
    ) -> None:
        self.copy = copy
        self.clip = clip
        self.backend = backend
        self.axis = axis

    def bounds(self) -> tuple[float, float]:
        """Return [-1, 1]."""
        return -1.0, 1.0

    def affine(self, extrema: nc.Extrema) -> nc.Affine:
        """Return the map, and set the fitted attributes.

        Parameters
        ----------
        extrema : Extrema
            What :meth:`observe` returned, or several of it merged, on the host.
        """
        self.max_abs_ = np.maximum(-extrema.min, extrema.max)
        return nc.Affine(scale=self.max_abs_)

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a scaler of the largest absolute values that scikit-learn's has learned.

        Parameters
        ----------
        estimator, **params
            As for :meth:`normcore.AffineScaler.from_sklearn`.
        """
        most = np.asarray(estimator.max_abs_, dtype=np.float64)
        rows, empty = int(estimator.n_samples_seen_), np.isnan(most)
        least, largest = np.where(empty, np.inf, -most), np.where(empty, -np.inf, most)
        made = cls(**params).fit_statistic(
            nc.Extrema(np.where(empty, 0.0, rows), least, largest),
            rows,
            len(most),
            getattr(estimator, "feature_names_in_", None),
        )
        if not np.array_equal(made.scale_, estimator.scale_, equal_nan=True):  # next to zero
            made.scale_ = estimator.scale_
        return made

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of scikit-learn's scaler."""
        names = ("max_abs_", "scale_", "n_samples_seen_")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}
