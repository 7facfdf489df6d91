"""Exact quantiles of data that is read again and again, in bounded memory.

A first pass sketches each channel; its sketch gives each rank a bracket of two values. A further
pass counts what lies below a bracket and keeps what lies inside, which proves the quantile. A rank
outside its bracket gets a wider one, and where brackets together would keep too much, they take
turns: passes grow, memory does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.brackets import Quantiles
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

__all__ = ["RereadQuantiles", "TooMuchKept"]

# A bracket keeps what lies within the rank error of the sketch on either side, of which the sketch
# knows again no more than within that error.
_KEPT_ERRORS = 4.0
_WIDER = 3.0


class TooMuchKept(Exception):
    """A single bracket holds more values than memory."""


class RereadQuantiles:
    """The quantiles of channels, of data that is observed once by :meth:`sketch`, then again.

    Parameters
    ----------
    backend : Backend
        Observes the data, which is that of the host.
    q : array of shape (R,)
        In [0, 1].
    num_channels : int
    error : float
        Rank error of the sketch: what a bracket keeps is proportional to it.
    max_values : int
        Values that may be kept in all.
    """

    def __init__(
        self,
        backend: StatisticKernels,
        q: ArrayLike,
        num_channels: int,
        error: float,
        max_values: int,
    ) -> None:
        self._backend = backend
        self._rule = LinearInterpolation(NumpyRankSelection(backend))
        self._q = as_quantiles(q)
        self._error, self._max_values = error, max_values
        self._sketch = QuantileSketch.empty(num_channels, error=error)
        self._values = np.full((self._q.size, num_channels), np.nan)
        self._reach = np.ones(self._values.shape)  # of a bracket, in rank errors
        self._most = self._values.size  # brackets at a time
        self._open = np.ones(self._values.shape, dtype=bool)
        self._now = self._open

    def sketch(self, x: Array) -> None:
        """Observe an ``(N, C, S)`` view in the first pass; NaN is skipped."""
        more = QuantileSketch.observe(self._backend, x, skipna=True, error=self._error)
        self._sketch = self._sketch.merge(more)

    def begin(self) -> bool:
        """Begin another pass; False if none is needed any more."""
        exact = ((self._sketch.rank_error == 0) | (self._sketch.count == 0)) & self._open
        if exact.any():
            self._values[exact] = self._sketch.quantile(self._q)[exact]
            self._open &= ~exact
        if not self._open.any():
            return False
        error = np.maximum(self._sketch.rank_error * self._sketch.count, 1.0)
        errors = np.ceil(self._reach * error)
        places = np.argwhere(self._open)
        expected = np.cumsum(_KEPT_ERRORS * errors[self._open])
        number = max(1, min(self._most, int(np.sum(expected <= self._max_values))))
        self._now = np.zeros_like(self._open)
        self._now[tuple(places[:number].T)] = True
        first, second, _ = neighbours(self._q[:, None], self._sketch.count)
        lower = self._at_ranks(first - errors, -np.inf)
        upper = self._at_ranks(second + errors, np.inf)
        lower[~self._now] = upper[~self._now] = np.inf
        self._lower, self._upper = lower, upper
        self._sums = np.zeros((4, *lower.shape))
        self._pieces: list[list[list[Array]]] = [[[] for _ in row] for row in lower]
        self._kept = np.zeros(lower.shape)
        self._dropped = np.zeros(lower.shape, dtype=bool)
        return True

    def _at_ranks(self, ranks: np.ndarray, beyond: float) -> np.ndarray:
        """Return what the sketch has at ranks, or what lies beyond all values."""
        last = self._sketch.count - 1
        found = self._sketch.at_ranks(np.clip(ranks, 0, np.maximum(last, 0)))
        return np.where((ranks < 0) | (ranks > last), beyond, found)

    def observe(self, x: Array) -> None:
        """Observe the same ``(N, C, S)`` views in the pass that was begun."""
        part = self._backend.brackets(x, self._lower, self._upper, skipna=True).to_host()
        self._sums += part.below, part.equal_lower, part.inside_count, part.equal_upper
        for rank, channel in np.argwhere(self._now & ~self._dropped):
            inside = part.inside[rank][channel]
            if len(inside):
                self._pieces[rank][channel].append(inside)
                self._kept[rank, channel] += len(inside)
        while self._kept.sum() > self._max_values:
            place = np.unravel_index(int(np.argmax(self._kept)), self._kept.shape)
            self._pieces[place[0]][place[1]].clear()
            self._kept[place], self._dropped[place] = 0, True

    def end(self) -> None:
        """Find what this pass has shown.

        Raises
        ------
        TooMuchKept
            If a bracket that had the memory for itself did not fit.
        """
        below, equal_lower, inside_count, equal_upper = self._sums
        seen = ObservedBrackets(
            lower=self._lower,
            upper=self._upper,
            below=below,
            equal_lower=equal_lower,
            inside_count=inside_count,
            equal_upper=equal_upper,
            count=self._sketch.count,
            infinite=self._sketch.infinite,
            pieces=self._pieces,
            dropped=self._dropped,
        )
        found, there = self._rule.quantiles_in_brackets(seen, self._q, self._now)
        self._values[there] = found[there] + 0.0  # -0.0 reads as 0.0
        self._open &= ~there
        missed = self._now & ~there
        if (missed & self._dropped).any():
            if self._now.sum() == 1:
                raise TooMuchKept
            self._most = max(1, int(self._now.sum()) // 2)
        self._reach[missed & ~self._dropped] *= _WIDER

    def quantiles(self) -> Quantiles:
        """Return what was found in the end."""
        return Quantiles(self._q, self._values, self._sketch.count, self._sketch.infinite)
