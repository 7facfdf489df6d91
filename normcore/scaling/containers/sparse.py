"""SciPy's sparse matrices and arrays, without SciPy: only what they hold is read and written.

What is not stored is 0. A statistic is that of the stored values, merged with that of so many
zeros; a map that keeps zero needs to be applied to the stored values alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.containers.sparse_columns import Columns
from normcore.scaling.containers.table import PiecewiseTable
from normcore.scaling.input_validation import Names
from normcore.scaling.real_numbers import real_numbers
from normcore.statistics import Moments, Statistic, wide_integers

if TYPE_CHECKING:
    from normcore.scaling.learning import Learning
    from normcore.scaling.transforming import Transforming

__all__ = ["SparseTable", "is_sparse"]

_PARTS = ("data", "indices", "indptr")
# Stored values that are mapped at a time.
_BLOCK = 1 << 16


def is_sparse(X: Array) -> bool:
    """Whether ``X`` is a sparse matrix or array."""
    return hasattr(type(X), "tocsr")  # a delayed object of Dask has any attribute


class SparseTable(PiecewiseTable):
    """A CSR or CSC matrix or array; other formats become CSR."""

    kind = "sparse"

    def __init__(self, X: Array, owner: str) -> None:
        input_validation.check_shape(X, owner)
        if X.format not in ("csr", "csc"):
            X = X.asformat("csr")
        if not isinstance(X.data, np.ndarray):
            raise TypeError(
                f"{type(X).__module__}.{type(X).__qualname__} is not on the host; sparse input is "
                "SciPy's: use .get()"
            )
        real_numbers(X.data[:0], None)  # refuses complex numbers
        self.matrix = X = _checked(X)
        self.names = None
        self.shape = num_rows, _ = X.shape
        self.num_rows = num_rows

    def observed(self, scaler: Learning, weights: Array) -> Statistic | None:
        """Return the scaler's statistic of all values, those that are not stored among them."""
        scaler._check_sparse(inverse=False)
        matrix = self.matrix
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if weights is not None:
            weights = input_validation.host_weights(weights, self.num_rows, of_all=self.is_whole)
            matrix = _without_weightless_infinity(matrix, weights)
        _refuse_infinity(matrix, None)
        if scaler.statistic is None:
            return None
        columns = Columns(_exact_floats(matrix), scaler)
        if not scaler.exact_streaming or not (weights is None or scaler.statistic is Moments):
            return columns.observed_whole(weights)
        stored = columns.observed_stored(weights)
        return stored.merge(columns.observed_zeros(weights, stored))

    def mapped(
        self,
        scaler: Transforming,
        inverse: bool,
        copy: bool,
        out: Array,
        chosen: np.ndarray | None,
    ) -> Array:
        """Return the matrix with its stored values scaled."""
        scaler._check_sparse(inverse=inverse)
        if out is not None:
            raise TypeError("out= is for dense arrays; use copy=False to scale a sparse X in place")
        X = self.matrix
        names = scaler.__dict__.get("feature_names_in_")
        self.refuse_infinity(names if names is None or chosen is None else names[chosen])
        dtype = X.dtype if X.dtype.kind == "f" else np.dtype(np.float64)
        in_place = not copy and X.dtype == dtype and X.data.flags.writeable
        if not X.has_canonical_format:
            X = X if in_place else X.copy()
            X.sum_duplicates()  # in its own dtype, as fit and toarray do
        result = X if in_place else X.astype(dtype, copy=True)
        for block, columns in _entries(result):
            columns = columns if chosen is None else chosen[columns]
            result.data[block] = scaler._map_stored(result.data[block], columns, inverse)
        return result

    def refuse_infinity(self, names: Names | None) -> None:
        """Refuse a matrix with an infinite element; ValueError names the first one."""
        _refuse_infinity(self.matrix, names)


def _checked(matrix: Array) -> Array:
    """Return a matrix without spare room, whose indices lie inside it.

    SciPy checks that only where it is asked to.

    Raises
    ------
    ValueError
        If they do not.
    """
    data, indices, starts = (np.asarray(getattr(matrix, name)) for name in _PARTS)
    number = int(starts[-1])
    bound = matrix.shape[1 if matrix.format == "csr" else 0]
    if (
        starts[0] != 0
        or number > min(data.size, indices.size)
        or bool((starts[1:] < starts[:-1]).any())
        or (number and not 0 <= indices[:number].min() <= indices[:number].max() < bound)
    ):
        raise ValueError(
            f"X, a sparse matrix of shape {matrix.shape}, has indices that do not fit it"
        )
    if number < max(data.size, indices.size):
        matrix = matrix.copy()
        matrix.prune()
    return matrix


def _exact_floats(matrix: Array) -> Array:
    """Return a matrix of native floats, or of integers beyond 2**53 as they are."""
    data: np.ndarray = matrix.data
    if data.dtype in (np.float64, np.float32) and data.dtype.isnative and data.flags.c_contiguous:
        return matrix
    if wide_integers.is_64_bit(data) and bool(np.any(np.abs(data.astype(np.float64)) > 2.0**53)):
        return matrix
    return matrix.astype(np.float64)


def _entries(matrix: Array) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of what is stored, with the column of each value."""
    columns = matrix.indices
    if matrix.format == "csc":
        columns = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    for start in range(0, matrix.data.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        yield block, columns[block]


def _without_weightless_infinity(matrix: Array, weights: np.ndarray) -> Array:
    """Return a matrix with 0 for infinite elements of rows that weigh nothing."""
    if weights.all() or matrix.data.dtype.kind != "f":
        return matrix
    rows = matrix.indices
    if matrix.format == "csr":
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    nothing = np.isinf(matrix.data) & (weights[rows] == 0)
    if nothing.any():
        matrix = matrix.copy()
        matrix.data[nothing] = 0
    return matrix


def _refuse_infinity(matrix: Array, names: Names | None) -> None:
    data: np.ndarray = matrix.data
    if data.dtype.kind != "f" or not bool(np.isinf(data).any()):
        return
    place = int(np.flatnonzero(np.isinf(data))[0])
    major = int(np.searchsorted(np.asarray(matrix.indptr), place, side="right")) - 1
    minor = int(matrix.indices[place])
    row, column = (major, minor) if matrix.format == "csr" else (minor, major)
    raise input_validation.infinity_error(row, column, names)
