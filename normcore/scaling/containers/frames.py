"""Data frames of pandas and polars and tables of Arrow, by duck typing: none is imported here."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling.real_numbers import real_numbers, refuse_rounded_integers

__all__ = [
    "arrow_values",
    "check_same_columns",
    "column_names",
    "columns_named",
    "frame_names",
    "frame_values",
    "is_arrow_array",
    "is_frame",
    "library_of",
    "result_dtypes",
]

# What floating dtypes are called, in lower case, that results keep; others become float64.
_NARROW: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "halffloat": np.dtype(np.float16),
    "float": np.dtype(np.float32),
    "float32": np.dtype(np.float32),
}


def is_frame(X: Array) -> bool:
    """Whether ``X`` quacks like a data frame: it has named columns and converts to NumPy."""
    if isinstance(X, np.ndarray | list | tuple):
        return False
    return _is_arrow_table(X) or (hasattr(X, "columns") and hasattr(X, "to_numpy"))


def library_of(X: Array) -> str:
    """Return the name of the library that ``X`` is of."""
    return type(X).__module__.partition(".")[0]


def is_arrow_array(X: Array) -> bool:
    """Whether ``X`` is an array, tensor or reader of pyarrow's, unlike NumPy's."""
    return library_of(X) == "pyarrow" and not is_frame(X)


def column_names(X: Array) -> np.ndarray | None:
    """Return the names of a frame's columns, or None where they are not all strings.

    Raises
    ------
    TypeError
        If some are strings and some are not.
    """
    if not is_frame(X):
        return None
    found = frame_names(X)
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


def check_same_columns(
    names: Sequence[str] | np.ndarray | None, expected: Sequence[str] | np.ndarray | None
) -> None:
    """Refuse a piece of a table whose columns have other names than the table's, or another order.

    Parameters
    ----------
    names, expected : sequence of str or None
        Of the piece and of the table; None where they have none.
    """
    if names is None or expected is None or list(names) == list(expected):
        return
    missing = [name for name in expected if name not in set(names)]
    more = [name for name in names if name not in set(expected)]
    raise ValueError(
        "its columns are other ones than those of the table: "
        + ("; ".join(
            f"{what} {', '.join(map(repr, which[:5]))}{' ...' * (len(which) > 5)}"
            for what, which in (("there is no", missing), ("there is also", more))
            if which
        ) or "their order differs")
    )  # fmt: skip


def frame_names(X: Array) -> list[Any]:
    """Return the names of a frame's columns, of whatever type."""
    return list(X.column_names if _is_arrow_table(X) else X.columns)


def columns_named(X: Array, names: Sequence[str]) -> Array:
    """Return some columns of a frame of polars, lazy or not, or of an Arrow table.

    By itself polars takes a name like ``^a$`` or ``*`` for a pattern of names.
    """
    if library_of(X) != "polars":
        return X.select(names)
    selectors = importlib.import_module("polars.selectors")
    return X.select([selectors.by_name(name) for name in names])


def frame_values(X: Array) -> np.ndarray:
    """Return the values of a frame as one array of real numbers; what is missing is NaN.

    Raises
    ------
    ValueError, TypeError
        Naming a column that holds no real numbers.
    """
    values = _converted(X)
    if values.dtype.kind == "f":
        _refuse_rounded_columns(X)
    return values


def arrow_values(X: Array) -> np.ndarray:
    """Return the values of an Arrow array or tensor.

    Raises
    ------
    TypeError
        If it is neither, as a stream that is not read yet.
    """
    if not hasattr(X, "to_numpy"):
        raise TypeError(
            f"{type(X).__name__} is neither a table nor an array: read it into a table first "
            "(.read_all()), or use normcore.fit_source"
        )
    values = _arrow_column(X) if hasattr(X, "null_count") else X.to_numpy()
    return values if values.ndim == 1 else real_numbers(values, None)


def result_dtypes(X: Array) -> list[np.dtype]:
    """Return the dtypes of a frame's columns when they are scaled: floats keep theirs."""
    dtypes = X.schema.types if _is_arrow_table(X) else X.dtypes
    names = (str(each).lower().partition("[")[0] for each in dtypes)
    return [_NARROW.get(name, np.dtype(np.float64)) for name in names]


def _is_arrow_table(X: Array) -> bool:
    return hasattr(X, "column_names")


def _arrow_column(column: Array) -> np.ndarray:
    if hasattr(column.type, "value_type") and hasattr(column.type, "index_type"):
        # pyarrow reads the nulls of a dictionary in chunks as if they were values.
        column = column.cast(column.type.value_type)
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values


def _refuse_rounded_columns(X: Array) -> None:
    """Refuse 64-bit integers beside other columns, where float64 loses digits that matter."""
    is_arrow = _is_arrow_table(X)
    dtypes = X.schema.types if is_arrow else getattr(X, "dtypes", ())
    for j, dtype in enumerate(dtypes):
        kind = str(dtype).lower().partition("[")[0]
        if kind in ("int64", "uint64"):
            name = (X.column_names if is_arrow else X.columns)[j]
            if is_arrow:
                present = X.column(j).drop_null()
            elif hasattr(X, "iloc"):
                present = X.iloc[:, j].dropna()
            else:  # polars would take some names for patterns
                present = X[:, j].alias("").drop_nulls()
            refuse_rounded_integers(np.asarray(present, dtype=kind), f"column {name!r} of X")


def _converted(X: Array) -> np.ndarray:
    if _is_arrow_table(X):
        columns = [
            real_numbers(_arrow_column(X.column(j)), name) for j, name in enumerate(X.column_names)
        ]
        return np.column_stack(columns) if columns else np.empty((X.num_rows, 0))
    values = X.to_numpy()
    if values.dtype.kind in "biuf" and not _holds_times(X):
        return real_numbers(values, None)
    columns = [_column(X, j, name) for j, name in enumerate(X.columns)]
    dtype = np.result_type(np.float16, *columns) if columns else np.dtype(np.float64)
    values = np.empty(X.shape, dtype=dtype, order="F")
    for j, column in enumerate(columns):
        values[:, j] = column
    return values


def _column(X: Array, j: int, name: object) -> np.ndarray:
    if not hasattr(X, "iloc"):
        return real_numbers(X[:, j].to_numpy(), name)
    column = X.iloc[:, j]
    dtype = column.dtype
    if getattr(dtype, "kind", "O") in "biuf":
        kept = _NARROW.get(str(dtype).lower().partition("[")[0], np.dtype(np.float64))
        return real_numbers(column.to_numpy(dtype=kept, na_value=np.nan), name)
    return real_numbers(column.to_numpy(), name)


def _holds_times(X: Array) -> bool:
    """Whether a polars frame has dates or times, which it would turn into numbers of ticks."""
    dtypes = () if hasattr(X, "iloc") else getattr(X, "dtypes", ())
    return any(hasattr(dtype, "is_temporal") and dtype.is_temporal() for dtype in dtypes)
