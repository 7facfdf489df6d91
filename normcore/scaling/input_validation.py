"""What users pass as X and sample_weight, turned into arrays of real numbers, or refused.

NumPy arrays, nested lists, data frames (pandas, polars and Arrow tables by duck typing: none is
imported here) and arrays of any library that speaks DLPack. Wording follows scikit-learn where
its users rely on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from types import ModuleType
from typing import TypeAlias

import numpy as np

from normcore.layout.namespace import Array, array_namespace
from normcore.layout.scalar_argument import as_float
from normcore.scaling.real_numbers import real_numbers, refuse_rounded_integers

__all__ = [
    "Names",
    "as_table",
    "as_weights",
    "check_flags",
    "check_names",
    "check_shape",
    "column_names",
    "first_infinity",
    "infinity_error",
    "refuse_infinity",
]

#: Names of columns, all of them strings.
Names: TypeAlias = Sequence[str] | np.ndarray

# Rows looked at together in search of an infinity.
BLOCK_ROWS = 4096


def as_table(X: Array, owner: str) -> Array:
    """Return ``X`` as a two-dimensional array of real numbers.

    Parameters
    ----------
    X : array, data frame or nested list of shape (n_samples, n_features)
    owner : str
        Name of the class in whose name errors speak.

    Returns
    -------
    array
        A NumPy array, or ``X`` itself where it is an array of another library. Integers and bool
        stay as they are. Missing values of a frame and masked elements become NaN.

    Raises
    ------
    ValueError
        If ``X`` is not two-dimensional, has no row or no column, or holds text or complex numbers.
    TypeError
        If ``X`` holds objects that are not numbers.
    """
    if isinstance(X, np.ma.MaskedArray):
        masked, X = np.ma.getmaskarray(X), np.asarray(X.data)
        if X.ndim == 2 and masked.any():
            X = np.where(masked, np.nan, real_numbers(X, None))
    elif is_frame(X):
        X = _frame_values(X)
    elif _is_arrow(X):
        X = _arrow_values(X)
    elif isinstance(X, np.ndarray) or not _is_foreign_array(X):
        X = np.asarray(X)
        if X.ndim == 2:
            X = real_numbers(X, None)
    check_shape(X, owner)
    return X


def is_frame(X: Array) -> bool:
    """Whether ``X`` quacks like a data frame: it has named columns and converts to NumPy."""
    if isinstance(X, np.ndarray | list | tuple):
        return False
    return hasattr(X, "column_names") or (hasattr(X, "columns") and hasattr(X, "to_numpy"))


def column_names(X: Array) -> np.ndarray | None:
    """Return the names of a frame's columns, or None where they are not all strings.

    Raises
    ------
    TypeError
        If some are strings and some are not.
    """
    if not is_frame(X):
        return None
    found = list(X.column_names if hasattr(X, "column_names") else X.columns)
    types = sorted({type(name).__qualname__ for name in found})
    if types == ["str"]:
        names = np.empty(len(found), dtype=object)
        names[:] = found
        return names
    if "str" in types:
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your "
            f"input has {types} as feature name / column name types. If you want feature names to "
            "be stored and validated, you must convert them all to strings, by using X.columns = "
            "X.columns.astype(str) for example. Otherwise you can remove feature / column names "
            "from your input data, or convert them all to a non-string data type."
        )
    return None


def check_names(fitted: Names | None, given: Names | None, owner: str) -> None:
    """Compare the feature names of X with those seen in fit; either may be None.

    Raises
    ------
    ValueError
        If both are known and differ.

    Warns
    -----
    UserWarning
        If only one of them is known.
    """
    if fitted is None and given is None:
        return
    if fitted is None:
        message = f"X has feature names, but {owner} was fitted without feature names"
        warnings.warn(message, UserWarning, stacklevel=5)
    elif given is None:
        message = f"X does not have valid feature names, but {owner} was fitted with feature names"
        warnings.warn(message, UserWarning, stacklevel=5)
    elif list(fitted) != list(given):
        lines = ["The feature names should match those that were passed during fit."]
        unexpected = sorted(set(given) - set(fitted))
        missing = sorted(set(fitted) - set(given))
        if unexpected:
            lines += ["Feature names unseen at fit time:", *_bullets(unexpected)]
        if missing:
            lines += ["Feature names seen at fit time, yet now missing:", *_bullets(missing)]
        if not unexpected and not missing:
            lines += ["Feature names must be in the same order as they were in fit."]
        raise ValueError("\n".join(lines) + "\n")


def check_flags(**flags: object) -> None:
    """Refuse parameters that are neither True nor False: the text "False" would count as True.

    Raises
    ------
    ValueError
        If there is such a one.
    """
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def as_weights(sample_weight: Array, num_samples: int) -> Array:
    """Return one weight for each sample.

    Parameters
    ----------
    sample_weight : number or array-like of shape (n_samples,)

    Raises
    ------
    ValueError
        If the shape is another one or all weights are zero. Signs and NaN are looked at where
        the weights meet the data.
    TypeError
        If they are not numbers.
    """
    if _is_arrow(sample_weight):
        sample_weight = _arrow_values(sample_weight)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(num_samples, as_float("sample_weight", sample_weight))
    elif not hasattr(sample_weight, "dtype") and hasattr(sample_weight, "__dlpack__"):
        sample_weight = np.from_dlpack(sample_weight)
    elif isinstance(sample_weight, np.ndarray) or not _is_foreign_array(sample_weight):
        sample_weight = np.asarray(sample_weight)
        if sample_weight.dtype.kind not in "biuf":
            sample_weight = _real_weights(sample_weight)
    if sample_weight.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {sample_weight.ndim}D array. "
            f"Expected either a scalar value or a 1D array of length {num_samples}."
        )
    if sample_weight.shape[0] != num_samples:
        raise ValueError(
            f"sample_weight has {sample_weight.shape[0]} values, but X has {num_samples} rows"
        )
    if isinstance(sample_weight, np.ndarray) and not sample_weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return sample_weight


def first_infinity(x: Array, xp: ModuleType) -> tuple[int, int] | None:
    """Return row and column of the first infinite element of a 2-D array, or None."""
    if xp is np and x.dtype.kind != "f":
        return None
    for start in range(0, x.shape[0], BLOCK_ROWS):
        infinite = xp.isinf(x[start : start + BLOCK_ROWS, :])
        if bool(xp.any(infinite)):
            rows, columns = xp.nonzero(infinite)[:2]
            return start + int(rows[0]), int(columns[0])
    return None


def refuse_infinity(x: Array, names: Names | None) -> None:
    """Refuse a 2-D array with an infinite element.

    Raises
    ------
    ValueError
        Naming the place of the first one.
    """
    place = first_infinity(x, array_namespace(x))
    if place is None:
        return
    raise infinity_error(*place, names)


def infinity_error(row: int, column: int, names: Names | None) -> ValueError:
    """Return the error of an infinite element."""
    label = column_label(column, names)
    return ValueError(
        f"Input X contains infinity: {label}, first at row {row}. Remove the row, or replace the "
        "value by NaN, which scalers skip."
    )


def column_label(column: int, names: Names | None) -> str:
    """Return the words that name a column: ``column 3``, or ``column 'age' (index 3)``."""
    return f"column {column}" if names is None else f"column {names[column]!r} (index {column})"


def check_shape(X: Array, owner: str) -> None:
    """Refuse what is not two-dimensional, or has no row or no column.

    Raises
    ------
    ValueError
        In scikit-learn's words.
    """
    if X.ndim != 2:
        if X.ndim > 2:
            raise ValueError(
                f"Found array with dim {X.ndim}, while dim <= 2 is required by {owner}."
            )
        kind = "1D array" if X.ndim == 1 else "scalar array"
        raise ValueError(
            f"Expected 2D array, got {kind} instead:\narray={X!r}.\n"
            "Reshape your data either using array.reshape(-1, 1) if your data has a single "
            "feature or array.reshape(1, -1) if it contains a single sample."
        )
    rows, columns = X.shape
    if rows == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=({rows}, {columns})) while a minimum of 1 is "
            f"required by {owner}."
        )
    if columns == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape=({rows}, {columns})) while a minimum of 1 is "
            f"required by {owner}."
        )


def _is_foreign_array(X: Array) -> bool:
    return hasattr(X, "__dlpack__") or hasattr(X, "__array_namespace__")


def _is_arrow(X: Array) -> bool:
    """Whether ``X`` is an array, tensor or reader of pyarrow's, unlike NumPy's."""
    return type(X).__module__.partition(".")[0] == "pyarrow" and not is_frame(X)


def _arrow_values(X: Array) -> np.ndarray:
    if not hasattr(X, "to_numpy"):
        raise TypeError(
            f"{type(X).__name__} is neither a table nor an array: read it into a table first "
            "(.read_all()), or use normcore.fit_source"
        )
    options = {"zero_copy_only": False} if hasattr(X, "null_count") else {}
    values: np.ndarray = X.to_numpy(**options)
    return values if values.ndim == 1 else real_numbers(values, None)


def _bullets(names: list[str], most: int = 5) -> list[str]:
    return [f"- {name}" for name in names[:most]] + ["- ..."] * (len(names) > most)


def _frame_values(X: Array) -> np.ndarray:
    values = _converted_frame(X)
    if values.dtype.kind == "f":
        _refuse_rounded_columns(X)
    return values


def _refuse_rounded_columns(X: Array) -> None:
    """Refuse 64-bit integers beside other columns, where float64 loses digits that matter."""
    is_arrow = hasattr(X, "column_names")
    dtypes = X.schema.types if is_arrow else getattr(X, "dtypes", ())
    for j, dtype in enumerate(dtypes):
        kind = str(dtype).lower().partition("[")[0]
        if kind in ("int64", "uint64"):
            name = (X.column_names if is_arrow else X.columns)[j]
            if is_arrow:
                present = X.column(j).drop_null()
            else:
                present = X.iloc[:, j].dropna() if hasattr(X, "iloc") else X[:, j].drop_nulls()
            refuse_rounded_integers(np.asarray(present, dtype=kind), f"column {name!r} of X")


def _converted_frame(X: Array) -> np.ndarray:
    if hasattr(X, "column_names"):  # an Arrow table or record batch
        columns = [
            real_numbers(X.column(j).to_numpy(zero_copy_only=False), name)
            for j, name in enumerate(X.column_names)
        ]
        return np.column_stack(columns) if columns else np.empty((X.num_rows, 0))
    values = X.to_numpy()
    if values.dtype.kind in "biuf" and not _holds_times(X):
        return real_numbers(values, None)
    values = np.empty(X.shape, dtype=np.float64, order="F")
    for j, name in enumerate(X.columns):
        column = X.iloc[:, j] if hasattr(X, "iloc") else X[:, j]
        if not hasattr(X, "iloc"):
            column = column.to_numpy()
        elif getattr(column.dtype, "kind", "O") in "biuf":
            column = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            column = column.to_numpy()
        values[:, j] = real_numbers(column, name)
    return values


def _holds_times(X: Array) -> bool:
    """Whether a polars frame has dates or times, which it would turn into numbers of ticks."""
    dtypes = () if hasattr(X, "iloc") else getattr(X, "dtypes", ())
    return any(hasattr(dtype, "is_temporal") and dtype.is_temporal() for dtype in dtypes)


def _real_weights(weights: np.ndarray) -> np.ndarray:
    try:
        if any(isinstance(each, str | bytes) for each in weights.flat):
            raise TypeError("there is text among them")
        if weights.dtype.kind != "O":
            raise TypeError(f"dtype {weights.dtype}")
        return weights.astype(np.float64)
    except OverflowError:
        raise ValueError("sample_weight holds a number beyond the largest float64") from None
    except (TypeError, ValueError) as error:
        raise TypeError(f"sample_weight must hold real numbers: {error}") from None
