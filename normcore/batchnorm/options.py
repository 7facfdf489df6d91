"""Options, checked; each error names the option."""

from __future__ import annotations

from typing import Any

from normcore.layout.scalar_argument import (
    as_float,
)

__all__ = ["MOMENTUM", "check_limits", "weight_of_batch"]


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
    number = as_float(name, value, "a number or None")
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be None or lie in [0, 1], got {value!r}")
    return number


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
