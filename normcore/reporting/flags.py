"""What there is to know of a column: flags, and why some columns should not be scaled."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FLAGS", "NEAR_CONSTANT", "Facts", "flags_of", "type_flag", "why_not_scaled"]

#: Every flag, and what it is called.
FLAGS = {
    "empty": "no values",
    "constant": "constant",
    "near_constant": "near-constant",
    "binary": "binary",
    "one_hot": "one-hot",
    "zero_iqr": "zero IQR",
    "heavy_tail": "heavy tail",
    "skewed": "skewed",
    "cancellation": "float32 cancels",
    "infinity": "infinity",
    "time_stamp": "time stamp",
    "identifier": "identifier",
    "text": "not numeric",
}
#: Share of the most common value from which on a column is near-constant.
NEAR_CONSTANT = 0.99
_HEAVY_TAIL = 1.9
_SKEWED = 1.0
# Values of fewer digits than this beside their spread are no use to float32.
_FLOAT32_DIGITS = 1e-3
_FLOAT32_EPS = 2.0**-24
# From 1990 to 2100, in seconds; and how many of a unit are a second.
_YEARS = (631152000, 4102444800)
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_FEW_ROWS = 20
_TIME_NAME = re.compile(r"(^|[^a-z])(time|date|ts|epoch|timestamp|datetime)([^a-z]|$)|_at$", re.I)
_ID_NAME = re.compile(r"(^|[^a-z])(id|uuid|guid|key)([^a-z]|$)|[a-z]I[dD]$")


@dataclass(frozen=True)
class Facts:
    """What flags follow from; NaN is what is not known."""

    name: str
    count: int
    infinity: int
    low: float
    high: float
    mean: float
    std: float
    zero_iqr: bool
    #: Share of the most common of the three quartiles among the values.
    alike: float
    skewness: float
    tail_weight: float
    whole: bool
    two_valued: bool
    ascending: bool
    one_hot: bool


def flags_of(facts: Facts) -> dict[str, str]:
    """Return the flags of a column of numbers, each with a sentence."""
    found: dict[str, str] = {}
    if facts.infinity:
        found["infinity"] = f"{facts.infinity:,} infinite values, which scalers refuse."
    if not facts.count:
        found["empty"] = "There is no finite value."
    elif facts.low == facts.high:
        found["constant"] = f"All values are {facts.low:.6g}."
    elif facts.one_hot:
        found["one_hot"] = "With columns beside it, exactly one of which is 1 in each row."
    elif facts.two_valued:
        found["binary"] = f"Only {facts.low:.6g} and {facts.high:.6g} occur."
    else:
        found |= _of_measures(facts)
    if facts.count and facts.high > facts.low and not facts.two_valued:
        unit = _unit_of_time(facts)
        if unit is not None:
            found["time_stamp"] = f"Whole numbers like {unit} since 1970."
        else:
            why = _identifies(facts)
            if why is not None:
                found["identifier"] = why
    return found


def _of_measures(facts: Facts) -> dict[str, str]:
    found: dict[str, str] = {}
    if facts.alike >= NEAR_CONSTANT:
        found["near_constant"] = f"One value is {facts.alike:.2%} of all."
    elif facts.zero_iqr:
        found["zero_iqr"] = "At least half of the values are alike; the quartile range is 0."
    if facts.tail_weight > _HEAVY_TAIL:
        found["heavy_tail"] = (
            f"The tails are {facts.tail_weight:.1f} times as wide as those of a normal "
            "distribution with these quartiles."
        )
    if abs(facts.skewness) >= _SKEWED:
        found["skewed"] = f"Skewness {facts.skewness:.1f} between the outer fences."
    largest = max(abs(facts.low), abs(facts.high))
    if largest * _FLOAT32_EPS > facts.std * _FLOAT32_DIGITS:
        steps = facts.std / (largest * 2 * _FLOAT32_EPS)
        found["cancellation"] = (
            f"In float32, values near {largest:.2g} are so far apart that a standard deviation is "
            f"{steps:.2g} steps; subtract an offset in float64 first."
        )
    return found


def why_not_scaled(flags: dict[str, str]) -> str | None:
    """Return why a column should pass through, in a sentence; None where it should not."""
    reasons = {
        "empty": "There are no values to learn from.",
        "constant": "A constant tells nothing; there is no scale to divide by.",
        "one_hot": "One-hot: 0 and 1 are on a common scale already.",
        "binary": "Two values are a category, not a measure.",
        "time_stamp": "A point in time: take differences or parts of dates as features, not this.",
        "identifier": "It tells rows apart and measures nothing.",
        "text": "It holds no numbers.",
    }
    return next((reasons[flag] for flag in reasons if flag in flags), None)


def type_flag(kind: str) -> dict[str, str]:
    """Return the flag of a column whose type is not numeric."""
    if kind == "null":
        return {"empty": "There is no value."}
    if re.match(r"(timestamp|date|time|duration)", kind):
        return {"time_stamp": f"Its type is {kind}."}
    return {"text": f"Its type is {kind}."}


def _unit_of_time(facts: Facts) -> str | None:
    if not facts.whole or facts.count < 2:
        return None
    for unit, number in _UNITS.items():
        if _YEARS[0] * number <= facts.low and facts.high <= _YEARS[1] * number:
            # There are other numbers of that size than seconds.
            named = facts.ascending or _TIME_NAME.search(facts.name)
            return unit if named or unit != "seconds" else None
    return None


def _identifies(facts: Facts) -> str | None:
    if not facts.whole or facts.count < _FEW_ROWS:
        return None
    if facts.ascending:
        return "Whole numbers that ascend from row to row."
    number, span = facts.count, facts.high - facts.low + 1
    # The moments of numbers of which each occurs once.
    if (
        number == span
        and abs(facts.mean - (facts.low + facts.high) / 2) < 1e-9 * span
        and abs(facts.std**2 * 12 / (number * number - 1) - 1) < 1e-9
    ):
        return "Each whole number from the smallest to the largest occurs once."
    if _ID_NAME.search(facts.name) and span > number / 2:
        return "Whole numbers with the name of an identifier."
    return None
