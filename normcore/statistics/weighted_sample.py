"""A sample of weighted rows that merges: what a first look at weighted data keeps.

Each row has a priority, its weight divided by a random number in (0, 1], and the rows of the
highest ones are kept. Each stands for what it weighs, or for the highest priority that was left
out, if that is more: sums of these estimate sums of weights, and heavy rows are all there.

References
----------
N. Duffield, C. Lund and M. Thorup, "Priority sampling for estimation of arbitrary subset sums",
Journal of the ACM 54 (2007).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["SampledColumn", "WeightedSample"]

# Standard errors that a bracket reaches to either side of its rank, and rows added to these, as few
# are far from normally distributed.
_ERRORS = 4.0
_MORE = 6.0


class WeightedSample:
    """The rows of the highest priorities, all rows where these are no more than there is room for.

    Parameters
    ----------
    capacity : int
        Rows that are kept at most.
    values : float64 array of shape (K, C)
    weights : float64 array of shape (K,)
        Positive.
    priorities : float64 array of shape (K,)
        Binary logarithms of them, which fit float64 whatever the weights.
    threshold : float
        The highest priority that was left out; -inf where all rows are here.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore.statistics.weighted_sample import WeightedSample
    >>> rows, weights = np.arange(1000.0)[:, None], np.ones(1000)
    >>> sample = WeightedSample.of(rows, weights, capacity=64, seed=0)
    >>> len(sample.values), sample.is_whole
    (64, False)
    """

    def __init__(
        self,
        capacity: int,
        values: np.ndarray,
        weights: np.ndarray,
        priorities: np.ndarray,
        threshold: float = -np.inf,
    ) -> None:
        self.capacity = capacity
        self.values, self.weights, self.priorities = values, weights, priorities
        self.threshold = threshold

    @classmethod
    def of(
        cls, values: np.ndarray, weights: np.ndarray, *, capacity: int, seed: int | tuple[int, ...]
    ) -> WeightedSample:
        """Return the sample of some rows.

        Parameters
        ----------
        weights : float64 array
            Positive and finite.
        seed : int or tuple of int
            Another one for other rows.
        """
        chances = 1.0 - np.random.default_rng(seed).random(len(weights))
        whole = cls(capacity, values, weights, np.log2(weights) - np.log2(chances))
        return whole._within_capacity()

    @classmethod
    def merge_all(cls, samples: Iterable[WeightedSample]) -> WeightedSample:
        """Return the sample of all rows from those of pieces of them."""
        given = list(samples)
        if len(given) == 1:
            return given[0]
        return cls(
            given[0].capacity,
            np.concatenate([each.values for each in given]),
            np.concatenate([each.weights for each in given]),
            np.concatenate([each.priorities for each in given]),
            max(each.threshold for each in given),
        )._within_capacity()

    def _within_capacity(self) -> WeightedSample:
        left = len(self.weights) - self.capacity
        if left <= 0:
            return self
        order = np.argpartition(self.priorities, left - 1)
        kept = order[left:]
        return type(self)(
            self.capacity,
            self.values[kept],
            self.weights[kept],
            self.priorities[kept],
            max(self.threshold, float(self.priorities[order[left - 1]])),
        )

    def of_rows(self, values: np.ndarray) -> WeightedSample:
        """Return the same rows of another table."""
        return type(self)(self.capacity, values, self.weights, self.priorities, self.threshold)

    @property
    def is_whole(self) -> bool:
        """Whether all rows are here."""
        return self.threshold == -np.inf

    def column(self, channel: int = 0) -> SampledColumn:
        """Return what is known of a channel, NaN left out."""
        values = self.values[:, channel]
        there = np.flatnonzero(~np.isnan(values))
        order = there[np.argsort(values[there], kind="stable")]
        weights = self.weights[order]
        if self.is_whole:
            return SampledColumn(values[order], weights, None, None)
        # What each stands for, in units of those that stand for more than they weigh.
        logarithms = np.log2(weights) - self.threshold
        shares = np.exp2(np.clip(logarithms, 0.0, _MOST_SHARE))
        return SampledColumn(values[order], weights, np.cumsum(shares), np.cumsum(logarithms < 0.0))

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        return {
            "values": self.values,
            "weights": self.weights,
            "priorities": self.priorities,
            "threshold": np.array(self.threshold),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray], capacity: int) -> WeightedSample:
        """Return the sample of a state that :meth:`to_state` gave."""
        values, weights, priorities = state["values"], state["weights"], state["priorities"]
        return cls(capacity, values, weights, priorities, float(state["threshold"]))


# A row that weighs so much more than another leaves nothing of it in a sum of both.
_MOST_SHARE = 900.0


class SampledColumn(NamedTuple):
    """Values of a channel in order, with their weights.

    Attributes
    ----------
    values, weights : float64 array
    cumulated : float64 array or None
        What each and all before it stand for; None where all values are here.
    numbers : int array or None
        How many of them are here by chance.
    """

    values: np.ndarray
    weights: np.ndarray
    cumulated: np.ndarray | None
    numbers: np.ndarray | None

    @property
    def is_whole(self) -> bool:
        """Whether all values are here."""
        return self.cumulated is None

    def around(
        self, quantiles: tuple[float, float], within: tuple[float, float], reach: float
    ) -> tuple[float, float]:
        """Return values around two quantiles, as far as those may err.

        Parameters
        ----------
        quantiles : (float, float)
            In [0, 1].
        within : (float, float)
            What the values of the quantiles are known to lie between.
        reach : float
            By what usual distances are multiplied.
        """
        low, high = within
        cumulated, numbers = self.cumulated, self.numbers
        if cumulated is None or numbers is None or not cumulated.size:
            return low, high
        total, number = cumulated[-1], numbers[-1]

        def place(q: float, direction: int) -> int:
            middle = min(int(np.searchsorted(cumulated, q * total)), numbers.size - 1)
            below = numbers[middle]
            variance = below * (1.0 - q) ** 2 + (number - below) * q**2
            distance = reach * (_ERRORS * float(np.sqrt(variance)) + _MORE)
            return int(np.searchsorted(cumulated, q * total + direction * distance, side="right"))

        # What lies outside was found to be wrong; where a few weigh nearly all, steps in weight
        # reach nothing else, so that there are steps in numbers too.
        first, last = np.searchsorted(self.values, low), np.searchsorted(self.values, high, "right")
        steps = int(min(reach - 1.0, self.values.size))
        below = min(place(quantiles[0], -1) - 1, int(last) - 1) - steps
        above = max(place(quantiles[1], 1) + 1, int(first)) + steps
        return (
            float(np.clip(self.values[below], low, high)) if below >= 0 else low,
            float(np.clip(self.values[above], low, high)) if above < self.values.size else high,
        )
