"""Sparse matrices whose rows, or the whole of which, have statistics of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling.array_map import as_table_scaler
from normcore.scaling.containers.sparse import SparseTable
from normcore.scaling.feature_axes import FeatureAxes
from normcore.statistics import Statistic

if TYPE_CHECKING:
    from normcore.scaling.learning import Learning
    from normcore.scaling.transforming import Transforming

__all__ = ["SparseAxes"]


class SparseAxes(SparseTable):
    """A sparse matrix, and the axes whose positions have statistics of their own.

    To the statistic and the map it is a table: transposed where these are the rows, of one column
    where everything is one feature.
    """

    features: FeatureAxes

    def __init__(self, X: Array, owner: str, features: FeatureAxes) -> None:
        super().__init__(X, owner)
        self._owner, self.features = owner, features
        self._axes = features.positions(X)
        self.num_rows = features.num_samples(X)
        if len(self._axes) == 2:
            raise TypeError(
                f"axis={features.axes} gives each element of a sparse matrix a statistic of its "
                "own; pass an array"
            )

    def observed(self, scaler: Learning, weights: Array) -> Statistic | None:
        """Return the scaler's statistic of all values, those that are not stored among them."""
        if weights is not None and self._axes != (1,):
            raise ValueError(
                "sample_weight of a sparse matrix weighs rows that are samples: axis='columns' or 1"
            )
        matrix = self.matrix
        if self._axes == (0,):
            matrix = matrix.T
        elif not self._axes:
            if not scaler.exact_streaming:
                raise TypeError(
                    f"{self._owner} needs all values of a feature in memory, so axis=None does not "
                    "go with sparse matrices; pass an array"
                )
            matrix = matrix.reshape((-1, 1)).asformat("csc")
        return SparseTable(matrix, self._owner).observed(scaler, weights)

    def mapped(
        self,
        scaler: Transforming,
        inverse: bool,
        copy: bool,
        out: Array,
        chosen: np.ndarray | None,
    ) -> Array:
        """Return the matrix with its stored values scaled."""
        flat = as_table_scaler(scaler, self.features)
        if self._axes == (0,):
            table = SparseTable(self.matrix.T, self._owner)
            return table.mapped(flat, inverse, copy, out, None).T
        if not self._axes:
            chosen = np.zeros(self.shape[1], dtype=np.intp)
        return super().mapped(flat, inverse, copy, out, chosen)
