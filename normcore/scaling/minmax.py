"""MinMaxScaler: each feature mapped to a given range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from normcore.affine import Affine, nonconstant
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import as_float
from normcore.scaling import input_validation
from normcore.scaling.affine_scaler import AffineScaler
from normcore.scaling.feature_axes import COLUMNS, Axis
from normcore.scaling.finite_maps import finite, spread
from normcore.scaling.known_statistics import KnownStatistics, known_extrema
from normcore.scaling.result_bounds import NARROW, narrow_dtype, representable
from normcore.statistics import Extrema

__all__ = ["MinMaxScaler"]


class MinMaxScaler(AffineScaler):
    """Scale each feature to a range: ``(x - min) / (max - min) * (hi - lo) + lo``.

    Parameters
    ----------
    feature_range : (lo, hi), default=(0, 1)
        Two finite numbers, ``lo < hi``.
    copy : bool, default=True
        False writes the result into the input where that is a writable float array.
    clip : bool, default=False
        Clip new data to the range.
    backend : str or Backend, optional
        The backend to use whatever the data; by default the one that fits it.
    axis : "columns", int, tuple of int or None, default="columns"
        The axes whose positions have statistics of their own, of arrays of any number of
        dimensions; None makes everything one feature. By default ``X`` is a table.

    Attributes
    ----------
    data_min_, data_max_, data_range_ : float64 arrays of shape (n_features,)
        Extrema of each feature, NaN left out, and their difference, which may overflow where the
        map does not.
    scale_, min_ : float64 arrays of shape (n_features,)
        The map as ``x * scale_ + min_``. The scaler itself works with the extrema, until one of
        the two is assigned: then the map is this one, and ``partial_fit`` and ``merge`` refuse.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
    feature_names_in_ : array of str of shape (n_features,)
        Where ``X`` named its columns.

    Notes
    -----
    The training data itself stays inside the range exactly, after rounding to its dtype too:
    where an end has no exact value in the dtype, the nearest one inside the range takes its
    place (unless the dtype has less than two values there). With (0, 1) both ends are attained.
    Integers beyond 2**53 are rounded to float64, and refused where that matters: where the scale
    is below ``2**-26`` of the center, so that more than half the digits would be lost.
    A constant feature, whose range is at most ``8 * eps`` of its magnitude, is not divided by
    its range.

    Examples
    --------
    >>> import normcore as nc
    >>> scaler = nc.MinMaxScaler(feature_range=(-1, 1)).fit([[0.0], [4.0]])
    >>> scaler.transform([[1.0], [4.0]])
    array([[-0.5],
           [ 1. ]])
    """

    __module__ = "normcore"

    statistic = Extrema
    clip: bool = False
    sklearn_class = "sklearn.preprocessing.MinMaxScaler"
    coefficients: ClassVar[Mapping[str, str]] = {"scale_": "gamma", "min_": "beta"}

    scale_: Array
    min_: Array

    _narrow: Mapping[np.dtype | None, Affine] = {}

    def __init__(
        self,
        feature_range: tuple[float, float] = (0, 1),
        *,
        copy: bool = True,
        clip: bool = False,
        backend: str | Backend | None = None,
        axis: Axis = COLUMNS,
    ) -> None:
        self.feature_range = feature_range
        self.copy = copy
        self.clip = clip
        self.backend = backend
        self.axis = axis

    def _check_sparse(self, *, inverse: bool) -> None:
        raise TypeError(
            "MinMaxScaler does not support sparse input. Consider using MaxAbsScaler instead."
        )

    @classmethod
    def from_statistics(
        cls,
        *,
        min: Array,
        max: Array,
        count: Array = None,
        feature_names: Sequence[str] | None = None,
        **params: Any,
    ) -> Self:
        """Return a scaler of extrema that are known, as if it had been fitted to their data.

        Parameters
        ----------
        min, max : number or array-like of shape (n_features,)
            Of each feature; one number stands for all. None or NaN for a feature without values.
        count : number or array-like of shape (n_features,), optional
            How many values these were observed of. Without it nothing can be added:
            ``partial_fit`` and ``merge`` refuse.
        feature_names : sequence of str, optional
        **params
            Parameters of the constructor.

        Raises
        ------
        ValueError
            If one is infinite or has another length, or ``max`` is below ``min``.
        TypeError
            If something is not a number.
        """
        scaler = cls(**params)
        scaler._check_parameters()
        known = KnownStatistics({"min": min, "max": max}, count, feature_names, scaler.axis)
        for name in ("min", "max"):
            if name not in known.numbers:
                raise ValueError(f"{name} is needed")
        extrema = known_extrema(known)
        return scaler._learn(
            extrema, known.num_rows, known.num_features, known.names, known.features
        )

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a scaler of what scikit-learn's has learned, constant features included.

        It goes on with ``partial_fit`` where they are constant by the rule of this class.

        Parameters
        ----------
        estimator, **params
            As for :meth:`normcore.AffineScaler.from_sklearn`.
        """
        made = cls.from_statistics(
            min=estimator.data_min_,
            max=estimator.data_max_,
            count=estimator.n_samples_seen_,
            feature_names=getattr(estimator, "feature_names_in_", None),
            **params,
        )
        if not input_validation.same_numbers(made.scale_, estimator.scale_):
            made.scale_, made.min_ = estimator.scale_, estimator.min_
        return made

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of scikit-learn's scaler."""
        names = ("data_min_", "data_max_", "data_range_", "scale_", "min_", "n_samples_seen_")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def check_parameters(self) -> None:
        """Refuse a range that is none."""
        _checked_range(self.feature_range)

    def affine(self, extrema: Extrema) -> Affine:
        """Set the fitted attributes from the extrema and return the map.

        Parameters
        ----------
        extrema : Extrema
            What :meth:`observe` returned, or several of it merged, on the host.
        """
        lo, hi = _checked_range(self.feature_range)
        self.data_min_, self.data_max_ = extrema.min, extrema.max
        width, unit = spread(self.data_min_, self.data_max_)
        magnitude = np.maximum(np.abs(self.data_min_), np.abs(self.data_max_)) / unit
        # Next to 1e16 even the noise of a constant exceeds 1, and would leave the range.
        divisor = np.maximum(nonconstant(width, magnitude), width)
        with np.errstate(over="ignore", invalid="ignore"):
            self.data_range_ = width * unit
            self.scale_ = (hi - lo) / unit / divisor
            self.min_ = lo - self.data_min_ * self.scale_
        affine = _inside(lo, hi, self.data_min_, divisor, unit)
        self._narrow = {
            dtype: finite(
                _inside(*representable(lo, hi, dtype), self.data_min_, divisor, unit),
                self.n_features_in_,
            )
            for dtype in NARROW
        }
        return affine

    def _affine_of_attributes(self) -> Affine:
        # As scikit-learn computes: x * scale_ + min_. The extrema are not known any more.
        return Affine(gamma=self._numbers("scale_"), beta=self._numbers("min_"))

    def bounds(self) -> tuple[float, float]:
        """Return the range."""
        return _checked_range(self.feature_range)

    def _map_of(self, x: Array) -> tuple[Affine, tuple[float, float] | None]:
        # The range is rounded to the dtype of the result.
        affine = self._narrow.get(narrow_dtype(x), self._affine)
        return affine, self._bounds_of(x)


