"""PercentileScaler: a range of each feature, by percentiles or deviations, mapped to another."""

from __future__ import annotations

import math
from functools import partial
from numbers import Real
from types import ModuleType
from typing import Any

import numpy as np

import normcore as nc
from normcore_percentile.deviation import DeviationQuantiles

__all__ = ["PercentileScaler"]

SPREADS = ("percentiles", "mad")
CLIPS = (None, "hard", "soft")
#: Median absolute deviations of the normal distribution in its standard deviation.
NORMAL_DEVIATION = 1.482602218505602


class PercentileScaler(nc.QuantileLearner, nc.AffineScaler):
    """Map each feature from its range between two percentiles to a range, whatever lies beyond.

    ``y = (x - low_) / (high_ - low_) * (hi - lo) + lo``: outliers do not decide what the others
    become, and are clipped, squashed or left outside.

    Parameters
    ----------
    percentile_range : (p_low, p_high), default=(1.0, 99.0)
        Percentages, ``0 <= p_low < p_high <= 100``. The values there, ``low_`` and ``high_``, map
        to the ends of ``feature_range``.
    feature_range : (lo, hi), default=(-1, 1)
        Two finite numbers, ``lo < hi``.
    spread : {"percentiles", "mad"}, default="percentiles"
        With "mad" the range is ``median -+ num_deviations * 1.4826 * MAD`` instead: as many robust
        standard deviations around the median, which maps to the middle. MAD is the median of the
        absolute deviations from the median; normally distributed data have a standard deviation of
        1.4826 of it.
    num_deviations : float, default=3.0
        How far the range reaches to either side of the median, with ``spread="mad"``.
    clip : {None, "hard", "soft"}, default=None
        "hard" clips results to ``feature_range``. "soft" leaves what is inside as it is and
        squashes what is beyond: a distance d from an end becomes ``r * log1p(d / r)``, r half the
        width of ``feature_range``. That is smooth, grows slowly, keeps the order, and
        ``inverse_transform`` undoes it.
    copy : bool, default=True
        False writes the result into the input where that is a writable float array.
    backend : str or Backend, optional
        The backend to use whatever the data; by default the one that fits it.
    axis : "columns", int, tuple of int or None, default="columns"
        The axes whose positions have statistics of their own, of arrays of any number of
        dimensions; None makes everything one feature. By default ``X`` is a table.
    quantiles, quantile_error, keep_sketch
        As those of :class:`normcore.RobustScaler`.

    Attributes
    ----------
    low_, high_ : float64 arrays of shape (n_features,)
        What maps to the ends of ``feature_range``.
    median_, mad_ : float64 arrays of shape (n_features,)
        With ``spread="mad"``.
    scale_ : float64 array of shape (n_features,)
        ``high_ - low_``, or half of it with ``spread="mad"``; 1 for a constant feature. Where that
        is more than the largest float64, it is divided by a power of two, and so is the range that
        results are multiplied by.
    quantile_error_ : float
        The rank error that percentiles and median have at most: 0 where they are exact. That of
        the deviation from a sketch is at most twice as large.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
    feature_names_in_ : array of str of shape (n_features,)
        Where ``X`` named its columns.

    Notes
    -----
    NaN is skipped in fit and stays in transform. A constant feature, one whose range is at most
    ``8 * eps`` of its magnitude, is not divided: it maps to ``lo``, as with MinMaxScaler, and with
    ``spread="mad"`` to the middle.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> X = np.append(np.arange(101.0), 1e6)[:, None]
    >>> scaler = nc.PercentileScaler((1, 90), clip="hard").fit(X)
    >>> scaler.transform([[-50.0], [1e6]])
    array([[-1.],
           [ 1.]])
    """

    statistic = DeviationQuantiles
    descriptive = frozenset({"low_", "high_", "median_", "mad_"})

    def __init__(
        self,
        percentile_range: tuple[float, float] = (1.0, 99.0),
        feature_range: tuple[float, float] = (-1, 1),
        *,
        spread: str = "percentiles",
        num_deviations: float = 3.0,
        clip: str | None = None,
        copy: bool = True,
        backend: str | nc.Backend | None = None,
        axis: Any = "columns",
        quantiles: str = "exact",
        quantile_error: float = 0.01,
        keep_sketch: bool = False,
    ) -> None:
        self.percentile_range = percentile_range
        self.feature_range = feature_range
        self.spread = spread
        self.num_deviations = num_deviations
        self.clip = clip
        self.copy = copy
        self.backend = backend
        self.axis = axis
        self.quantiles = quantiles
        self.quantile_error = quantile_error
        self.keep_sketch = keep_sketch

    def check_parameters(self) -> None:
        """Refuse parameters that make no sense."""
        _pair("percentile_range", self.percentile_range, 0.0, 100.0)
        _pair("feature_range", self.feature_range, -math.inf, math.inf)
        if self.spread not in SPREADS:
            raise ValueError(f"spread must be 'percentiles' or 'mad', got {self.spread!r}")
        if self.clip not in CLIPS:
            raise ValueError(f"clip must be None, 'hard' or 'soft', got {self.clip!r}")
        number = self.num_deviations
        if isinstance(number, bool) or not isinstance(number, Real) or not 0 < number < math.inf:
            raise ValueError(f"num_deviations must be a positive number, got {number!r}")
        self.check_quantile_parameters()

    def ranks(self) -> np.ndarray | None:
        """Return the two percentiles as quantiles; None for a deviation, which takes more."""
        if self.spread != "percentiles":
            return None
        return np.array(_pair("percentile_range", self.percentile_range, 0.0, 100.0)) / 100

    def observe(self, backend: nc.Backend, x: Any, *, weights: Any = None) -> DeviationQuantiles:
        """Return the percentiles of a view, or median and deviation, skipping NaN.

        Parameters
        ----------
        backend, x, weights
            As for :meth:`normcore.AffineScaler.observe`.
        """
        ranks = self.ranks()
        if ranks is not None:
            found = self.observe_quantiles(backend, x, ranks, weights=weights)
            return DeviationQuantiles.beside(found)
        found = self.observe_quantiles(backend, x, [0.5], weights=weights)
        quantiles = DeviationQuantiles.beside(found)
        exactly = PercentileScaler().observe_quantiles  # without a sketch of distances
        quantiles.observe_deviation(backend, x, partial(exactly, backend, weights=weights))
        return quantiles

    def affine(self, quantiles: DeviationQuantiles) -> nc.Affine:
        """Set the fitted attributes and return the map.

        Parameters
        ----------
        quantiles : DeviationQuantiles
            What :meth:`observe` returned, or several of it merged, on the host.
        """
        lo, hi = _pair("feature_range", self.feature_range, -math.inf, math.inf)
        if self.spread == "percentiles":
            low, high = quantiles.values
            with np.errstate(over="ignore"):
                unit = np.where(np.isinf(high - low), 2.0, 1.0)
            scale = high / unit - low / unit
            magnitude = np.maximum(np.abs(low), np.abs(high)) / unit
            self.low_, self.high_ = low, high
            center, gamma, beta = low, hi - lo, lo
        else:
            assert quantiles.deviation is not None
            self.median_, self.mad_ = center, deviation = quantiles.values[0], quantiles.deviation
            reach = self.num_deviations * NORMAL_DEVIATION
            exponent = np.frexp(deviation)[1] + math.frexp(reach)[1]
            unit = np.ldexp(1.0, np.maximum(exponent - 1023, 0))
            scale = reach * (deviation / unit)
            ends = center / unit - scale, center / unit + scale
            magnitude = np.maximum(*np.abs(ends))
            with np.errstate(over="ignore"):  # they may be no float64
                self.low_, self.high_ = ends[0] * unit, ends[1] * unit
            gamma, beta = (hi - lo) / 2, lo + (hi - lo) / 2
        # A range that float64 does not hold is one in units of a power of two.
        return nc.Affine(
            center=center, scale=nc.nonconstant(scale, magnitude), gamma=gamma / unit, beta=beta
        )

    # -- beyond the range ------------------------------------------------------------------

    def bounds(self) -> tuple[float, float] | None:
        """Return the range that results are clipped to; none where they are squashed."""
        if self.clip != "hard":
            return None
        return _pair("feature_range", self.feature_range, -math.inf, math.inf)

    @property
    def squashes(self) -> bool:  # type: ignore[override]
        """Whether results beyond the range are squashed."""
        return self.clip == "soft"

    def squash(self, xp: ModuleType, y: Any) -> Any:
        """Return results with what is beyond the range drawn in.

        Parameters
        ----------
        xp, y
            As for :meth:`normcore.AffineScaler.squash`.
        """
        return self._beyond(xp, y, xp.log1p)

    def unsquash(self, xp: ModuleType, y: Any) -> Any:
        """Return results with what is beyond the range as far out as it was.

        Parameters
        ----------
        xp, y
            As for :meth:`normcore.AffineScaler.unsquash`.
        """
        return self._beyond(xp, y, xp.expm1)

    def _beyond(self, xp: ModuleType, y: Any, function: Any) -> Any:
        lo, hi = _pair("feature_range", self.feature_range, -math.inf, math.inf)
        radius = (hi - lo) / 2
        inside = xp.clip(y, lo, hi)
        distance = xp.abs(y - inside) / radius  # 0 inside
        with np.errstate(over="ignore"):
            drawn = function(distance) * radius
        return xp.where(y < lo, lo - drawn, xp.where(y > hi, hi + drawn, y))


def _pair(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    """Return two numbers in ascending order, within bounds that are themselves finite."""
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair, got {value!r}") from None
    are_numbers = isinstance(low, Real) and isinstance(high, Real)
    if not (
        are_numbers and least <= low < high <= most and math.isfinite(float(high) - float(low))
    ):
        kind = "two finite numbers" if math.isinf(least) else f"two numbers from {least} to {most}"
        raise ValueError(f"{name} must hold {kind}, the first below the second, got {value!r}")
    return float(low), float(high)
