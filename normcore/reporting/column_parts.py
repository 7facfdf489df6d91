"""Takes columns out of tables of any kind, and puts them back when they are scaled."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from normcore.layout.bfloat16 import holds_bfloat16
from normcore.layout.namespace import Array, array_namespace
from normcore.scaling.containers.frame_output import CONTAINERS, as_frame
from normcore.scaling.containers.frames import (
    column_names,
    columns_named,
    frame_names,
    is_frame,
    library_of,
)
from normcore.scaling.containers.lazy import is_lazy, num_rows_of
from normcore.scaling.containers.opening import engine_of
from normcore.scaling.containers.sparse import is_sparse
from normcore.scaling.input_validation import Names, as_table, check_shape

__all__ = ["Parts", "converted"]


class Parts(NamedTuple):
    """A table, and how its columns are taken.

    Attributes
    ----------
    table : array, frame or sparse matrix
    names : sequence of str or None
        Of the columns, if all have names.
    width : int
        Number of columns.
    container : str
        What kind of frame results are, "default" for no frame.
    """

    table: Array
    names: Names | None
    width: int
    container: str

    @classmethod
    def of(cls, X: Array, owner: str) -> Parts:
        """Return ``X`` as a table of columns.

        Raises
        ------
        ValueError, TypeError
            If it is none.
        """
        if is_lazy(X):
            names = np.array(X.collect_schema().names(), dtype=object)
            return cls(X, names, len(names), "polars")
        if is_frame(X):
            library = library_of(X)
            container = library if library in CONTAINERS else "default"
            return cls(X, column_names(X), len(frame_names(X)), container)
        if is_sparse(X):
            return cls(X.tocsc(), None, X.shape[1], "default")
        engine = engine_of(X)
        if engine is not None:
            found = engine.describe(X, owner)
            if not _has_pieces(X):
                raise TypeError(
                    f"{owner} takes columns out of arrays and frames, not of {found.kind} objects "
                    "of rows; make them an array or a frame first (dask.dataframe.from_delayed)"
                )
            return cls(X, found.names, found.num_columns, "default")
        if holds_bfloat16(X):
            check_shape(X, owner)
            values = X
        else:
            values = as_table(X, owner)
        return cls(values, None, values.shape[1], "default")

    @property
    def num_rows(self) -> int | None:
        """How many rows there are, counted where need be; None where that takes an engine."""
        if is_lazy(self.table):
            return num_rows_of(self.table)
        if engine_of(self.table) is not None:
            return None
        shape = getattr(self.table, "shape", None)
        return None if shape is None else int(shape[0])

    def columns(self, places: np.ndarray) -> Array:
        """Return some of the columns, as a table of the same kind."""
        table = self.table
        if is_lazy(table):
            assert self.names is not None
            return columns_named(table, [self.names[place] for place in places])
        if is_frame(table):
            if hasattr(table, "iloc"):
                return table.iloc[:, places]
            return columns_named(table, [frame_names(table)[place] for place in places])
        if _is_lazy_frame(table):
            return table[[frame_names(table)[place] for place in places]]
        if isinstance(table, np.ndarray) or is_sparse(table) or _has_pieces(table):
            return table[:, places]
        xp = array_namespace(table)
        return xp.take(table, xp.asarray(places, device=table.device), axis=1)

    def replaced(self, scaled: Sequence[tuple[np.ndarray, Array]]) -> Array:
        """Return the table with columns replaced, each table of them by its places."""
        table = self.table
        if is_lazy(table) or is_frame(table):
            return _framed(self, scaled)
        if _is_lazy_frame(table):
            result = table.copy()
            for where, part in scaled:
                for place, name in zip(where.tolist(), part.columns, strict=True):
                    result[frame_names(table)[place]] = part[name]
            return result
        rest = np.setdiff1d(np.arange(self.width), np.concatenate([[], *(p for p, _ in scaled)]))
        places = [*(places for places, _ in scaled), rest]
        if isinstance(table, np.ndarray):
            dtypes = [part.dtype for _, part in scaled]
            result = np.empty(table.shape, np.result_type(table.dtype, *dtypes))
            for where, part in scaled:
                result[:, where] = part
            result[:, rest] = table[:, rest]
            return result
        parts = [*(part for _, part in scaled), self.columns(rest)]
        order = np.argsort(np.concatenate(places))
        if is_sparse(table):
            joined = sys.modules["scipy.sparse"].hstack(parts).tocsc()
            return type(table)(joined[:, order]).tocsr()
        if _has_pieces(table):
            return _joined_columns(table, parts, order)
        xp = array_namespace(table)
        if scaled and not xp.isdtype(table.dtype, "real floating"):  # kinds do not promote
            parts[-1] = xp.astype(parts[-1], parts[0].dtype)
        joined = xp.concat(parts, axis=1)
        return xp.take(joined, xp.asarray(order, device=table.device), axis=1)


def _has_pieces(X: Array) -> bool:
    """Whether ``X`` is an array or a frame in pieces that are somewhere else."""
    return hasattr(type(X), "map_partitions") or hasattr(type(X), "chunks")


def _is_lazy_frame(X: Array) -> bool:
    return hasattr(type(X), "map_partitions") and hasattr(type(X), "columns")


def _joined_columns(table: Array, parts: list[Array], order: np.ndarray) -> Array:
    """Return columns of arrays in pieces beside each other, in the chunks of the table."""
    if hasattr(table, "dims"):
        arrays = [part.data for part in parts]
        return table.copy(data=_joined_columns(table.data, arrays, order))
    joined = sys.modules["dask.array"].concatenate(parts, axis=1)[:, order]
    return joined.rechunk({1: table.chunks[1]})


def _framed(parts: Parts, scaled: Sequence[tuple[np.ndarray, Array]]) -> Array:
    table = parts.table
    if parts.container == "pandas":
        result = table.copy(deep=False)
        for places, part in scaled:
            for number, place in enumerate(places.tolist()):
                result.isetitem(place, part.iloc[:, number])
        return result
    if is_lazy(table):
        assert parts.names is not None
        once = {parts.names[place] for places, _ in scaled for place in places.tolist()}
        rest = [name for name in parts.names if name not in once]
        frames = [part for _, part in scaled]
        frames += [columns_named(table, rest)] if rest else []
        joined = sys.modules["polars"].concat(frames, how="horizontal")
        return columns_named(joined, list(parts.names))
    if parts.container == "polars":
        return table.with_columns([each for _, part in scaled for each in part.get_columns()])
    columns = list(table.columns)
    for places, part in scaled:
        for place, column in zip(places.tolist(), part.columns, strict=True):
            columns[place] = column
    return type(table).from_arrays(columns, names=table.schema.names)


def converted(result: Array, container: str, names: Sequence[str], source: Array) -> Array:
    """Return a result as a frame of the library that was chosen."""
    if _is_lazy_frame(result) and container == library_of(result._meta):
        return result
    if is_frame(result):
        if library_of(result) == container:
            return result
        if container == "pandas":
            return result.to_pandas()
        library = __import__(container)
        return library.DataFrame(result) if container == "polars" else library.table(result)
    if not isinstance(result, np.ndarray):
        raise ValueError(
            f"{container.capitalize()} output does not support {type(result).__name__} data; use "
            "set_output(transform='default')"
        )
    return as_frame(list(result.T), names, container, source)
