"""Parameters of scalers as JSON has them, and whether two values of one are the same."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from normcore.array_backend.abstract import Backend

__all__ = ["from_json", "same_value", "to_json"]

Json: TypeAlias = "bool | int | float | str | list[Json] | None"


def same_value(one: object, other: object) -> bool:
    """Whether two values of a parameter are the same: ``[0, 1]`` is ``(0, 1)``, NaN is NaN."""
    if isinstance(one, float) and isinstance(other, float) and np.isnan(one):
        return bool(np.isnan(other))
    return one is other or bool(np.array_equal(one, other))  # type: ignore[arg-type]


def to_json(name: str, value: object) -> Json:
    """Return the value of a parameter as JSON has it, a backend as its name.

    Raises
    ------
    TypeError
        If JSON has no form for it.
    """
    if isinstance(value, Backend):
        return value.name
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple | list):
        return [to_json(name, each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"parameter {name}={value!r} cannot be saved: JSON has no {type(value)}")


def from_json(value: Any) -> Any:
    """Return the value of a parameter that :func:`to_json` gave; sequences are tuples."""
    return tuple(from_json(each) for each in value) if isinstance(value, list) else value
