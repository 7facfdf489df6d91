"""What a report says of one column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["ColumnReport", "Histogram", "Json", "Quartile", "Recommendation"]

#: What JSON holds.
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True)
class Quartile:
    """A quartile, and how far its rank is from what it should be.

    Attributes
    ----------
    q : float
    value : float
        A value of the column, or between two that are neighbours.
    error : float
        The share of the values that lie between it and the exact quartile.
    """

    q: float
    value: float
    error: float

    def to_dict(self) -> dict[str, Json]:
        """Return the attributes."""
        return {"q": self.q, "value": self.value, "rank_error": self.error}


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins of equal width.

    Attributes
    ----------
    low, high : float
        Where the first bin begins and the last one ends.
    counts : tuple of int
    below, above : int
        Values beyond the bins.
    discrete : bool
        Whether each bin is of one value, which is in its middle.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0
    discrete: bool = False

    def to_dict(self) -> dict[str, Json]:
        """Return the attributes."""
        return {
            "low": self.low,
            "high": self.high,
            "counts": list(self.counts),
            "below": self.below,
            "above": self.above,
            "discrete": self.discrete,
        }


@dataclass(frozen=True)
class Recommendation:
    """What to do with a column.

    Attributes
    ----------
    scaler : str or None
        The registered name of the scaler; None for a column that passes through.
    params : mapping
        Parameters of the scaler that are not its defaults.
    reason : str
        A sentence.
    """

    scaler: str | None
    reason: str
    params: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Json]:
        """Return the attributes."""
        return {"scaler": self.scaler, "params": dict(self.params), "reason": self.reason}


@dataclass(frozen=True)
class ColumnReport:
    """What a report says of one column.

    Attributes
    ----------
    name : str
    place : int
        Of the column in its table, counting from 0.
    type : str
        What the column holds, as its table says.
    numeric : bool
        Whether it was looked at; of others there are neither counts nor statistics.
    count : int
        Finite values. Moments, quartiles and histograms are of them.
    nulls, nan, infinity : int
        Missing cells, NaN and infinite values.
    min, max, mean, std : float or None
        None where there is no value. ``std`` is that of the population, as scalers use.
    quartiles : tuple of Quartile
        Three, or none where there is no value.
    outliers : int or None
        Values more than one and a half quartile ranges away from the quartiles.
    before, after : Histogram or None
        Of the values as they are, and as the recommended scaler would map them.
    flags : mapping of str to str
        What there is to know, in a word and a sentence.
    recommendation : Recommendation
    """

    name: str
    place: int
    type: str
    recommendation: Recommendation
    numeric: bool = False
    count: int = 0
    nulls: int = 0
    nan: int = 0
    infinity: int = 0
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None
    quartiles: tuple[Quartile, ...] = ()
    outliers: int | None = None
    before: Histogram | None = None
    after: Histogram | None = None
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def outlier_share(self) -> float | None:
        """The share of outliers among the values."""
        return None if self.outliers is None or not self.count else self.outliers / self.count

    def to_dict(self) -> dict[str, Json]:
        """Return everything in terms of JSON."""
        result: dict[str, Json] = {
            "name": self.name,
            "place": self.place,
            "type": self.type,
            "numeric": self.numeric,
            "flags": dict(self.flags),
            "recommendation": self.recommendation.to_dict(),
        }
        if not self.numeric:
            return result
        return result | {
            "count": self.count,
            "nulls": self.nulls,
            "nan": self.nan,
            "infinity": self.infinity,
            "min": self.min,
            "max": self.max,
            "mean": self.mean,
            "std": self.std,
            "quartiles": [each.to_dict() for each in self.quartiles],
            "outliers": self.outliers,
            "outlier_share": self.outlier_share,
            "histogram_before": None if self.before is None else self.before.to_dict(),
            "histogram_after": None if self.after is None else self.after.to_dict(),
        }
