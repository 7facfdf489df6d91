"""Quantiles with the median absolute deviation beside them, exact or by a sketch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

import normcore as nc

__all__ = ["DeviationQuantiles"]

# Deviations that are in memory at a time.
BLOCK = 1 << 23


class DeviationQuantiles(nc.MergeableQuantiles):
    """Quantiles of each channel, and where asked for, the median of distances from the first.

    A sketch gives the deviation too, without another look at the data: it holds values that stand
    for so many, and the distances of these have a median. Its rank is within twice the rank error
    of the sketch.

    Attributes
    ----------
    deviation : float64 array of shape (C,) or None
    """

    __slots__ = ("deviation",)
    name: ClassVar[str] = "deviation_quantiles"

    def __init__(
        self,
        q: Any,
        values: Any,
        count: Any,
        infinite: Any,
        sketch: nc.QuantileSketch | None = None,
        rank_error: Any = None,
        deviation: np.ndarray | None = None,
    ) -> None:
        super().__init__(q, values, count, infinite, sketch, rank_error)
        self.deviation = deviation

    @classmethod
    def beside(cls, found: nc.MergeableQuantiles) -> DeviationQuantiles:
        """Return quantiles as this statistic, without a deviation."""
        return cls(
            found.q, found.values, found.count, found.infinite, found.sketch, found.rank_error
        )

    def observe_deviation(
        self, backend: nc.Backend, x: Any, quantiles: Callable[..., nc.MergeableQuantiles]
    ) -> None:
        """Find the deviation in the ``(N, C, S)`` view that the quantiles are of, or the sketch.

        Parameters
        ----------
        quantiles : callable
            ``quantiles(view, q)``, as those of ``x`` were found, with its weights.
        """
        if self.sketch is not None and self.rank_error.any():
            self.deviation = _sketched_deviation(self.sketch, self.values[0])
            return
        self.deviation = np.empty(x.shape[1])
        step = max(1, BLOCK // max(x.shape[0] * x.shape[2], 1))
        for start in range(0, x.shape[1], step):
            channels = slice(start, min(start + step, x.shape[1]))
            values = np.asarray(backend.release(x[:, channels, :], np.empty(0)))
            distances, unit = _distances(values, self.values[0, channels, None])
            found = quantiles(backend.adopt(distances), [0.5])
            self.deviation[channels] = found.values[0] * unit

    def merge(self, other: nc.Quantiles) -> DeviationQuantiles:
        """Return the statistic of both pieces of data, by their sketches."""
        found = super().merge(other)
        assert isinstance(found, DeviationQuantiles)
        wanted = any(getattr(each, "deviation", None) is not None for each in (self, other))
        if wanted and found.deviation is None:
            assert found.sketch is not None
            found.deviation = _sketched_deviation(found.sketch, found.values[0])
        return found

    def select(self, channels: Any) -> DeviationQuantiles:
        """Return the statistic of some of the channels (an index array or a slice)."""
        found = self.beside(super().select(channels))
        if self.deviation is not None:
            found.deviation = self.deviation[channels]
        return found

    @classmethod
    def side_by_side(cls, groups: Sequence[nc.Quantiles]) -> DeviationQuantiles:
        """Return the statistic of all channels from those of groups of them, in order."""
        found = cls.beside(super().side_by_side(groups))
        deviations = [getattr(group, "deviation", None) for group in groups]
        known = [each for each in deviations if each is not None]
        if len(known) == len(groups):
            found.deviation = np.concatenate(known)
        return found

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        state = super().to_state()
        if self.deviation is not None:
            state["deviation"] = self.deviation
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DeviationQuantiles:
        """Return the statistic of a state that :meth:`to_state` gave.

        Raises
        ------
        ValueError
            If an array is missing, has another shape or holds what no data gives.
        """
        found = super().from_state(state)
        assert isinstance(found, DeviationQuantiles)
        if "deviation" in state:
            deviation = np.array(state["deviation"], dtype=np.float64)
            if deviation.shape != (found.num_channels,):
                raise ValueError(
                    f"'deviation' has shape {deviation.shape}, expected ({found.num_channels},)"
                )
            if not len(found.q) or (deviation < 0).any() or np.isinf(deviation).any():
                raise ValueError(f"a median deviation cannot be {deviation}")
            found.deviation = deviation
        return found


def _distances(values: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, float]:
    """Return distances of values from a center, in a unit in which they are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        distances = np.abs(values - center)
    if not np.isinf(distances).any() or np.isinf(values).any():
        return distances, 1.0
    return np.abs(values / 2 - center / 2), 2.0


def _sketched_deviation(sketch: nc.QuantileSketch, median: np.ndarray) -> np.ndarray:
    """Return the median distance from the median of what a sketch holds, of each channel."""
    levels = sketch.sizes.shape[1]
    weights_of_levels = np.ldexp(1.0, np.arange(levels))
    ends = np.cumsum(sketch.sizes.sum(axis=1))
    deviation = np.full(len(median), np.nan)
    for channel, values in enumerate(np.split(sketch.values, ends[:-1])):
        if not values.size:
            continue
        weights = np.repeat(weights_of_levels, sketch.sizes[channel])
        distances, unit = _distances(values, median[channel])
        order = np.argsort(distances, kind="stable")
        below = np.cumsum(weights[order])
        middle = (below[-1] - 1) / 2  # between two values where their number is even
        ranks = np.array([np.floor(middle), np.ceil(middle)])
        first, second = distances[order][np.searchsorted(below, ranks, side="right")]
        deviation[channel] = (first + (second - first) / 2) * unit
    return deviation
