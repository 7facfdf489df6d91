"""Lazy frames of polars: fitted as they stream, scaled when they are collected."""

from __future__ import annotations

import copy as copying
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.containers.frame_output import framed
from normcore.scaling.containers.frames import frame_values, library_of, result_dtypes
from normcore.scaling.containers.table import PiecewiseTable
from normcore.statistics import Statistic

if TYPE_CHECKING:
    from normcore.scaling.learning import Learning
    from normcore.scaling.transforming import Transforming

__all__ = ["LazyTable", "is_lazy"]

# Rows of a batch.
_ROWS = 1 << 16


def is_lazy(X: Array) -> bool:
    """Whether ``X`` is a lazy frame of polars."""
    return hasattr(X, "collect_schema") and hasattr(X, "map_batches") and library_of(X) == "polars"


class LazyTable(PiecewiseTable):
    """A lazy frame of polars, whose columns are known and whose rows are not."""

    kind = "lazy"

    def __init__(self, X: Array, owner: str) -> None:
        self._frame, self._owner = X, owner
        schema = X.collect_schema()
        for name, dtype in schema.items():
            if not (dtype.is_numeric() or str(dtype) in ("Boolean", "Null") or dtype.is_object()):
                raise ValueError(
                    f"column {name!r} of X holds no numbers (dtype {dtype}). Convert it to numbers "
                    "first."
                )
        self._names = list(schema.names())
        self.names = np.array(self._names, dtype=object)
        self.shape = 0, len(self._names)
        self.num_rows = 0
        if not self._names:
            input_validation.check_shape(np.empty((1, 0)), owner)

    def observed(self, scaler: Learning, weights: Array) -> Statistic | None:
        """Return the scaler's statistic, batch by batch; one that does not merge, of all at once.

        The query runs once more where there are weights, to count the rows.
        """
        if weights is not None:
            weights = input_validation.as_weights(weights, self._count())
        statistic, rows = None, 0
        for values in self._batches(in_one=not scaler.exact_streaming):
            stop = rows + values.shape[0]
            part = None if weights is None else weights[rows:stop]
            try:
                found = scaler._observed(values, part, self.names)
            except ValueError:
                self._refuse_infinity(values, rows)
                raise
            if statistic is not None and found is not None:
                found = statistic.merge(found)
            statistic, rows = found, stop
        if not rows:
            input_validation.check_shape(np.empty((0, len(self._names))), self._owner)
        self.num_rows = rows
        return statistic

    def _count(self) -> int:
        polars = sys.modules["polars"]
        return int(self._frame.select(polars.len()).collect().item())

    def _batches(self, *, in_one: bool) -> Iterator[np.ndarray]:
        if in_one or not hasattr(self._frame, "collect_batches"):
            batches = iter([self._frame.collect(engine="streaming")])
        else:
            batches = self._frame.collect_batches(chunk_size=_ROWS, maintain_order=True)
        for batch in batches:
            if batch.height:
                yield frame_values(batch)

    def mapped(
        self,
        scaler: Transforming,
        inverse: bool,
        copy: bool,
        out: Array,
        chosen: np.ndarray | None,
    ) -> Array:
        """Return the lazy frame whose batches are scaled, by what is learned now."""
        if out is not None:
            raise TypeError("out= is for arrays; a lazy frame is scaled when it is collected")
        polars = sys.modules["polars"]
        fitted = copying.copy(scaler)
        names = self._names if inverse else list(scaler.get_feature_names_out())
        empty = self._frame.head(0).collect()
        kinds = {2: polars.Float32, 4: polars.Float32, 8: polars.Float64}
        dtypes = [kinds[each.itemsize] for each in result_dtypes(empty)]
        schema = polars.Schema(dict(zip(names, dtypes, strict=True)))

        def scaled(batch: Array) -> Array:
            if not batch.height:
                return polars.DataFrame(schema=schema)
            values = frame_values(batch)
            backend = select_backend(values, fitted.backend)
            try:
                result = fitted._mapped(backend, values, inverse, True, None, None, chosen)
            except ValueError:
                self._refuse_infinity(values, None)
                raise
            frame = framed(fitted, result, values, batch, "polars", inverse, chosen, None)
            # A cast by names would take some for patterns.
            return polars.DataFrame([each.cast(schema[each.name]) for each in frame.get_columns()])

        return self._frame.map_batches(
            scaled,
            schema=schema,
            streamable=True,
            predicate_pushdown=False,
            projection_pushdown=False,
            slice_pushdown=False,
        )

    def check_container(self, container: str) -> None:
        """Refuse containers of other libraries: a lazy frame stays one."""
        if container != "polars":
            super().check_container(container)

    def _refuse_infinity(self, values: np.ndarray, first_row: int | None) -> None:
        """Refuse a batch with an infinite value, by its row in the whole where that is known.

        polars maps batches in any order, and its own numbers of rows end at 2**32.
        """
        place = input_validation.first_infinity(values, np)
        if place is None:
            return
        row, column = place
        if first_row is not None:
            raise input_validation.infinity_error(first_row + row, column, self.names)
        index = "index"
        while index in self._names:
            index += "_"
        rows = f"X.with_row_index({index!r}).filter(polars.nth({column + 1}).is_infinite())"
        raise ValueError(
            f"Input X contains infinity: {input_validation.column_label(column, self.names)}. "
            f"{rows} has its rows: remove them, or replace the values by NaN, which scalers skip."
        )
