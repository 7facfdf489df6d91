"""Exact quantiles of data that is read again and again, in bounded memory.

A first pass sketches each channel, or some of its rows where these are many; the sketch gives each
rank a bracket of two values. A further pass counts what lies below a bracket and keeps what lies
inside, which proves the quantile. A rank outside its bracket gets a wider one, and a bracket that
holds too much is sketched itself, which makes a narrower one: passes grow, memory does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.brackets import Quantiles
from normcore.statistics.kept_brackets import BracketPlan, KeptBrackets, Place
from normcore.statistics.quantile_interpolation import (
    LinearInterpolation,
    ObservedBrackets,
    as_quantiles,
    neighbours,
)
from normcore.statistics.quantile_sketch import QuantileSketch
from normcore.statistics.rank_selection import NumpyRankSelection

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from normcore.statistics.kernels import StatisticKernels

__all__ = ["MOST_LOOKS", "RereadQuantiles", "ValuesChanged", "sampled_rows", "sampling_stride"]

# A bracket keeps what lies within the rank error of the sketch on either side, of which the sketch
# knows again no more than within that error.
_KEPT_ERRORS = 4.0
_WIDER = 3.0
#: Looks at one rank: data that stays the same takes far fewer, whatever it is.
MOST_LOOKS = 200
# Values of a sketch of rank error 1, and errors of the sketches of brackets.
_SKETCH_VALUES = 24.0
_LEAST_ERROR, _MOST_ERROR = 1e-6, 0.05
# A sample: rows that it has at least, and of how many it takes one at most; how many of its
# standard errors a bracket reaches.
_SAMPLE_ROWS, _MOST_STRIDE = 1 << 18, 64
_SAMPLE_ERRORS = 3.0


class ValuesChanged(ValueError):
    """The data holds other values than in the passes before."""


class _Inside(NamedTuple):
    """What is known of a bracket that held too much."""

    sketch: QuantileSketch  # of what lies inside
    before: float  # values at the lower end or below
    lower: float
    upper: float


class RereadQuantiles:
    """The quantiles of channels, of data of which there is a sketch and which can be read again.

    ::

        passes = RereadQuantiles(backend, q, sketch, max_values)
        while (plan := passes.plan()) is not None:
            seen = KeptBrackets(plan)
            for x in views:
                seen.observe(backend, x)
            passes.learn(seen)

    Parameters
    ----------
    backend : Backend
        Of the host's arrays.
    q : array of shape (R,)
        In [0, 1].
    sketch : QuantileSketch
        Of the data, or of a sample of it; what a bracket keeps is proportional to its error.
    max_values : int
        Values that a pass may keep in all.
    count : float64 array of shape (C,), optional
        Number of values of each channel, where the sketch is of a sample.
    """

    def __init__(
        self,
        backend: StatisticKernels,
        q: ArrayLike,
        sketch: QuantileSketch,
        max_values: int,
        count: np.ndarray | None = None,
    ) -> None:
        self._rule = LinearInterpolation(NumpyRankSelection(backend))
        self._q = as_quantiles(q)
        self._sketch, self._max_values = sketch, max_values
        self._count = sketch.count if count is None else count
        self._values = np.full((self._q.size, sketch.num_channels), np.nan)
        self._reach = np.ones(self._values.shape)  # of a bracket, in rank errors
        self._looks = np.zeros(self._values.shape, dtype=np.int64)
        self._inside: dict[Place, _Inside] = {}
        exact = (sketch.rank_error == 0) & (sketch.count == self._count) | (self._count == 0)
        self._values[:, exact] = sketch.quantile(self._q)[:, exact]
        self._open = np.broadcast_to(~exact, self._values.shape).copy()
        self._first, self._second, _ = neighbours(self._q[:, None], self._count)

    def plan(self) -> BracketPlan | None:
        """Return what the next pass is to look at; None if none is needed any more."""
        if not self._open.any():
            return None
        lower, upper, kept = self._ends()
        expected = np.cumsum(kept[self._open])
        # Brackets that memory does not hold take turns, as many at a time as it holds sketches of.
        number = max(
            int(np.sum(expected <= self._max_values)),
            int(self._max_values * _MOST_ERROR / _SKETCH_VALUES),
            1,
        )
        wanted = np.zeros_like(self._open)
        wanted[tuple(np.argwhere(self._open)[:number].T)] = True
        lower[~wanted] = upper[~wanted] = np.inf
        error = _SKETCH_VALUES * wanted.sum() / self._max_values
        error = float(np.clip(error, _LEAST_ERROR, _MOST_ERROR))
        return BracketPlan(lower, upper, wanted, self._max_values, error)

    def _ends(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return brackets (R, C) around the ranks, and how many values they may hold."""
        sketch = self._sketch
        seen = sketch.count > 0
        share = np.divide(sketch.count, self._count, out=np.ones(seen.size), where=seen)
        error = sketch.rank_error * sketch.count
        error += np.where(share < 1, _SAMPLE_ERRORS * 0.5 * np.sqrt(sketch.count), 0.0)
        errors = np.ceil(self._reach * np.maximum(error, 1.0))
        first, second = np.floor(self._first * share), np.ceil(self._second * share)
        lower = np.where(seen, _at_ranks(sketch, first - errors, -np.inf, np.inf), -np.inf)
        upper = np.where(seen, _at_ranks(sketch, second + errors, -np.inf, np.inf), np.inf)
        kept = np.where(seen, _KEPT_ERRORS * errors / share, self._count)
        for place, inside in self._inside.items():
            sketch = inside.sketch
            own = float(np.maximum(sketch.rank_error * sketch.count, 1.0)[0])
            reach = np.ceil(self._reach[place] * own)
            ends = np.array([[self._first[place]], [self._second[place]]]) - inside.before
            ends += np.array([[-reach], [reach]])
            found = _at_ranks(sketch, ends, inside.lower, inside.upper)
            lower[place], upper[place] = found[:, 0]
            kept[place] = _KEPT_ERRORS * reach
        return lower, upper, kept

    def learn(self, seen: KeptBrackets) -> None:
        """Find what the pass has shown that its plan was for.

        Raises
        ------
        ValuesChanged
            If it saw other values than the sketch, or finds none of a rank in pass after pass.
        """
        plan, sketched = seen.plan, seen.sketched
        changed = np.flatnonzero(seen.count != self._count)
        if changed.size:
            channel = int(changed[0])
            raise ValuesChanged(
                f"column {channel} had {self._count[channel]:,.0f} values and has "
                f"{seen.count[channel]:,.0f} when it is read again"
            )
        self._looks += plan.wanted
        _, lost = np.nonzero(self._looks > MOST_LOOKS)
        if lost.size:
            raise ValuesChanged(f"column {lost[0]} holds other values when it is read again")
        for (rank, channel), sketch in seen.sketches.items():
            if not sketch.rank_error.any():  # it holds all values
                seen.pieces[rank][channel] = [sketch.values]
                sketched[rank, channel] = False
        below, equal_lower, inside_count, equal_upper = seen.sums
        observed = ObservedBrackets(
            lower=plan.lower,
            upper=plan.upper,
            below=below,
            equal_lower=equal_lower,
            inside_count=inside_count,
            equal_upper=equal_upper,
            count=self._count,
            infinite=self._sketch.infinite,
            pieces=seen.pieces,
            dropped=sketched,
        )
        found, there = self._rule.quantiles_in_brackets(observed, self._q, plan.wanted)
        self._values[there] = found[there] + 0.0  # -0.0 reads as 0.0
        self._open &= ~there
        before = below + equal_lower
        end = before + inside_count + equal_upper
        missed = plan.wanted & ~there
        around = missed & (self._first >= below) & (self._second < end)
        self._reach[missed & ~around] *= _WIDER
        for place, sketch in seen.sketches.items():
            if around[place]:
                ends = float(plan.lower[place]), float(plan.upper[place])
                self._inside[place] = _Inside(sketch, float(before[place]), *ends)
                self._reach[place] = 1.0

    def quantiles(self) -> Quantiles:
        """Return what was found in the end."""
        return Quantiles(self._q, self._values, self._count, self._sketch.infinite)


def sampling_stride(num_rows: int | None) -> int:
    """Return of how many rows the first pass takes one: 1 where they are few, or not counted."""
    stride = 1
    while num_rows is not None and stride < _MOST_STRIDE and num_rows >= 2 * stride * _SAMPLE_ROWS:
        stride *= 2
    return stride


def sampled_rows(x: Array, stride: int) -> Array:
    """Return one row of each so many that follow one another, by a fixed choice at random."""
    if stride == 1:
        return x
    starts = np.arange(0, x.shape[0], stride)
    rows = starts + np.random.default_rng(0).integers(stride, size=starts.size)
    return x[rows[rows < x.shape[0]]]


def _at_ranks(sketch: QuantileSketch, ranks: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """Return what a sketch has at ranks, or the ends beyond which there is nothing of it."""
    last = sketch.count - 1
    found = sketch.at_ranks(np.clip(ranks, 0, np.maximum(last, 0)))
    return np.where(ranks < 0, lower, np.where(ranks > last, upper, found))
