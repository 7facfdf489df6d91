"""Options, checked; each error names the option."""

from __future__ import annotations

import numbers
import operator
import sys
from typing import Any

import numpy as np

__all__ = [
    "MOMENTUM",
    "as_float",
    "as_floats",
    "check_choice",
    "check_count",
    "check_limits",
    "check_size",
    "weight_of_batch",
]


class _Default(float):
    """A default that can be told from the same number given."""


MOMENTUM: float = _Default(0.1)


def as_float(name: str, value: Any, what: str = "a number") -> float:
    """Return a real number as a float.

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If it is an integer or a fraction beyond the largest float.
    """
    if type(value) is float:
        return value
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {what}, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is a number beyond the largest float64") from None


def as_floats(name: str, value: Any) -> np.ndarray:
    """Return a new float64 array of numbers; a ValueError if one is beyond the largest float64."""
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError:
        raise ValueError(f"{name} holds a number beyond the largest float64") from None


def check_count(name: str, value: Any) -> int:
    """Return how many there are of something, a number that arrays can have of it.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is negative, or larger than any array.
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if count < 0:
        raise ValueError(f"{name} must not be negative, got {count}")
    if count > sys.maxsize:
        raise ValueError(f"{name} must be at most {sys.maxsize}, the largest size of an array")
    return count


def weight_of_batch(momentum: Any, decay: Any) -> float | None:
    """Return the weight of the new batch, from whichever was given; None for equal weights.

    Raises
    ------
    ValueError
        If both are given, or the one is outside [0, 1].
    TypeError
        If it is no number.
    """
    if decay is None:
        return None if momentum is None else _unit("momentum", momentum)
    if momentum is not MOMENTUM:
        raise ValueError(
            f"there are both momentum={momentum!r}, the weight of the new batch, and "
            f"decay={decay!r}, the weight of the old value; give one of them"
        )
    return 1.0 - _unit("decay", decay)


def _unit(name: str, value: Any) -> float:
    number = as_float(name, value, "a number or None")
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be None or lie in [0, 1], got {value!r}")
    return number


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the one of the choices that ``value`` equals.

    Raises
    ------
    ValueError
        If there is none.
    """
    for each in choices:
        if value == each:
            return each
    raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_size(name: str, value: Any) -> int | None:
    """Return a positive integer, or None.

    Raises
    ------
    ValueError, TypeError
        If it is neither.
    """
    if value is None:
        return None
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer or None, got {value!r}") from None
    if size < 1:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return size


def check_limits(r_max: Any, d_max: Any) -> tuple[float, float] | None:
    """Return the limits of batch renormalization as floats; None where there are none.

    Raises
    ------
    ValueError
        If there is only one, if ``r_max`` is below 1 or ``d_max`` below 0.
    TypeError
        If one of them is no number.
    """
    if r_max is None and d_max is None:
        return None
    if r_max is None or d_max is None:
        raise ValueError("r_max and d_max go together: batch renormalization needs both")
    limits = as_float("r_max", r_max), as_float("d_max", d_max)
    for name, value, least in zip(("r_max", "d_max"), limits, (1, 0), strict=True):
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return limits
