"""Parameters of scalers as JSON has them, and whether two values of one are the same.

A tuple is an array of JSON's. All else that JSON has no form for is an object whose keys say what
it was: ``{"list": [...]}``, ``{"dict": [[key, value], ...]}``, NumPy's ``{"scalar": value}`` with a
``dtype``, or ``{"array": [...]}`` with a ``dtype`` and a ``shape``. Classes derived from these, as
enumerations, named tuples and masked arrays, would come back as something else: they have no form.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from normcore.array_backend.abstract import Backend

__all__ = ["from_json", "is_plain", "same_value", "to_json"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_ARRAYS = {"array", "dtype", "shape"}
_SCALARS = {"scalar", "dtype"}


def same_value(one: object, other: object) -> bool:
    """Whether two values of a parameter are the same: ``[0, 1]`` is ``(0, 1)``, NaN is NaN."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    floats = _holds_floats(one) and _holds_floats(other)
    return bool(np.array_equal(one, other, equal_nan=floats))  # type: ignore[arg-type]


def to_json(name: str, value: object) -> Json:
    """Return the value of a parameter as JSON has it, a backend as its name.

    Raises
    ------
    TypeError
        If there is no form for it; the message has the parameter, the place in it and the type.
    ValueError
        If text in it is no Unicode.
    """
    if isinstance(value, Backend):
        return value.name
    if type(value) is np.ndarray and _is_exact(value.dtype):
        numbers = value.ravel().tolist()
        if value.dtype.kind == "U":
            _check_text(name, "".join(numbers))
        return {"array": numbers, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic) and type(value).__module__ == "numpy":
        if _is_exact(value.dtype) or value == "":
            return {"scalar": to_json(name, value.item()), "dtype": value.dtype.str}
    elif type(value) is tuple:
        return _elements(name, value)
    elif type(value) is list:
        return {"list": _elements(name, value)}
    elif type(value) is dict and all(type(key) is str for key in value):
        _check_text(name, "".join(value))
        return {"dict": [[key, to_json(f"{name}[{key!r}]", each)] for key, each in value.items()]}
    elif type(value) is str:
        _check_text(name, value)
        return value
    elif value is None or type(value) in (bool, int, float):
        return value  # type: ignore[return-value]
    raise TypeError(
        f"parameter {name} cannot be saved: a file holds numbers, text, None, and tuples, lists, "
        f"dicts and arrays of these, no classes derived from them, and it is {_described(value)}"
    )


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
    if value.keys() == _SCALARS and not isinstance(value["scalar"], list | dict):
        return _array([value["scalar"]], value["dtype"], [1])[0]
    if value.keys() != _ARRAYS:
        raise ValueError(f"no parameter has the value {value!r:.60}")
    return _array(**value)


def is_plain(value: Json) -> bool:
    """Whether it says all in what JSON has by itself."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return not isinstance(value, dict)


def _holds_floats(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f"
    return isinstance(value, float | np.floating)


def _is_exact(dtype: np.dtype) -> bool:
    """Whether values come back from Python's own numbers and text as they were."""
    if dtype.kind == "f":
        return dtype.itemsize <= 8
    return dtype.kind in "biuU" and dtype.itemsize > 0


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"parameter {name} cannot be saved: a lone surrogate in its text is no Unicode"
        ) from None


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
