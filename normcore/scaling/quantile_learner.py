"""QuantileLearner: the part of a scaler that learns quantiles, exactly or by a sketch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.weighted_scaler import WeightedScaler
from normcore.statistics import MergeableQuantiles, QuantileSketch, Statistic
from normcore.statistics.exact_quantiles import exact
from normcore.statistics.mergeable_quantiles import METHODS
from normcore.statistics.quantile_sketch_guarantee import check_error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["QuantileLearner", "fractions_error"]


class QuantileLearner(WeightedScaler):
    """Base, beside another, of scalers whose statistic is quantiles.

    A subclass lists the three parameters, calls :meth:`check_quantile_parameters` where it checks
    its own, and :meth:`observe_quantiles` in ``observe``. It may continue and be merged then
    wherever there is a sketch.

    Parameters
    ----------
    quantiles : {"exact", "sketch"}, default="exact"
        A sketch finds quantiles within a rank error, in bounded memory, and lets ``partial_fit``
        and ``merge`` go on.
    quantile_error : float, default=0.01
        Rank error of the sketch, as a fraction of the number of values.
    keep_sketch : bool, default=False
        Keep a sketch beside exact quantiles, so that ``partial_fit`` and ``merge`` go on from a
        fit, approximately.
    copy, backend, axis
        As for :class:`normcore.StandardScaler`.

    Attributes
    ----------
    quantile_error_ : float
        The rank error that each quantile of each feature has at most, with 99% confidence; 0 where
        all are exact.

    Examples
    --------
    >>> import normcore as nc
    >>> issubclass(nc.RobustScaler, nc.QuantileLearner)
    True
    >>> scaler = nc.RobustScaler(quantiles="sketch", quantile_error=0.01)
    >>> scaler.partial_fit([[1.0], [2.0]]).partial_fit([[3.0]]).center_
    array([2.])
    """

    __module__ = "normcore"

    statistic = MergeableQuantiles

    quantiles: str = "exact"
    quantile_error: float = 0.01
    keep_sketch: bool = False

    quantile_error_: float

    @property
    def exact_streaming(self) -> bool:  # type: ignore[override]
        """Whether a file is fitted batch by batch: only where a sketch was asked for."""
        return self.quantiles == "sketch"

    def _why_unmergeable(self) -> str | None:
        if self.quantiles == "sketch" or self.keep_sketch:
            return None
        return (
            "an exact fit keeps no sketch of the data to continue; ask for one with "
            "quantiles='sketch' or keep_sketch=True"
        )

    def ranks(self) -> np.ndarray | None:
        """Return the quantiles that are learned, in [0, 1], where these are all that is.

        Files larger than memory are then read again until their quantiles are exact. None, unless
        overridden.
        """
        return None

    def check_quantile_parameters(self) -> None:
        """Refuse parameters that make no sense."""
        if self.quantiles not in METHODS:
            raise ValueError(f"quantiles must be 'exact' or 'sketch', got {self.quantiles!r}")
        check_error(self.quantile_error, "quantile_error")
        input_validation.check_flags(keep_sketch=self.keep_sketch)

    def observe_quantiles(
        self, backend: Backend, x: Array, q: ArrayLike, *, weights: Array = None
    ) -> MergeableQuantiles:
        """Return the quantiles of an ``(N, C, S)`` view at ``q``, skipping NaN.

        Whole weights repeat their values; with others, a quantile below 1 is the first value at
        which the cumulated weight reaches it but for a share of ``2**-44``, and 1 the maximum. A
        sketch carries no others, which is a ValueError.

        Parameters
        ----------
        backend, x, weights
            As for :meth:`normcore.AffineScaler.observe`.
        q : sequence of float
            The ranks, in [0, 1].
        """
        if weights is not None:
            sketched = self.quantiles == "sketch"
            whole = _are_whole(np.asarray(backend.release(weights, np.empty(0))))
            if not whole and (sketched or self.keep_sketch):
                raise fractions_error(type(self).__name__)
            if whole and not sketched:
                found = exact(backend, x, q, weights=weights, skipna=True, repeats=True)
                sketch = None
                if self.keep_sketch:
                    sketch = QuantileSketch.observe(
                        backend, x, weights=weights, skipna=True, error=self.quantile_error
                    )
                return MergeableQuantiles(
                    found.q, found.values, found.count, found.infinite, sketch
                )
        return MergeableQuantiles.observe(
            backend,
            x,
            weights=weights,
            skipna=True,
            q=q,
            method=self.quantiles,
            error=self.quantile_error,
            keep_sketch=self.keep_sketch,
        )

    def _prepare(self, statistic: Statistic | None) -> None:
        rank_error = getattr(statistic, "rank_error", np.zeros(1))
        self.quantile_error_ = float(np.max(rank_error, initial=0.0))
        super()._prepare(statistic)  # type: ignore[safe-super]  # the other base's


def fractions_error(owner: str) -> ValueError:
    """Return the error for weights that a sketch does not carry."""
    return ValueError(
        f"{owner} takes sample_weight other than whole numbers whose sum is below 2**53 with exact "
        "quantiles alone: quantiles='exact', keep_sketch=False"
    )


def _are_whole(weights: np.ndarray) -> bool:
    """Whether weights are whole numbers, with a sum that is exact."""
    total = weights.sum(dtype=np.float64)
    return bool(total < 2.0**53 and np.all(weights == np.floor(weights)))
