"""What a pass over data counts and keeps around ranks, in memory that does not grow.

The values inside a bracket are kept as they are until together they are too many; those of the
fullest brackets then become sketches, which narrow the brackets of the next pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.quantile_sketch import QuantileSketch
from normcore.statistics.statistic import Channels

if TYPE_CHECKING:
    from normcore.statistics.kernels import StatisticKernels

__all__ = ["BracketPlan", "KeptBrackets", "Place"]

#: A rank and a channel.
Place = tuple[int, int]

_SKETCH = "sketch_"  # begins the names of the sketches' state


class BracketPlan(NamedTuple):
    """What a pass is to look at; small, and the same for all pieces of the data.

    Attributes
    ----------
    lower, upper : float64 arrays of shape (R, C)
        The brackets; ``inf`` for both where none is wanted.
    wanted : bool array of shape (R, C)
    max_values : int
        That may be kept in all.
    error : float
        Rank error of the sketches that take their place.
    """

    lower: np.ndarray
    upper: np.ndarray
    wanted: np.ndarray
    max_values: int
    error: float

    def select(self, channels: Channels) -> BracketPlan:
        """Return the plan for some of the channels (an index array or a slice)."""
        lower, upper, wanted = (each[:, channels] for each in self[:3])
        return BracketPlan(lower, upper, wanted, self.max_values, self.error)


class KeptBrackets:
    """Counts of what lies around brackets, and the values inside them: a monoid.

    Attributes
    ----------
    plan : BracketPlan
    sums : float64 array of shape (4, R, C)
        What lies below, equals the lower end, lies inside, equals the upper end.
    count : float64 array of shape (C,)
        Of all values.
    pieces : R lists of C lists of arrays
        The values inside; empty where there is a sketch.
    sketches : dict of Place to QuantileSketch
        Of the values inside, where these were too many.
    """

    def __init__(self, plan: BracketPlan) -> None:
        self.plan = plan
        num_ranks, num_channels = plan.wanted.shape
        self.sums = np.zeros((4, num_ranks, num_channels))
        self.count = np.zeros(num_channels)
        self.pieces: list[list[list[Array]]] = [
            [[] for _ in range(num_channels)] for _ in range(num_ranks)
        ]
        self.sketches: dict[Place, QuantileSketch] = {}
        self._kept = np.zeros((num_ranks, num_channels))

    def observe(self, backend: StatisticKernels, x: Array, channels: slice = slice(None)) -> None:
        """Count in an ``(N, C, S)`` view, by default of all channels; NaN is skipped."""
        plan = self.plan.select(channels)
        part = backend.brackets(x, plan.lower, plan.upper, skipna=True).to_host()
        self.sums[..., channels] += (
            part.below,
            part.equal_lower,
            part.inside_count,
            part.equal_upper,
        )
        self.count[channels] += part.count
        first = channels.start or 0
        for rank, channel in np.argwhere(plan.wanted & (part.inside_count > 0)).tolist():
            self._keep((rank, first + channel), part.inside[rank][channel])
        self._stay_within()

    def merge(self, other: KeptBrackets) -> None:
        """Count in what was observed of other data by the same plan."""
        self.sums += other.sums
        self.count += other.count
        for rank, channel in np.argwhere(other._kept > 0).tolist():
            for piece in other.pieces[rank][channel]:
                self._keep((rank, channel), piece)
        for place, sketch in other.sketches.items():
            self._merge_sketch(place, sketch)
        self._stay_within()

    def to_state(self, first_channel: int = 0) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of NumPy arrays, from which the plan makes it again.

        Parameters
        ----------
        first_channel : int
            Of the plan of all channels, where this one is of some that follow one another.
        """
        raw = np.argwhere(self._kept > 0).tolist()
        places = [(rank, channel) for rank, channel in raw if (rank, channel) not in self.sketches]
        lists = [self.pieces[rank][channel] for rank, channel in places]
        state = {
            "sums": self.sums,
            "count": self.count,
            "first_channel": np.array(first_channel),
            "places": np.array(places, dtype=np.int64).reshape(-1, 2),
            "lengths": np.array([sum(map(len, each)) for each in lists], dtype=np.int64),
            "inside": np.concatenate([np.empty(0), *(piece for each in lists for piece in each)]),
            "sketched": np.array(list(self.sketches), dtype=np.int64).reshape(-1, 2),
        }
        if self.sketches:
            joined = QuantileSketch.side_by_side(list(self.sketches.values()))
            state.update({_SKETCH + name: each for name, each in joined.to_state().items()})
        return state

    @classmethod
    def from_state(cls, plan: BracketPlan, state: Mapping[str, np.ndarray]) -> KeptBrackets:
        """Return what :meth:`to_state` gave, beside nothing for the other channels of the plan."""
        found = cls(plan)
        first = int(state["first_channel"])
        channels = slice(first, first + len(state["count"]))
        found.sums[..., channels], found.count[channels] = state["sums"], state["count"]
        pieces = np.split(state["inside"], np.cumsum(state["lengths"])[:-1])
        for (rank, channel), piece in zip(state["places"].tolist(), pieces, strict=False):
            found._keep((rank, first + channel), piece)
        if len(state["sketched"]):
            joined = QuantileSketch.from_state(
                {name.removeprefix(_SKETCH): state[name] for name in state if _SKETCH in name}
            )
            for number, (rank, channel) in enumerate(state["sketched"].tolist()):
                found._merge_sketch((rank, first + channel), joined.select([number]))
        return found

    @property
    def sketched(self) -> np.ndarray:
        """Where the values inside are a sketch, shape (R, C)."""
        found = np.zeros(self.plan.wanted.shape, dtype=bool)
        for place in self.sketches:
            found[place] = True
        return found

    def _keep(self, place: Place, values: Array) -> None:
        if place in self.sketches:
            self._merge_sketch(place, self._sketched([values]))
            return
        self.pieces[place[0]][place[1]].append(values)
        self._kept[place] += len(values)

    def _merge_sketch(self, place: Place, sketch: QuantileSketch) -> None:
        pieces = self.pieces[place[0]][place[1]]
        if pieces:
            sketch = sketch.merge(self._sketched(pieces))
            pieces.clear()
        known = self.sketches.get(place)
        self.sketches[place] = merged = sketch if known is None else known.merge(sketch)
        self._kept[place] = merged.values.size

    def _sketched(self, pieces: list[Array]) -> QuantileSketch:
        return QuantileSketch.of_values(np.concatenate(pieces), error=self.plan.error)

    def _stay_within(self) -> None:
        """Turn the fullest brackets into sketches until memory holds what is kept."""
        if self._kept.sum() <= self.plan.max_values:
            return
        raw = np.where(self.sketched, 0.0, self._kept)
        while raw.any() and self._kept.sum() > self.plan.max_values:
            rank, channel = map(int, np.unravel_index(int(np.argmax(raw)), raw.shape))
            pieces, self.pieces[rank][channel] = self.pieces[rank][channel], []
            self._merge_sketch((rank, channel), self._sketched(pieces))
            raw[rank, channel] = 0.0
