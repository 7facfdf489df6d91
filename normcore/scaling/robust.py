"""RobustScaler: each feature centered by its median and scaled by a range of quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from statistics import NormalDist
from typing import Any, ClassVar, Self

import numpy as np

from normcore.affine import Affine, nonconstant
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.affine_scaler import AffineScaler
from normcore.scaling.feature_axes import COLUMNS, Axis
from normcore.scaling.finite_maps import spread
from normcore.scaling.known_statistics import KnownStatistics
from normcore.scaling.quantile_learner import QuantileLearner
from normcore.statistics import MergeableQuantiles, Statistic

__all__ = ["RobustScaler"]


class RobustScaler(QuantileLearner, AffineScaler):
    """Subtract the median of each feature and divide by its range between two quantiles.

    Parameters
    ----------
    with_centering : bool, default=True
        Subtract the median.
    with_scaling : bool, default=True
        Divide by the range between the quantiles.
    quantile_range : (q_min, q_max), default=(25.0, 75.0)
        Percentages, ``0 <= q_min <= q_max <= 100``; the default is the interquartile range.
    copy : bool, default=True
        False writes the result into the input where that is a writable float array.
    unit_variance : bool, default=False
        Divide the scale by the same range of the standard normal distribution, so that normally
        distributed features get unit variance.
    backend : str or Backend, optional
        The backend to use whatever the data; by default the one that fits it.
    axis : "columns", int, tuple of int or None, default="columns"
        The axes whose positions have statistics of their own, of arrays of any number of
        dimensions; None makes everything one feature. By default ``X`` is a table.
    quantiles : {"exact", "sketch"}, default="exact"
        "sketch" finds quantiles within a rank error and in bounded memory, from a
        :class:`normcore.QuantileSketch`; ``partial_fit``, ``merge`` and files larger than memory
        then go on from it.
    quantile_error : float, default=0.01
        Rank error of the sketch, as a fraction of the number of values, for each quantile with 99%
        confidence.
    keep_sketch : bool, default=False
        Keep a sketch beside exact quantiles, so that ``partial_fit`` and ``merge`` go on from the
        fit, approximately.

    Attributes
    ----------
    center_ : float64 array of shape (n_features,) or None
        Median of each feature, NaN left out; None where ``with_centering=False``.
    scale_ : float64 array of shape (n_features,) or None
        Range between the quantiles, or 1 for a constant feature: one whose range is at most
        ``8 * eps`` of the quantiles' magnitude. ``unit_variance`` divides either. None where
        ``with_scaling=False``.
    quantile_error_ : float
        The rank error that the quantiles have at most: 0 where they are exact, which those of a
        sketch are, too, of fewer values than it keeps.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
    feature_names_in_ : array of str of shape (n_features,)
        Where ``X`` named its columns.

    Notes
    -----
    Quantiles are interpolated linearly between neighbours as in :func:`numpy.quantile`.
    Integers beyond 2**53 are rounded to float64, and refused where that matters: where the scale
    is below ``2**-26`` of the center, so that more than half the digits would be lost.
    Unless ``keep_sketch``, an exact fit keeps no sketch of the data, so there is no
    ``partial_fit``, and ``merge`` refuses.

    Examples
    --------
    >>> import normcore as nc
    >>> scaler = nc.RobustScaler().fit([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    >>> scaler.center_, scaler.scale_
    (array([2.]), array([2.]))
    """

    __module__ = "normcore"

    sklearn_class = "sklearn.preprocessing.RobustScaler"
    coefficients: ClassVar[Mapping[str, str]] = {"center_": "center", "scale_": "scale"}
    switches: ClassVar[Mapping[str, str]] = {"center_": "with_centering", "scale_": "with_scaling"}

    center_: Array
    scale_: Array

    _statistic: MergeableQuantiles

    def __init__(
        self,
        *,
        with_centering: bool = True,
        with_scaling: bool = True,
        quantile_range: tuple[float, float] = (25.0, 75.0),
        copy: bool = True,
        unit_variance: bool = False,
        backend: str | Backend | None = None,
        axis: Axis = COLUMNS,
        quantiles: str = "exact",
        quantile_error: float = 0.01,
        keep_sketch: bool = False,
    ) -> None:
        self.with_centering = with_centering
        self.with_scaling = with_scaling
        self.quantile_range = quantile_range
        self.copy = copy
        self.unit_variance = unit_variance
        self.backend = backend
        self.axis = axis
        self.quantiles = quantiles
        self.quantile_error = quantile_error
        self.keep_sketch = keep_sketch

    @property
    def keeps_zero(self) -> bool:
        """Whether zero maps to zero: so without centering."""
        return not self.with_centering

    def _check_sparse(self, *, inverse: bool) -> None:
        if self.with_centering:
            raise ValueError(
                f"Cannot {'uncenter' if inverse else 'center'} sparse matrices: use "
                "`with_centering=False` instead. See docstring for motivation and alternatives."
            )

    @classmethod
    def from_statistics(
        cls,
        *,
        center: Array = None,
        scale: Array = None,
        count: Array = None,
        feature_names: Sequence[str] | None = None,
        **params: Any,
    ) -> Self:
        """Return a scaler of a known center and scale; nothing can be added to these.

        Parameters
        ----------
        center, scale : number or array-like of shape (n_features,)
            By which features are centered, and divided; one number stands for all, a scale of 0
            for 1. What ``with_centering=False`` or ``with_scaling=False`` does not use may be left
            out.
        count : number or array-like of shape (n_features,), optional
            How many values these were observed of, for ``n_samples_seen_``.
        feature_names : sequence of str, optional
        **params
            Parameters of the constructor.

        Raises
        ------
        ValueError
            If one that is needed is missing, is infinite, negative, or has another length.
        TypeError
            If something is not a number.
        """
        scaler = cls(**params)
        scaler._check_parameters()
        known = KnownStatistics(
            {"center": center, "scale": scale}, count, feature_names, scaler.axis
        )
        for name, switch in (("center", "with_centering"), ("scale", "with_scaling")):
            if name not in known.numbers and getattr(scaler, switch):
                raise ValueError(f"{name} is needed, unless {switch}=False")
        if "scale" in known.numbers:
            known.refuse_negative("scale")
        given = {f"{name}_": value for name, value in known.numbers.items()}
        if not given:
            raise ValueError("center or scale is needed")
        return scaler._set_known(known, given)

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a scaler of the center and scale of scikit-learn's.

        Parameters
        ----------
        estimator, **params
            As for :meth:`normcore.AffineScaler.from_sklearn`.
        """
        center, scale = estimator.center_, estimator.scale_
        if center is None and scale is None:
            scale = np.ones(estimator.n_features_in_)
        names = getattr(estimator, "feature_names_in_", None)
        return cls.from_statistics(center=center, scale=scale, feature_names=names, **params)

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of scikit-learn's scaler."""
        return {name: getattr(self, name, None) for name in ("center_", "scale_")}

    def check_parameters(self) -> None:
        """Refuse parameters that make no sense."""
        input_validation.check_flags(
            with_centering=self.with_centering,
            with_scaling=self.with_scaling,
            unit_variance=self.unit_variance,
        )
        self.check_quantile_parameters()
        q_min, q_max = _checked_quantiles(self.quantile_range)
        if self.with_scaling and self.unit_variance and not 0 < q_min < q_max < 100:
            raise ValueError(
                "unit_variance needs 0 < q_min < q_max < 100: the normal distribution has no "
                f"finite, positive range at quantile_range={self.quantile_range!r}"
            )

    def ranks(self) -> np.ndarray:
        """Return the two quantiles around the median's 0.5."""
        q_min, q_max = _checked_quantiles(self.quantile_range)
        return np.array([q_min / 100, 0.5, q_max / 100])

    def observe(self, backend: Backend, x: Array, *, weights: Array = None) -> MergeableQuantiles:
        """Return both quantiles and the median of a view, skipping NaN.

        Parameters
        ----------
        backend, x, weights
            As for :meth:`normcore.AffineScaler.observe`.
        """
        return self.observe_quantiles(backend, x, self.ranks(), weights=weights)

    def affine(self, quantiles: MergeableQuantiles) -> Affine:
        """Set the fitted attributes from the quantiles and return the map.

        Parameters
        ----------
        quantiles : MergeableQuantiles
            What :meth:`observe` returned, or several of it merged, on the host.
        """
        low, median, high = quantiles.values
        self.center_ = median if self.with_centering else None
        self.scale_ = None
        scale: Array = 1.0
        unit: Array = 1.0
        if self.with_scaling:
            width, unit = spread(low, high)
            scale = nonconstant(width, np.maximum(np.abs(low), np.abs(high)) / unit)
            if self.unit_variance:
                q_min, q_max = _checked_quantiles(self.quantile_range)
                normal = NormalDist()
                scale /= normal.inv_cdf(q_max / 100) - normal.inv_cdf(q_min / 100)
            with np.errstate(over="ignore"):
                self.scale_ = scale * unit
        return Affine(center=median if self.with_centering else 0.0, scale=scale, gamma=1.0 / unit)

    def _affine_of_attributes(self) -> Affine:
        affine = super()._affine_of_attributes()
        if "scale_" not in self._assigned:
            return affine
        return Affine(center=affine.center, scale=affine.scale, center_low=affine.center_low)

    def _check_statistic(self, statistic: Statistic) -> None:
        q_min, q_max = _checked_quantiles(self.quantile_range)
        assert isinstance(statistic, MergeableQuantiles)
        if not np.array_equal(statistic.q, [q_min / 100, 0.5, q_max / 100]):
            raise ValueError(
                f"the saved quantiles are of ranks {statistic.q}, not of the median and "
                f"quantile_range={self.quantile_range!r}"
            )

    def _check_digits(self, x: Array) -> None:
        # The range between quantiles loses the digits too, whether or not the map is centered.
        location = np.max(np.abs(self._statistic.values), axis=0) if self.with_scaling else 0.0
        self._refuse_rounded(x, np.maximum(location, self._affine.center))


def _checked_quantiles(quantile_range: tuple[float, float]) -> tuple[float, float]:
    try:
        q_min, q_max = quantile_range
    except (TypeError, ValueError):
        raise ValueError(f"quantile_range must be a pair, got {quantile_range!r}") from None
    are_numbers = isinstance(q_min, Real) and isinstance(q_max, Real)
    if not (are_numbers and 0 <= q_min <= q_max <= 100):
        raise ValueError(
            f"Invalid quantile range: {quantile_range!r}. It must hold two percentages, "
            "0 <= q_min <= q_max <= 100."
        )
    return float(q_min), float(q_max)
