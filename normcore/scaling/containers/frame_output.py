"""Scaled columns as a data frame: of the library that was chosen, or of that they come from."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.layout.namespace import Array, to_numpy
from normcore.scaling.containers.frames import frame_names, is_frame, library_of, result_dtypes

if TYPE_CHECKING:
    from normcore.scaling.transforming import Transforming

__all__ = ["CONTAINERS", "as_frame", "framed"]

#: What ``set_output`` takes.
CONTAINERS = ("default", "pandas", "polars", "pyarrow")


def framed(
    scaler: Transforming,
    result: Array,
    values: np.ndarray,
    X: Array,
    container: str,
    inverse: bool,
    chosen: np.ndarray | None,
    where: Array,
) -> Array:
    """Return what a scaler made of ``values`` as a frame.

    Parameters
    ----------
    result : array of shape (n_samples, n_features)
    values : array of the same shape
        The values of ``X``.
    container : str
        What was chosen. The inverse of a frame is one of its own library, with its own names.
    """
    result = to_numpy(result)
    features = scaler.__dict__.get("_features")
    by_column = features is None or features.are_columns(values)
    columns: Sequence[np.ndarray] = result.T
    if is_frame(X):
        if inverse:
            container = library_of(X)
            if container not in CONTAINERS:
                return result
        dtypes = result_dtypes(X)
        for dtype in {each for each in dtypes if each.itemsize < result.dtype.itemsize}:
            narrow = np.flatnonzero([each == dtype for each in dtypes])
            scaled = result[:, narrow].astype(dtype)
            if scaler._by_feature:
                # As a table of such columns would: a range holds after rounding to the dtype.
                part = values[:, narrow].astype(dtype)
                which = None
                if by_column:
                    which = narrow if chosen is None else chosen[narrow]
                backend = select_backend(part, scaler.backend)
                shown = None if where is None else np.broadcast_to(where, values.shape)[:, narrow]
                scaled = scaler._mapped(backend, part, inverse, True, None, shown, which)
            columns = list(columns)
            for place, column in zip(narrow, scaled.T, strict=True):
                columns[place] = column
    names: Sequence[object]
    if not inverse and by_column:
        names = list(scaler.get_feature_names_out())
    elif is_frame(X):
        names = frame_names(X)
    else:
        names = [f"x{i}" for i in range(values.shape[1])]
    return as_frame(columns, names, container, X)


def as_frame(
    columns: Sequence[np.ndarray], names: Sequence[object], container: str, source: Array
) -> Array:
    """Return columns as a frame.

    Parameters
    ----------
    columns : sequence of float arrays of shape (n_samples,), or one of shape (C, n_samples)
    names : sequence of str
        Of the columns.
    container : str
        One of :data:`CONTAINERS`.
    source : array or frame
        What was scaled. A frame of the same library hands on its index and its kinds of columns:
        where that library tells what is missing from NaN, what was missing stays missing.

    Raises
    ------
    ImportError
        If the library is not installed.
    """
    try:
        library = importlib.import_module(container)
    except ImportError as error:
        raise ImportError(
            f"Setting output container to {container!r} requires {container} to be installed: pip "
            f"install {container}"
        ) from error
    if not (is_frame(source) and library_of(source) == container):
        source = None
    make = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow}[container]
    return make(library, columns, names, source)


def _pandas(
    library: ModuleType,
    columns: Sequence[np.ndarray],
    names: Sequence[object],
    source: Array,
) -> Array:
    index = None if source is None else source.index
    kinds = [None] * len(columns) if source is None else list(source.dtypes)
    if isinstance(columns, np.ndarray) and not any(hasattr(kind, "na_value") for kind in kinds):
        return library.DataFrame(columns.T, index=index, columns=names, copy=False)
    arrays = (_pandas_column(library, *each) for each in zip(columns, kinds, strict=True))
    frame = library.DataFrame(dict(enumerate(arrays)), index=index, copy=False)
    frame.columns = names
    return frame


def _pandas_column(library: ModuleType, column: np.ndarray, kind: object) -> Array:
    """Return a column as the floats that pandas' own arithmetic makes of this kind of column."""
    if isinstance(kind, library.ArrowDtype):
        name = {2: "halffloat", 4: "float", 8: "double"}[column.dtype.itemsize]
        return library.array(column, dtype=f"{name}[pyarrow]")
    masked = hasattr(kind, "numpy_dtype") and hasattr(kind, "na_value")
    if masked and column.dtype.itemsize >= 4:
        return library.array(column, dtype=f"Float{8 * column.dtype.itemsize}")
    return column


def _polars(
    library: ModuleType, columns: Sequence[np.ndarray], names: Sequence[object], source: Array
) -> Array:
    series = [library.Series(str(n), each) for n, each in zip(names, columns, strict=True)]
    if source is not None:
        # By its own name, if that reads as a pattern, polars would not find a column.
        missing = [each.alias("").is_null() for each in source.get_columns()]
        nothing = library.lit(None)
        series = [
            library.select(library.when(~gone).then(each).otherwise(nothing).alias(each.name))
            .to_series() if gone.any() else each
            for each, gone in zip(series, missing, strict=True)
        ]  # fmt: skip
    return library.DataFrame(series)


def _pyarrow(
    library: ModuleType, columns: Sequence[np.ndarray], names: Sequence[object], source: Array
) -> Array:
    masks: list[np.ndarray | None] = [None] * len(columns)
    if source is not None:
        masks = [_nulls(each) if each.null_count else None for each in source.columns]
    arrays = [
        library.array(np.ascontiguousarray(column), mask=mask)
        for column, mask in zip(columns, masks, strict=True)
    ]
    kind = library.Table if source is None else type(source)
    return kind.from_arrays(arrays, names=[str(name) for name in names])


def _nulls(column: Array) -> np.ndarray:
    mask: np.ndarray = column.is_null().to_numpy(zero_copy_only=False)
    return mask
