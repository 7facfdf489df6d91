"""Fitted scalers as files: one JSON object, exact, with nothing executable in it.

::

    {
      "format": "normcore",
      "version": 1,
      "scaler": "standard",
      "class": "normcore:StandardScaler",
      "params": {"copy": true, "with_mean": true, "with_std": true, "backend": null},
      "statistic": {"name": "moments", "parts": {"shape": [7, 30], "float64": [...]}},
      "n_features_in": 30,
      "feature_names_in": ["radius", ...],
      "n_samples_seen": 569
    }

An array of float64 is an object of ``shape`` and ``float64``, its values in row-major order with
as many digits as restore them exactly; those that JSON has no number for are the strings
``"nan"``, ``"inf"`` and ``"-inf"``. A lone float that JSON cannot write is such an array of shape
``[]``.

Version 2 adds what version 1 cannot say: ``attributes``, fitted attributes that were assigned,
``"n_samples_seen": null`` for statistics that were given without a count, and parameters that are
lists, dicts, scalars of NumPy or arrays (:mod:`~normcore.saving.parameter_values`). A file is of
the lowest version that says what it has to.

The class is found by its registered name, ``scaler``; ``class`` is for people to read. A file
therefore never decides what is imported.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, Self

import numpy as np

from normcore import registration
from normcore.registration.registry import imported
from normcore.saving.atomic_output import atomic_output
from normcore.saving.parameter_values import is_plain

__all__ = ["load", "load_scaler", "registered_name", "save_scaler"]

FORMAT = "normcore"
VERSION = 2


#: What is made of scalers and is none itself, by the names that files have for it.
_COMPOSED = {"columns": "normcore.reporting.column_scaler:ColumnScaler"}


class SavableScaler(Protocol):
    """A scaler that describes itself as JSON-able values and float64 arrays."""

    def to_dict(self) -> dict[str, object]:
        """Return the description."""
        ...

    @classmethod
    def from_dict(cls, saved: Mapping[str, object]) -> Self:
        """Return the scaler of a description."""
        ...


def registered_name(cls: type) -> str:
    """Return the name under which a scaler class is registered, by which files name it.

    Raises
    ------
    ValueError
        If there is none, or files have it for something else.
    """
    name = registration.scaler_name(cls)
    if name in _COMPOSED:
        raise ValueError(
            f"{cls.__name__} is registered as {name!r}, which is what files call a "
            f"{_COMPOSED[name].rpartition(':')[2]}; register it under another name"
        )
    if name is None:
        raise ValueError(
            f"{cls.__name__} is not registered, so a saved file could not name it; register "
            "it in a plugin with registry.scaler(name, target)"
        )
    return name


def save_scaler(scaler: SavableScaler, path: str | os.PathLike[str]) -> None:
    """Save a fitted scaler; :func:`load_scaler` restores it with its whole statistic.

    An existing file is replaced in one step, and stays as it was if anything goes wrong.

    Parameters
    ----------
    scaler : Scaler
        Fitted, of a class that is registered under a name.
    path : path of the file

    Raises
    ------
    NotFittedError
        If the scaler is not fitted.
    ValueError
        If its class is not registered.
    TypeError
        If a parameter has no form in JSON.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import normcore as nc
    >>> from normcore.io import save_scaler
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_scaler(nc.MinMaxScaler().fit([[0.0], [2.0]]), os.path.join(folder, "scaler.json"))
    """
    description = scaler.to_dict()
    params = description.get("params")
    plain = (
        "attributes" not in description
        and description.get("n_samples_seen") is not None
        and (not isinstance(params, dict) or all(map(is_plain, params.values())))
    )
    entries = {"format": FORMAT, "version": 1 if plain else VERSION, **description}
    lines = [f"  {json.dumps(key)}: {_dumps(value)}" for key, value in entries.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def load_scaler(path: str | os.PathLike[str]) -> Any:
    """Load a fitted scaler that :func:`save_scaler` wrote.

    Parameters
    ----------
    path : str or PathLike

    Returns
    -------
    Scaler
        Of the class that is registered here under the name in the file.

    Raises
    ------
    ValueError
        If the file is not a saved scaler, is truncated or damaged, is of a newer version, or
        names a scaler that no installed plugin provides. The message names the file.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import normcore as nc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "scaler.json")
    ...     nc.StandardScaler().fit([[0.0], [2.0]]).save(path)
    ...     nc.load(path).mean_
    array([1.])
    """
    try:
        return _load(Path(path))
    except RecursionError as error:
        raise ValueError(
            f"{path} is damaged: its JSON is nested too deeply; save the scaler again"
        ) from error


#: The public name, ``normcore.load``.
load = load_scaler


def _load(path: Path) -> SavableScaler:
    entries = _read(path)
    name = entries.get("scaler")
    if not isinstance(name, str):
        raise ValueError(f"{path} is damaged: it does not say which scaler it holds")
    try:
        cls: type[SavableScaler] = (
            imported(_COMPOSED[name]) if name in _COMPOSED else registration.scaler(name)
        )
    except ValueError as error:
        hint = f"install the plugin that provides {entries.get('class') or name}"
        raise ValueError(f"{path}: {error}; {hint}") from error
    try:
        return cls.from_dict({key: _decode(value) for key, value in entries.items()})
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        raise ValueError(f"{path} is damaged: {reason}; save the scaler again") from error


def _read(path: Path) -> dict[str, object]:
    with open(path, "rb") as file:
        start = file.read(64)
        if not start.strip():
            raise ValueError(f"{path} is empty; it should hold a saved scaler")
        if not start.lstrip().startswith(b"{"):
            raise ValueError(f"{path} is not a saved scaler of normcore: it is not a JSON object")
        data = start + file.read()
    try:
        entries = json.loads(
            data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a saved scaler of normcore: it is not UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        if not data.rstrip().endswith(b"}"):
            raise ValueError(
                f"{path} is truncated: its JSON breaks off at {place}; save the scaler again"
            ) from error
        raise ValueError(f"{path} is damaged: {error.msg} at {place}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if entries.get("format") != FORMAT:
        raise ValueError(f'{path} is not a saved scaler of normcore: it lacks "format": "normcore"')
    version = entries.get("version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} is damaged: its version is {version!r}")
    if version > VERSION:
        raise ValueError(
            f"{path} is of version {version}, written by a newer normcore; this one reads up to "
            f'version {VERSION}: pip install --upgrade "normcore-arrays"'
        )
    return dict(entries)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.60} is there twice")
    return found


def _dumps(value: object) -> str:
    return json.dumps(_encode(value), allow_nan=False, ensure_ascii=False)


def _encode(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        value = np.array(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise TypeError(f"an array of {value.dtype} cannot be saved as float64")
        exact = value.astype(np.float64)
        if not np.array_equal(exact.astype(value.dtype), value, equal_nan=True):
            raise TypeError(f"an array of {value.dtype} cannot be saved exactly as float64")
        values = [_number(each) for each in exact.ravel().tolist()]
        return {"shape": list(value.shape), "float64": values}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys must be strings to be saved, not {list(value)!r}")
        return {key: _encode(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be saved: JSON has no form for {value!r}")


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


def _decode(value: object) -> object:
    if isinstance(value, list):
        return [_decode(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"shape", "float64"}:
        return {key: _decode(each) for key, each in value.items()}
    shape, numbers = value["shape"], value["float64"]
    if not isinstance(shape, list) or any(type(each) is not int or each < 0 for each in shape):
        raise ValueError(f"an array cannot have the shape {shape!r:.60}")
    if not isinstance(numbers, list):
        raise ValueError(f"the numbers of an array must be a list, not {numbers!r:.60}")
    for each in numbers:
        if type(each) not in (int, float) and each not in ("nan", "inf", "-inf"):
            raise ValueError(f"{each!r:.60} is not a number")
    if len(numbers) != math.prod(shape):
        raise ValueError(f"an array of shape {tuple(shape)} has {len(numbers)} values")
    array = np.array([float(each) for each in numbers], dtype=np.float64).reshape(shape)
    return array if shape else array.item()
