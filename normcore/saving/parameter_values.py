"""Parameters of scalers as JSON has them, and whether two values of one are the same.

A tuple is an array of JSON's. All else that JSON has no form for is an object whose keys say what
it was: ``{"list": [...]}``, ``{"dict": [[key, value], ...]}``, or ``{"array": [...]}`` with a
``dtype`` and a ``shape``.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from normcore.array_backend.abstract import Backend

__all__ = ["check_text", "from_json", "is_plain", "kept", "same_value", "to_json"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_ARRAYS = {"array", "dtype", "shape"}


def same_value(one: object, other: object) -> bool:
    """Whether two values of a parameter are the same: ``[0, 1]`` is ``(0, 1)``, NaN is NaN."""
    if isinstance(one, float) and isinstance(other, float) and np.isnan(one):
        return bool(np.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    return one is other or bool(np.array_equal(one, other))  # type: ignore[arg-type]


def kept(value: Any) -> Any:
    """Return the value of a parameter as it is now: what may change in place is copied."""
    if type(value) in (list, tuple):
        return type(value)(map(kept, value))
    if type(value) is dict:
        return {key: kept(each) for key, each in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def to_json(name: str, value: object) -> Json:
    """Return the value of a parameter as JSON has it, a backend as its name.

    Raises
    ------
    TypeError
        If there is no form for it; the message has the parameter, the place in it and the type.
    ValueError
        If it holds text that UTF-8 has no form for.
    """
    if isinstance(value, Backend):
        return value.name
    if type(value) is np.ndarray and value.dtype.kind in "biufU" and value.dtype.itemsize:
        if value.dtype.kind != "f" or value.dtype.itemsize <= 8:
            numbers = value.ravel().tolist()
            if value.dtype.kind == "U":
                for each in numbers:
                    check_text(f"parameter {name}", each)
            return {"array": numbers, "dtype": value.dtype.str, "shape": list(value.shape)}
    elif isinstance(value, np.generic) and value.dtype.kind in "biufU":
        value = value.item()
    # Of these types alone: a class that derives from one would come back as another.
    if type(value) is tuple:
        return _elements(name, value)
    if type(value) is list:
        return {"list": _elements(name, value)}
    if type(value) is dict and all(type(key) is str for key in value):
        for key in value:
            check_text(f"a key of parameter {name}", key)
        return {"dict": [[key, to_json(f"{name}[{key!r}]", each)] for key, each in value.items()]}
    if type(value) is str:
        check_text(f"parameter {name}", value)
        return value
    if value is None or type(value) is bool or type(value) is int or type(value) is float:
        return value
    raise TypeError(
        f"parameter {name} cannot be saved: a file holds numbers, text, None, and tuples, lists, "
        f"dicts and arrays of these, and it is {_described(value)}"
    )


def check_text(what: str, text: str) -> None:
    """Refuse text with a surrogate by itself, of which no file of UTF-8 can be made."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} cannot be saved: {text!r:.60} holds half of a pair of surrogates"
        ) from None


def from_json(value: Any) -> Any:
    """Return the value of a parameter that :func:`to_json` gave.

    Raises
    ------
    ValueError
        If it gave no such.
    """
    if isinstance(value, list):
        return tuple(from_json(each) for each in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"list"} and isinstance(value["list"], list):
        return [from_json(each) for each in value["list"]]
    if value.keys() == {"dict"}:
        return _dict(value["dict"])
    if value.keys() != _ARRAYS:
        raise ValueError(f"no parameter has the value {value!r:.60}")
    return _array(**value)


def is_plain(value: Json) -> bool:
    """Whether it says all in what JSON has by itself."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return not isinstance(value, dict)


def _elements(name: str, values: tuple[object, ...] | list[object]) -> list[Json]:
    return [to_json(f"{name}[{place}]", each) for place, each in enumerate(values)]


def _dict(items: Any) -> dict[str, Any]:
    try:
        found = {key: from_json(each) for key, each in items}
    except (TypeError, ValueError) as error:
        raise ValueError(f"the dict of a parameter is damaged: {error}") from None
    if not all(type(key) is str for key in found):
        raise ValueError("the dict of a parameter is damaged: its keys are not all text")
    return found


def _array(array: Any, dtype: Any, shape: Any) -> np.ndarray:
    try:
        kind = np.dtype(dtype)
        if kind.kind not in "biufU":
            raise TypeError(f"{dtype!r:.60} is no dtype of numbers or text")
        numbers = np.array(array, dtype=kind)
        if not isinstance(array, list) or numbers.ndim != 1 or math.prod(shape) != numbers.size:
            raise ValueError(f"it has the shape {shape!r:.60}")
        return numbers.reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the array of a parameter is damaged: {error}") from None


def _described(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    dtype = f" of {value.dtype}" if isinstance(value, np.ndarray) else ""
    return f"of type {module}{kind.__qualname__}{dtype}"
