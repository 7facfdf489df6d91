"""Exact quantiles of weighted data that is read again and again, in bounded memory.

A first pass takes a sample, which gives each rank a bracket of two values. A further pass sums what
lies below a bracket and on its ends, exactly, and keeps what lies inside, or a sample of that where
it is much. What reaches a rank is found then, or known to lie between closer ends; the next bracket
lies within these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from normcore.statistics.exact_weights import UNIT, CumulatedWeights, rounded, split
from normcore.statistics.kept_brackets import Place
from normcore.statistics.quantile_interpolation import as_quantiles
from normcore.statistics.reread_quantiles import ValuesChanged
from normcore.statistics.weighted_brackets import WeightedBrackets, WeightedPlan
from normcore.statistics.weighted_quantiles import BracketSums, WeightedRule
from normcore.statistics.weighted_sample import SampledColumn

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["RereadWeighted"]

_WIDER = 3.0
_NUMBERS = 3  # that are kept of a value: itself, its weight, its priority
_LEAST_CAPACITY = 64
# Looks at one rank: data that stays the same takes far fewer, whatever it is.
_MOST_LOOKS = 200


class _Known(NamedTuple):
    """A sample around a rank, and what is known of its place in the data."""

    column: SampledColumn
    before: int  # what weighs below the sample, in units
    inside: int  # what the sample is of weighs; 0 where that is not known yet


class RereadWeighted:
    """The quantiles of weighted channels, of data that can be read again.

    Used as :class:`~normcore.statistics.reread_quantiles.RereadQuantiles` is.

    Parameters
    ----------
    rule : WeightedRule
    q : array of shape (R,)
        In [0, 1].
    columns : sequence of SampledColumn
        Of each channel.
    max_values : int
        Numbers that a pass may keep in all.
    """

    def __init__(
        self,
        rule: WeightedRule,
        q: ArrayLike,
        columns: Sequence[SampledColumn],
        max_values: int,
    ) -> None:
        self._rule, self._q = rule, as_quantiles(q)
        self._max_values = max_values
        shape = self._q.size, len(columns)
        self._total = np.zeros(len(columns), dtype=object)  # in units
        self._is_total = np.zeros(len(columns), dtype=bool)
        self._values = np.full(shape, np.nan)
        self._low, self._high = np.full(shape, -np.inf), np.full(shape, np.inf)
        self._reach = np.ones(shape)
        self._targets: dict[Place, tuple[int, int]] = {}
        self._known: dict[Place, _Known] = {}
        self._looks = np.zeros(shape, dtype=np.int64)
        self._weighed: dict[Place, dict[float, tuple[int, int]]] = {}  # below values, and up to
        for channel, column in enumerate(columns):
            places = [(rank, channel) for rank in range(self._q.size)]
            self._known.update(dict.fromkeys(places, _Known(column, 0, 0)))
            if column.weights is not None:
                total = column.weights[-1] if len(column.weights) else 0
                self._aim(channel, total)
                whole = BracketSums(-np.inf, np.inf, 0, 0, total, 0)
                for place in places if total else ():
                    self._settle(place, whole, column)

    def _aim(self, channel: int, total: int) -> None:
        """Learn what all values of a channel weigh."""
        self._total[channel], self._is_total[channel] = total, True
        for rank, each in enumerate(self._q.tolist()):
            if total:
                self._targets[rank, channel] = self._rule.targets(total, each)
            else:
                del self._known[rank, channel]

    def plan(self) -> WeightedPlan | None:
        """Return what the next pass is to look at; None if none is needed any more."""
        if not self._known:
            return None
        number = max(1, self._max_values // (_NUMBERS * _LEAST_CAPACITY))
        places = list(self._known)[:number]
        lower, upper = np.full((2, *self._values.shape), np.inf)
        wanted = np.zeros(self._values.shape, dtype=bool)
        for place in places:
            lower[place], upper[place] = self._ends(place)
            wanted[place] = True
        capacity = max(_LEAST_CAPACITY, self._max_values // (_NUMBERS * len(places)))
        return WeightedPlan(lower, upper, wanted, capacity)

    def _ends(self, place: Place) -> tuple[float, float]:
        """Return a bracket around a rank."""
        column, before, inside = self._known[place]
        first = last = float(self._q[place[0]])
        if inside:
            first, last = (
                min(max((target - before) / inside, 0.0), 1.0) for target in self._targets[place]
            )
        within = float(self._low[place]), float(self._high[place])
        return column.around((first, last), within, float(self._reach[place]))

    def learn(self, seen: WeightedBrackets) -> None:
        """Find what the pass has shown that its plan was for.

        Raises
        ------
        ValuesChanged
            If it saw what is not there in the data of the passes before.
        """
        plan = seen.plan
        for channel in np.flatnonzero(~self._is_total).tolist():
            self._aim(channel, seen.total[channel])
        changed = np.flatnonzero(seen.total != self._total)
        if changed.size:
            channel = int(changed[0])
            before, now = (each[channel] / UNIT for each in (self._total, seen.total))
            raise ValuesChanged(
                f"the values of column {channel} weighed {before:,.6g} and weigh {now:,.6g} when "
                "they are read again"
            )
        none = SampledColumn(np.empty(0), CumulatedWeights(split(np.empty(0))), None, None)
        for rank, channel in np.argwhere(plan.wanted).tolist():
            place = rank, channel
            if place not in self._known:
                continue
            ends = float(plan.lower[place]), float(plan.upper[place])
            bracket = BracketSums(*ends, *(each[place] for each in seen.sums))
            self._refuse_change(place, bracket)
            sample = seen.samples.get(place)
            column = none if sample is None else sample.column()
            if not self._settle(place, bracket, column):
                self._narrow(place, bracket, column)

    def _refuse_change(self, place: Place, bracket: BracketSums) -> None:
        """Refuse a bracket that contradicts the earlier ones, or the sample that it was made of."""
        sampled = self._known[place].column.values
        weighed = self._weighed.setdefault(place, {})
        inner = bracket.edge, bracket.edge + bracket.inside
        if bracket.lower == bracket.upper:
            inner = bracket.end, bracket.below
        self._looks[place] += 1
        same = bool(self._looks[place] <= _MOST_LOOKS)
        for value, below, end in (
            (bracket.lower, bracket.below, inner[0]),
            (bracket.upper, inner[1], bracket.end),
        ):
            at = int(np.searchsorted(sampled, value))
            was_there = at < len(sampled) and sampled[at] == value
            same &= weighed.setdefault(value, (below, end)) == (below, end)
            same &= end > below or not was_there
        cumulated = [each for _, pair in sorted(weighed.items()) for each in pair]
        if not same or cumulated != sorted(cumulated):
            raise ValuesChanged(f"column {place[1]} holds other values when it is read again")

    def _settle(self, place: Place, bracket: BracketSums, column: SampledColumn) -> bool:
        """Find a quantile, if all that it is made of is known."""
        first, last = self._targets[place]
        one = bracket.value_at(first, column.values, column.weights)
        other = one if first == last else bracket.value_at(last, column.values, column.weights)
        if np.isnan(one) or np.isnan(other):
            return False
        rank, channel = place
        total = np.array(self._total[channel], dtype=object)
        made = self._rule.made_of(one, other, total, float(self._q[rank]))
        self._values[place] = made + 0.0  # -0.0 reads as 0.0
        del self._known[place]
        return True

    def _narrow(self, place: Place, bracket: BracketSums, column: SampledColumn) -> None:
        """Learn between which values the two of a quantile lie."""
        first, last = self._targets[place]
        if first > bracket.end:
            self._low[place] = np.nextafter(bracket.upper, np.inf)
        elif first > bracket.below:
            self._low[place] = max(self._low[place], bracket.lower)
        if last <= bracket.below:
            self._high[place] = np.nextafter(bracket.lower, -np.inf)
        elif last <= bracket.end:
            self._high[place] = min(self._high[place], bracket.upper)
        if first > bracket.below and last <= bracket.end:
            self._known[place] = _Known(column, bracket.edge, bracket.inside)
            self._reach[place] = 1.0
        else:
            self._reach[place] *= _WIDER

    @property
    def values(self) -> np.ndarray:
        """The quantiles, of shape (R, C); NaN of a channel without values."""
        return self._values

    @property
    def count(self) -> np.ndarray:
        """What the values of each channel weigh, rounded once."""
        return rounded(self._total)
