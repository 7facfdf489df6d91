"""Collections of Dask as tables of pieces: arrays, frames, xarray's arrays, delayed objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import dask
import numpy as np
from dask.delayed import Delayed as DelayedObject
from dask.task_spec import Alias, GraphNode

from normcore.engines.engine import Description
from normcore.engines.mapping import ScaledPieces
from normcore.engines.task import Piece
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.containers.frames import column_names, is_frame, library_of

__all__ = ["DaskTable", "Delayed", "graph_of", "opened_table"]

Delayed: TypeAlias = Any  # dask.delayed.Delayed


def opened_table(X: Array) -> DaskTable | None:
    """Return ``X`` as a table of pieces, or None where it is not one of Dask's collections."""
    # Of the types: a delayed object has any attribute.
    kind = type(X)
    if isinstance(X, list | tuple):
        if not X or hasattr(type(X[0]), "ndim") or not any(map(_is_of_dask, X)):
            return None
        if not all(map(_is_of_dask, X)):
            raise TypeError("X is a list in which some items are delayed objects and some are not")
        return _Items(X)
    if not dask.is_dask_collection(X) and not _is_of_dask(X):
        return None
    if library_of(X) == "xarray":
        return _DataArray(X) if hasattr(kind, "dims") and hasattr(kind, "data") else None
    if hasattr(kind, "map_blocks"):
        return _Array(X)
    if hasattr(kind, "map_partitions") and hasattr(kind, "columns"):
        return _Frame(X)
    if _is_of_dask(X):
        raise TypeError(
            f"X is a {kind.__name__} of Dask: give an array, a data frame, or a list of delayed "
            "objects or futures, each of which becomes some rows"
        )
    return None


def _is_of_dask(X: object) -> bool:
    return library_of(X) in {"dask", "distributed"}


def graph_of(chunks: Sequence[Array]) -> dict[Any, Any]:
    """Return the tasks of delayed objects, many of which share a graph."""
    graphs = {id(each.dask): each.dask for each in chunks if isinstance(each, DelayedObject)}
    return {
        key: _under(key, task) for graph in graphs.values() for key, task in dict(graph).items()
    }


def _under(key: Any, task: Any) -> Any:
    """Return a task under the key that it has in its graph: those of ``loc`` have others."""
    if not isinstance(task, GraphNode) or task.key == key:
        return task
    return Alias(key, task.target) if isinstance(task, Alias) else task.substitute({}, key=key)


class DaskTable(ABC):
    """A collection as pieces that belong together by their columns."""

    @abstractmethod
    def describe(self, owner: str) -> Description:
        """See :meth:`Engine.describe`."""

    @abstractmethod
    def pieces(self) -> list[list[tuple[Delayed, Piece]]]:
        """Return the pieces of each block of columns."""

    @abstractmethod
    def row_counts(self) -> Sequence[int]:
        """Return how many rows the pieces of a block have; computed where it is not known."""

    @abstractmethod
    def mapped(self, scaled: ScaledPieces, container: str) -> Array:
        """See :meth:`Engine.map`."""

    def of_whole_rows(self) -> DaskTable:
        """Return the table in pieces that have all columns."""
        return self

    def weights(self, weights: Array, number: int) -> list[Array] | None:
        """Return the weights of the rows of each piece of a block, which has so many.

        Raises
        ------
        ValueError
            If there are others than rows.
        """
        if weights is None:
            return None
        items = isinstance(weights, list | tuple) and any(map(_is_of_dask, weights))
        lazy = items or dask.is_dask_collection(weights)
        if not lazy and np.ndim(weights) == 0:
            return [weights] * number
        if lazy:
            whole = weights.data if library_of(weights) == "xarray" else weights
            parts = _delayed(whole) if items else self._weight_chunks(whole)
            if len(parts) != number:
                raise ValueError(
                    f"sample_weight has {len(parts)} partitions, but X has {number}; give both the "
                    "same"
                )
            return parts
        given = np.asarray(weights)
        counts = self.row_counts()
        checked = input_validation.host_weights(given, int(sum(counts)))
        return np.split(checked, np.cumsum(counts)[:-1].astype(np.intp))

    def _weight_chunks(self, weights: Array) -> list[Delayed]:
        return list(np.ravel(weights.to_delayed()))


class _Array(DaskTable):
    """A dask array; its columns may be in several blocks."""

    def __init__(self, X: Array) -> None:
        self._X = X

    def describe(self, owner: str) -> Description:
        input_validation.check_shape(self._X, owner)
        rows, columns = self._X.shape
        if np.isnan(columns):
            raise ValueError("X has an unknown number of columns; X.compute_chunk_sizes() finds it")
        number = None if np.isnan(rows) else int(rows)
        return Description(None, int(columns), number, "dask", ("pandas",))

    def _ends(self) -> np.ndarray:
        return np.cumsum((0, *self._X.chunks[1]))

    def pieces(self) -> list[list[tuple[Delayed, Piece]]]:
        blocks, ends = self._X.to_delayed(), self._ends().tolist()
        return [
            [(chunk, _piece(row, column, ends)) for row, chunk in enumerate(blocks[:, column])]
            for column in range(blocks.shape[1])
        ]

    def row_counts(self) -> Sequence[int]:
        if np.isnan(self._X.shape[0]):
            return self._X.copy().compute_chunk_sizes().chunks[0]
        return self._X.chunks[0]

    def _weight_chunks(self, weights: Array) -> list[Delayed]:
        rows = self._X.chunks[0]
        known = hasattr(weights, "rechunk") and not np.isnan([*rows, *weights.shape]).any()
        if known:
            if weights.shape != (sum(rows),):
                raise ValueError(
                    f"sample_weight has shape {weights.shape}, but X has {sum(rows)} rows"
                )
            weights = weights.rechunk((rows,))
        return super()._weight_chunks(weights)

    def of_whole_rows(self) -> _Array:
        return _Array(self._X.rechunk({1: -1}))

    def mapped(self, scaled: ScaledPieces, container: str) -> Array:
        dtype = scaled.result_dtype(self._X.dtype)
        ends = tuple(self._ends().tolist())
        meta = self._X._meta.astype(dtype)
        run = partial(_scaled_block, scaled, ends)
        result = self._X.map_blocks(run, dtype=dtype, meta=meta, name=None)
        if container == "default":
            return result
        import dask.dataframe

        return dask.dataframe.from_dask_array(result, columns=scaled.names())


