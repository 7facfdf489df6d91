"""What a number or a choice among the arguments may be; each error names the argument."""

from __future__ import annotations

import numbers
import operator
import sys
from typing import SupportsIndex, TypeVar

import numpy as np

__all__ = ["as_float", "as_floats", "check_choice", "check_count", "check_size"]

T = TypeVar("T")


def as_float(name: str, value: object, what: str = "a number") -> float:
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


def as_floats(name: str, value: object) -> np.ndarray:
    """Return a new float64 array of numbers; a ValueError if one is beyond the largest float64."""
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError:
        raise ValueError(f"{name} holds a number beyond the largest float64") from None


def check_count(name: str, value: SupportsIndex) -> int:
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


def check_choice(name: str, value: object, choices: tuple[T, ...]) -> T:
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


def check_size(name: str, value: SupportsIndex | None) -> int | None:
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
