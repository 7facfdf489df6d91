"""What a pass over weighted data sums and keeps around ranks, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from normcore.statistics.exact_weights import as_floats, from_floats
from normcore.statistics.kept_brackets import Place
from normcore.statistics.statistic import Channels
from normcore.statistics.weight_planes import WeighedBrackets
from normcore.statistics.weighted_sample import WeightedSample

__all__ = ["WeightedBrackets", "WeightedPlan"]

_PARTS = "values", "weights", "priorities"


class WeightedPlan(NamedTuple):
    """What a pass is to look at; small, and the same for all pieces of the data.

    Attributes
    ----------
    lower, upper : float64 arrays of shape (R, C)
        The brackets; ``inf`` for both where none is wanted.
    wanted : bool array of shape (R, C)
    capacity : int
        Values that may be kept of each bracket.
    """

    lower: np.ndarray
    upper: np.ndarray
    wanted: np.ndarray
    capacity: int

    def select(self, channels: Channels) -> WeightedPlan:
        """Return the plan for some of the channels (an index array or a slice)."""
        lower, upper, wanted = (each[:, channels] for each in self[:3])
        return WeightedPlan(lower, upper, wanted, self.capacity)


class WeightedBrackets:
    """Exact sums of what lies around brackets, and a sample of what lies inside: a monoid.

    Attributes
    ----------
    plan : WeightedPlan
    sums : array of int, of shape (4, R, C)
        In units, what lies below, equals the lower end, lies inside, equals the upper end.
    total : array of int, of shape (C,)
        Of all values.
    samples : dict of Place to WeightedSample
    """

    def __init__(self, plan: WeightedPlan) -> None:
        self.plan = plan
        self.sums = np.zeros((4, *plan.wanted.shape), dtype=object)
        self.total = np.zeros(plan.wanted.shape[1], dtype=object)
        self.samples: dict[Place, WeightedSample] = {}

    @classmethod
    def of(cls, plan: WeightedPlan, seen: WeighedBrackets, seed: int) -> WeightedBrackets:
        """Return what was seen in some rows.

        Parameters
        ----------
        seed : int
            Another one for other rows.
        """
        found = cls(plan)
        found.sums, found.total = seen.sums, seen.total
        for number, (place, pieces) in enumerate(seen.inside.items()):
            found.samples[place] = WeightedSample.of(
                np.concatenate([values for values, _ in pieces]).astype(np.float64)[:, None],
                np.concatenate([weights for _, weights in pieces]),
                capacity=plan.capacity,
                seed=(seed, number),
            )
        return found

    @classmethod
    def merge_all(cls, plan: WeightedPlan, parts: Sequence[WeightedBrackets]) -> WeightedBrackets:
        """Return what was seen in all of the data from what was seen in pieces of it."""
        found = cls(plan)
        for part in parts:
            found.sums, found.total = found.sums + part.sums, found.total + part.total
        places = dict.fromkeys(place for part in parts for place in part.samples)
        for place in places:
            given = [part.samples[place] for part in parts if place in part.samples]
            found.samples[place] = WeightedSample.merge_all(given)
        return found

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of NumPy arrays, from which the plan makes it again."""
        samples = [each.to_state() for each in self.samples.values()]
        state = {
            name: np.concatenate([np.empty(0), *(np.ravel(each[name]) for each in samples)])
            for name in (*_PARTS, "threshold")
        }
        return state | {
            "sums": as_floats(self.sums),
            "total": as_floats(self.total),
            "places": np.array(list(self.samples), dtype=np.int64).reshape(-1, 2),
            "lengths": np.array([len(each["weights"]) for each in samples], dtype=np.int64),
        }

    @classmethod
    def from_state(cls, plan: WeightedPlan, state: Mapping[str, np.ndarray]) -> WeightedBrackets:
        """Return what :meth:`to_state` gave."""
        found = cls(plan)
        found.sums, found.total = from_floats(state["sums"]), from_floats(state["total"])
        ends = np.cumsum(state["lengths"])[:-1]
        values, weights, priorities = (np.split(state[name], ends) for name in _PARTS)
        for number, (rank, channel) in enumerate(state["places"].tolist()):
            found.samples[rank, channel] = WeightedSample(
                plan.capacity,
                values[number][:, None],
                weights[number],
                priorities[number],
                float(state["threshold"][number]),
            )
        return found

    @classmethod
    def side_by_side(
        cls, plan: WeightedPlan, blocks: Sequence[WeightedBrackets]
    ) -> WeightedBrackets:
        """Return what was seen of all channels from what was seen of blocks of them, in order."""
        found = cls(plan)
        found.sums = np.concatenate([each.sums for each in blocks], axis=2)
        found.total = np.concatenate([each.total for each in blocks])
        first = 0
        for block in blocks:
            for (rank, channel), sample in block.samples.items():
                found.samples[rank, first + channel] = sample
            first += block.total.size
        return found