def _checked_range(feature_range: tuple[float, float]) -> tuple[float, float]:
    try:
        lo, hi = feature_range
    except (TypeError, ValueError):
        raise ValueError(
            f"feature_range must be a pair (min, max), got {feature_range!r}"
        ) from None
    if not (isinstance(lo, Real) and isinstance(hi, Real)):
        raise ValueError(f"feature_range must be two finite numbers, got {feature_range!r}")
    ends = as_float("feature_range", lo), as_float("feature_range", hi)
    if not math.isfinite(ends[1] - ends[0]):
        raise ValueError(f"feature_range must be two finite numbers, got {feature_range!r}")
    if lo >= hi:
        raise ValueError(
            f"Minimum of desired feature range must be smaller than maximum. Got {feature_range!r}."
        )
    return ends


def _inside(
    lo: float, hi: float, minimum: np.ndarray, divisor: np.ndarray, unit: np.ndarray
) -> Affine:
    """Return the map of [minimum, minimum + divisor * unit] into [lo, hi], after every rounding.

    The unit is a power of two. ``(x - minimum) / divisor`` is at most the unit and every operation
    is monotone, so the largest result is ``gamma + lo``, rounded: gamma is nudged down until that
    is not above hi.
    """
    gamma = hi - lo
    while gamma + lo > hi:
        gamma = math.nextafter(gamma, 0.0)
    return Affine(center=minimum, scale=divisor, gamma=gamma / unit, beta=lo)
