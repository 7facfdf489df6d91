"""Arrays of anything, turned into real numbers of a dtype that kernels read, or refused."""

from __future__ import annotations

import sys

import numpy as np

from normcore.layout.bfloat16 import widened
from normcore.layout.namespace import Array, array_namespace, to_numpy
from normcore.statistics.wide_integers import refuse_rounded

__all__ = ["as_numbers", "on_host", "real_numbers", "refuse_rounded_integers"]


def as_numbers(values: Array, what: str) -> np.ndarray:
    """Return numbers in any container as a float64 array; None and pandas' NA become NaN.

    Parameters
    ----------
    values : number, sequence, array of any library, series or Arrow array
    what : str
        Its name in errors.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If they have no shape, or one is beyond what float64 holds.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.where(np.ma.getmaskarray(values), np.nan, values.data)
    try:
        array = on_host(values) if hasattr(values, "__dlpack__") else np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{what} is no array: {error}") from None
    array = widened(array)
    if array.dtype.kind == "O":
        array = _without_na(array)
        if any(isinstance(value, str | bytes) for value in array.flat):
            raise TypeError(f"{what} must hold real numbers, but there is text among them")
    elif array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold real numbers, not {array.dtype}")
    try:
        with np.errstate(over="ignore"):
            return array.astype(np.float64)
    except OverflowError:
        raise ValueError(f"{what} holds a number beyond the largest float64") from None
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must hold real numbers: {error}") from None


def on_host(values: Array) -> np.ndarray:
    """Return an array of any library as NumPy's, of float64 where that lacks its dtype."""
    detached = getattr(values, "detach", None)  # a tensor that records gradients is not exported
    if detached is not None:
        values = detached()
    try:
        return to_numpy(values)
    except (RuntimeError, TypeError):
        xp = array_namespace(values)
        return np.from_dlpack(xp.astype(values, xp.float64))


def real_numbers(values: np.ndarray, name: object) -> np.ndarray:
    """Return real numbers of a dtype that kernels read; None and pandas' NA become NaN.

    Parameters
    ----------
    values : NumPy array of one or two dimensions
    name : object
        Of the frame's column that they are, if any.

    Raises
    ------
    ValueError
        If they are complex or text, or an integer is beyond what float64 holds.
    TypeError
        If they are objects that are not numbers.
    """
    kind, where = values.dtype.kind, "X" if name is None else f"column {name!r} of X"
    if kind in "biuf":
        return values if values.dtype.itemsize <= 8 else values.astype(np.float64)
    if kind == "c":
        raise ValueError(f"Complex data not supported: {where} has dtype {values.dtype}.")
    if kind != "O":
        what = "text" if kind in "USTa" else "no numbers"
        raise ValueError(
            f"{where} holds {what} (dtype {values.dtype}). Convert it to numbers first."
        )
    values = _without_na(values)
    try:
        result = values.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{where} holds an integer beyond the largest float64: {error}") from None
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_culprit(values, where)} is not numeric: {error}") from None
    if any(isinstance(value, str | bytes) for value in values.flat):
        raise ValueError(f"{_culprit(values, where)} holds text. Convert it to numbers first.")
    if bool(np.any(np.abs(result) > 2.0**53)):
        for j in range(values.shape[1] if values.ndim == 2 else 1):
            column = values[:, j] if values.ndim == 2 else values.reshape(-1)
            integers = [int(each) for each in column if isinstance(each, int | np.integer)]
            dtype = np.dtype(np.int64 if min(integers, default=0) < 0 else np.uint64)
            bounds = np.iinfo(dtype)
            if all(bounds.min <= each <= bounds.max for each in integers):
                label = f"column {j} of X" if values.ndim == 2 else where
                refuse_rounded_integers(np.array(integers, dtype=dtype), label)
    return result


def refuse_rounded_integers(integers: np.ndarray, where: str) -> None:
    """Refuse 64-bit integers of which float64 loses digits that matter."""
    if not integers.size:
        return
    least, largest = int(integers.min()), int(integers.max())
    magnitude = float(max(abs(least), abs(largest)))
    refuse_rounded(integers, None, magnitude, float(largest - least), lambda _: where)


def _without_na(values: np.ndarray) -> np.ndarray:
    """Return objects with NaN where they are pandas' NA, which converts to no number."""
    missing = getattr(sys.modules.get("pandas"), "NA", None)
    if missing is None:
        return values
    found = np.asarray(np.frompyfunc(lambda value: value is missing, 1, 1)(values), dtype=bool)
    return np.where(found, np.nan, values) if found.any() else values


def _culprit(values: np.ndarray, where: str) -> str:
    """Name the first column of an object array that holds something other than a number."""
    if values.ndim == 2:
        for j in range(values.shape[1]):
            for value in values[:, j]:
                if isinstance(value, str | bytes) or not (
                    value is None or hasattr(value, "__float__") or hasattr(value, "__index__")
                ):
                    return f"column {j} of {where}"
    return where