def _scaled_block(
    scaled: ScaledPieces, ends: tuple[int, ...], chunk: Array, block_id: tuple[int, int]
) -> Array:
    return scaled.array(chunk, _piece(*block_id, ends))


def _piece(row: int, column: int, ends: Sequence[int]) -> Piece:
    """Return the piece that a chunk is, by the ends of the blocks of columns."""
    label = f"chunk ({row}, {column}) of X"
    return Piece(label) if len(ends) == 2 else Piece(label, ends[column], ends[column + 1])


class _DataArray(_Array):
    """An array of xarray, of two dimensions, whose data is a dask array."""

    def __init__(self, X: Array) -> None:
        super().__init__(X.data)
        self._labelled = X

    def describe(self, owner: str) -> Description:
        return super().describe(owner)._replace(kind="xarray", containers=())

    def of_whole_rows(self) -> _DataArray:
        return _DataArray(self._labelled.chunk({self._labelled.dims[1]: -1}))

    def mapped(self, scaled: ScaledPieces, container: str) -> Array:
        return self._labelled.copy(data=super().mapped(scaled, container))


class _Frame(DaskTable):
    """A data frame of Dask."""

    def __init__(self, X: Array) -> None:
        self._X = X

    def describe(self, owner: str) -> Description:
        meta = self._X._meta
        if meta.ndim != 2:
            input_validation.check_shape(meta, owner)
        return Description(column_names(meta), meta.shape[1], None, "dask", (library_of(meta),))

    def pieces(self) -> list[list[tuple[Delayed, Piece]]]:
        parts = self._X.to_delayed()
        return [[(part, Piece(f"partition {i} of X")) for i, part in enumerate(parts)]]

    def row_counts(self) -> Sequence[int]:
        return self._X.map_partitions(len).compute()

    def mapped(self, scaled: ScaledPieces, container: str) -> Array:
        meta = scaled.frame(self._X._meta)
        return self._X.map_partitions(partial(_scaled_partition, scaled, meta), meta=meta)


def _scaled_partition(
    scaled: ScaledPieces, meta: Array, chunk: Array, partition_info: dict[str, int] | None = None
) -> Array:
    if not len(chunk):
        return meta  # an empty partition may lack columns
    number = "" if partition_info is None else f" {partition_info['number']}"
    return scaled.frame(chunk, Piece(f"partition{number} of X"))


class _Items(DaskTable):
    """Delayed objects and futures, each of which becomes an array or a frame of some rows."""

    def __init__(self, X: Sequence[Delayed]) -> None:
        self._X = _delayed(X)

    def describe(self, owner: str) -> Description:
        (found,) = dask.compute(dask.delayed(_described, pure=False)(self._X[0], owner))
        names, columns = found
        return Description(names, columns, None, "delayed")

    def pieces(self) -> list[list[tuple[Delayed, Piece]]]:
        return [[(part, Piece(f"item {i} of X")) for i, part in enumerate(self._X)]]

    def row_counts(self) -> Sequence[int]:
        return dask.compute(*(dask.delayed(_num_rows, pure=False)(each) for each in self._X))

    def mapped(self, scaled: ScaledPieces, container: str) -> Array:
        run = dask.delayed(_scaled_item, pure=False, traverse=False)
        node = dask.delayed(scaled, pure=False, traverse=False)
        return [run(node, part, i) for i, part in enumerate(self._X)]


def _delayed(items: Sequence[Delayed]) -> list[Delayed]:
    return [each if dask.is_dask_collection(each) else dask.delayed(each) for each in items]


def _num_rows(chunk: Array) -> int:
    return int(chunk.shape[0]) if hasattr(chunk, "shape") else len(chunk)


def _scaled_item(scaled: ScaledPieces, chunk: Array, number: int) -> Array:
    return scaled.any(chunk, Piece(f"item {number} of X"))


def _described(chunk: Array, owner: str) -> tuple[Array, int]:
    """Return names and number of the columns of an array or a frame."""
    names = column_names(chunk)
    if names is not None:
        return names, len(names)
    if not is_frame(chunk) and not hasattr(chunk, "shape"):
        chunk = np.asarray(chunk)
    if len(chunk.shape) != 2:
        input_validation.check_shape(chunk, owner)
    return None, int(chunk.shape[1])
