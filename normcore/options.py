"""Options of batch norm, checked; each error names the option."""

from __future__ import annotations

import numbers
import operator
from typing import Any

__all__ = ["MOMENTUM", "check_choice", "check_limits", "check_size", "weight_of_batch"]


class _Default(float):
    """A default that can be told from the same number given."""


MOMENTUM: float = _Default(0.1)


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
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number or None, got {value!r}")
    number = float(value)
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
    for name, value, least in (("r_max", r_max, 1), ("d_max", d_max, 0)):
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not float(value) >= least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return float(r_max), float(d_max)
