"""WeightedScaler, the part of a scaler that takes a weight for each sample."""

from __future__ import annotations

from typing import Self

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.merging import where_mergeable
from normcore.scaling.scaler import Scaler

__all__ = ["WeightedScaler"]


class WeightedScaler(Scaler):
    """Base, beside another, of scalers whose statistic carries weights.

    ``fit`` and ``partial_fit`` take ``sample_weight``, checked, and hand them to ``observe``.

    Parameters
    ----------
    copy, backend, axis
        As for :class:`normcore.StandardScaler`.

    Examples
    --------
    >>> import normcore as nc
    >>> class MeanRemover(nc.WeightedScaler, nc.AffineScaler):
    ...     statistic = nc.Moments
    ...
    ...     def affine(self, moments):
    ...         return nc.Affine(center=moments.mean)
    >>> scaler = MeanRemover().fit([[0.0], [3.0]], sample_weight=[2, 1])
    >>> scaler.transform([[1.0]])
    array([[0.]])
    """

    __module__ = "normcore"

    def fit(
        self, X: Array, y: Array = None, sample_weight: Array = None, *, where: Array = None
    ) -> Self:
        """Learn from ``X``; what was learned before is forgotten.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            Or an array of any shape that has the axes of ``axis``. NaN is skipped.
        y : None
            Ignored.
        sample_weight : number or array-like of shape (n_samples,), optional
            Finite and not negative; for each index of the first axis. Scalers of quantiles take
            whole numbers for how often a row is repeated. With others, a quantile is the first
            value at which the cumulated weight, an exact sum, reaches it but for a share of
            ``2**-44``, which roundings of weights and quantiles stay below: NumPy's
            ``inverted_cdf``. 1 is the maximum. A sketch does not take such.
        where : array of bool, optional
            Of a shape that broadcasts to that of ``X``: elements where it is False are skipped,
            whatever they hold.

        Raises
        ------
        ValueError
            If ``X`` is not two-dimensional or lacks an axis of ``axis``, is empty, or holds
            infinity, text or complex numbers; if the weights have another length, are all zero, or
            are negative, NaN or infinite; if ``where`` has another shape or hides all of ``X``; if
            ``X`` is sparse and to be centered. The scaler then stays as it was.
        TypeError
            If ``X`` holds objects that are not numbers, or is sparse and the scaler does not keep
            zero.
        """
        return self._fit(X, sample_weight, anew=True, where=where, y=y)

    @where_mergeable
    def partial_fit(
        self, X: Array, y: Array = None, sample_weight: Array = None, *, where: Array = None
    ) -> Self:
        """Learn from ``X`` too: as a fit to all that was seen so far, together with ``X``.

        Parameters and errors are those of :meth:`fit`; other features than before are a
        ValueError.
        """
        return self._fit(X, sample_weight, anew=False, where=where, y=y)

    @staticmethod
    def checked_weights(sample_weight: Array, num_samples: int) -> np.ndarray:
        """Return one weight for each sample, in float64: for those who look at a table themselves.

        Parameters
        ----------
        sample_weight : array of shape (n_samples,)
            As for :meth:`fit`.
        num_samples : int
            How many samples the table has.

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`.
        """
        return input_validation.host_weights(sample_weight, num_samples)
