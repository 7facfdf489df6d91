"""Which values a quantile of weighted data is made of, and where they are found.

Both rules name two cumulated weights for a quantile; the values that reach these are what it is
made of. Cumulated weights are exact, so that a quantile depends on the values and their weights
alone: not on their order, the pieces they came in, or what adds them up.

References
----------
R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The American Statistician
50 (1996): ``inverted_cdf`` is type 1, ``linear`` type 7.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.exact_weights import UNIT, CumulatedWeights, rounded
from normcore.statistics.quantile_interpolation import interpolated, neighbours

__all__ = [
    "BracketSums",
    "InvertedCDF",
    "RepeatedInterpolation",
    "WeightedRule",
]

_ROUNDING = 2.0**-44


class WeightedRule(Protocol):
    """What a quantile of weighted values is made of."""

    def targets(self, total: int, q: float) -> tuple[int, int]:
        """Return the cumulated weights, in units, that the values have to reach."""

    def made_of(self, first: Array, last: Array, total: Array, q: Array) -> Array:
        """Return the quantiles that values make."""


class InvertedCDF:
    """The first value at which the cumulated weight reaches the quantile (type 1)."""

    def targets(self, total: int, q: float) -> tuple[int, int]:
        """See :meth:`WeightedRule.targets`."""
        if q == 1.0:  # the maximum, whatever it weighs
            return total, total
        # A q such as 0.1 is a little more than what is meant, and so may weights be less.
        numerator, denominator = (q * (1.0 - _ROUNDING)).as_integer_ratio()
        target = max(1, -(-numerator * total // denominator))
        return target, target

    def made_of(self, first: Array, last: Array, total: Array, q: Array) -> Array:
        """See :meth:`WeightedRule.made_of`."""
        return first


class RepeatedInterpolation:
    """Interpolation between the values around a rank, each repeated as its whole weight says."""

    def targets(self, total: int, q: float) -> tuple[int, int]:
        """See :meth:`WeightedRule.targets`."""
        first, last, _ = neighbours(q, total / UNIT)
        return (int(first) + 1) * UNIT, (int(last) + 1) * UNIT

    def made_of(self, first: Array, last: Array, total: Array, q: Array) -> Array:
        """See :meth:`WeightedRule.made_of`."""
        return interpolated(first, last, q, rounded(total))


class BracketSums(NamedTuple):
    """The ends of a bracket, and what lies below, on and inside it, in units of weight."""

    lower: float
    upper: float
    below: int
    equal_lower: int
    inside: int
    equal_upper: int

    @property
    def edge(self) -> int:
        """What lies at the lower end or below."""
        return self.below + self.equal_lower

    @property
    def end(self) -> int:
        """What lies at the upper end or below."""
        return self.edge + self.inside + self.equal_upper

    def value_at(
        self, target: int, values: np.ndarray, cumulated: CumulatedWeights | None
    ) -> float:
        """Return the first value whose cumulated weight reaches a target; NaN if it is not known.

        Parameters
        ----------
        values : array
            Inside, ascending.
        cumulated : CumulatedWeights or None
            Of their weights; None where these are not all that lies inside.
        """
        if not self.below < target <= self.end:
            return np.nan
        if target <= self.edge:
            return self.lower
        if target > self.edge + self.inside:
            return self.upper
        if cumulated is None:
            return np.nan
        return float(values[cumulated.first_reaching(target - self.edge)])
