"""Exact quantiles of weighted data in memory."""

from __future__ import annotations

import numpy as np

from normcore.layout.namespace import Array
from normcore.layout.tiling import blocks
from normcore.statistics.kernels import StatisticKernels
from normcore.statistics.quantile_interpolation import Found
from normcore.statistics.rank_selection import RankSelection
from normcore.statistics.reread_weighted import RereadWeighted
from normcore.statistics.weight_planes import WeightPlanes
from normcore.statistics.weighted_brackets import WeightedBrackets, WeightedPlan
from normcore.statistics.weighted_quantiles import (
    InvertedCDF,
    RepeatedInterpolation,
    WeightedRule,
)
from normcore.statistics.weighted_sample import WeightedSample

__all__ = ["WeightedQuantiles"]

_CHUNK = 1 << 22
_KEPT = 1 << 21


class WeightedQuantiles:
    """Finds quantiles of channels that share the weights of their positions.

    Parameters
    ----------
    backend : Backend
    weights : (N, S) array of the backend's own kind
        Not negative; what weighs nothing is not there.
    selection : RankSelection
    size : int
        Positions of the sample that is looked at first.
    repeats : bool
        Whether weights are whole numbers that say how often each value is repeated.
    """

    def __init__(
        self,
        backend: StatisticKernels,
        weights: Array,
        selection: RankSelection,
        size: int,
        repeats: bool,
    ) -> None:
        self._backend, self._weights, self._selection = backend, weights, selection
        self._rule: WeightedRule = RepeatedInterpolation() if repeats else InvertedCDF()
        host = np.asarray(backend.release(weights, np.empty(0)), dtype=np.float64).reshape(-1)
        positions = np.flatnonzero(host > 0)
        sample = WeightedSample.of(positions[:, None], host[positions], capacity=size, seed=0)
        self._sample, self._taken = sample, sample.values[:, 0]
        self._planes: WeightPlanes | None = None

    def of(self, x: Array, q: np.ndarray, skipna: bool) -> Found:
        """Return the quantiles, the sum of weights and the infinite values of each channel."""
        everything = len(self._taken) == x.shape[0] * x.shape[2]
        taken = None if everything else self._taken
        found = self._selection.channel_values(x, taken)
        if everything:
            found = found[:, self._taken]
        rows = found.astype(np.float64).T
        sample = self._sample.of_rows(rows)
        absent, infinite = np.isnan(rows).any(axis=0), np.isinf(rows).sum(axis=0)
        columns = [sample.column(channel) for channel in range(x.shape[1])]
        passes = RereadWeighted(self._rule, q, columns, max(_KEPT, _at_hand(x) // 2))
        while (plan := passes.plan()) is not None:
            seen, absent, infinite = self._seen(x, plan, skipna)
            passes.learn(seen)
        if skipna:
            return passes.values, passes.count, infinite
        values, count = (np.where(absent, np.nan, each) for each in (passes.values, passes.count))
        return values, count, infinite

    def _seen(
        self, x: Array, plan: WeightedPlan, skipna: bool
    ) -> tuple[WeightedBrackets, np.ndarray, np.ndarray]:
        """Read everything once for each plane; also tell of NaN and infinite values."""
        if self._planes is None:
            self._planes = WeightPlanes(self._backend, self._weights)
        parts = []
        absent, infinite = np.zeros((2, x.shape[1]))
        chunk = max(_CHUNK, _at_hand(x) // 2) // len(plan.wanted)
        for number, (rows, inner) in enumerate(blocks(x.shape, max(1, chunk))):
            found = self._planes.brackets(
                x[rows, :, inner], plan.lower, plan.upper, skipna=skipna, rows=rows, inner=inner
            )
            parts.append(WeightedBrackets.of(plan, found, number))
            absent, infinite = absent + found.absent, infinite + found.infinite
        return WeightedBrackets.merge_all(plan, parts), absent > 0, infinite


def _at_hand(x: Array) -> int:
    """Return how many values host memory holds already, beside which others are few.

    Those of other memory are to come in small pieces: reading them again costs less.
    """
    return x.size if isinstance(x, np.ndarray) else 0
