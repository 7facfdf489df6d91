"""Sparse matrices: landmarks of what they store and imply, and maps of what they store."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc
from normcore_quantile.estimation import are_whole, quantiles_of_sorted, weighted_quantiles
from normcore_quantile.landmarks import forward, inverse

__all__ = [
    "as_columns",
    "is_sparse",
    "map_stored",
    "quantiles_of_stored",
    "refuse_negative",
    "refuse_where",
]


def is_sparse(X: Any) -> bool:
    """Whether ``X`` is a sparse matrix or array of SciPy's."""
    return hasattr(X, "tocsc") and hasattr(X, "nnz")


def as_columns(X: Any, owner: str, *, copy: bool) -> Any:
    """Return a sparse matrix of finite floats in CSC format; itself where it is, without copy.

    Elements stored more than once become their sum, which is their value: without ``copy`` in
    ``X`` itself.

    Raises
    ------
    ValueError
        If it has another number of dimensions than two, no row or no column, infinities, or
        complex numbers.
    """
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D sparse array instead")
    for size, what in zip(X.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required "
                f"by {owner}."
            )
    if X.dtype.kind not in "biuf":
        raise ValueError(f"Complex data not supported: X has dtype {X.dtype}.")
    dtype = X.dtype if X.dtype.kind == "f" and X.dtype.itemsize <= 8 else np.dtype(np.float64)
    columns = X.tocsc(copy=copy)
    columns.sum_duplicates()
    if columns.dtype != dtype:
        columns = columns.astype(dtype)
    bad = np.flatnonzero(np.isinf(columns.data))
    if bad.size:
        place = int(np.searchsorted(columns.indptr, bad[0], side="right")) - 1
        raise ValueError(
            f"Input X contains infinity: column {place}, first at row {columns.indices[bad[0]]}. "
            "Remove the row, or replace the value by NaN, which scalers skip."
        )
    return columns


def refuse_negative(columns: Any) -> None:
    """Refuse stored values below zero, between which and the others zeros would be implied.

    Raises
    ------
    ValueError
        As scikit-learn's.
    """
    if bool((columns.data < 0).any()):
        raise ValueError("QuantileTransformer only accepts non-negative sparse matrices.")


def refuse_where(where: object) -> None:
    """Refuse a mask; TypeError says why."""
    if where is not None:
        raise TypeError("where= is for dense arrays; a sparse matrix hides nothing")


def quantiles_of_stored(
    columns: Any,
    q: np.ndarray,
    *,
    subsample: int | None,
    ignore_zeros: bool,
    generator: np.random.RandomState,
    weights: np.ndarray | None = None,
) -> nc.Quantiles:
    """Return the quantiles of each column of a matrix in CSC format, NaN left out.

    A column of more stored values than ``subsample`` is represented by some of them, chosen as
    scikit-learn does, and by zeros in proportion. With weights, one of each row, all count.
    """
    num_rows, num_columns = columns.shape
    values, count = np.zeros((num_columns, q.size)), np.zeros(num_columns)
    repeats = weights is not None and are_whole(weights)
    for column in range(num_columns):
        part = slice(columns.indptr[column], columns.indptr[column + 1])
        stored = columns.data[part]
        if weights is not None:
            rest = weights.copy()
            rest[columns.indices[part]] = 0.0
            zero = 0.0 if ignore_zeros else rest.sum()
            numbers = np.append(stored, stored.dtype.type(0))
            given = np.append(weights[columns.indices[part]], zero)
            some = given > 0
            values[column], count[column] = weighted_quantiles(
                numbers[some], given[some], repeats, q
            )
            if not some.any():
                values[column] = 0.0
            continue
        size = stored.size if ignore_zeros else num_rows
        if subsample is not None and stored.size > subsample:
            kept = subsample if ignore_zeros else subsample * stored.size // num_rows
            stored, size = generator.choice(stored, size=kept, replace=False), subsample
        num_zeros = size - stored.size
        ordered = np.sort(stored[~np.isnan(stored)])
        count[column] = ordered.size + num_zeros
        values[column] = quantiles_of_sorted(ordered, num_zeros, q)
        if size and not count[column]:
            values[column] = np.nan
    return nc.Quantiles(q, values.T, count, np.zeros(num_columns))


def map_stored(
    columns: Any, landmarks: np.ndarray, references: np.ndarray, *, normal: bool, back: bool
) -> None:
    """Map the stored values of a matrix in CSC format, in place; implied zeros stay."""
    function = inverse if back else forward

    def work(start: int, stop: int) -> None:
        for column in range(start, stop):
            part = slice(columns.indptr[column], columns.indptr[column + 1])
            stored = columns.data[part, None].astype(np.float64)
            columns.data[part] = function(
                stored, landmarks[column : column + 1], references, normal
            )[:, 0]

    nc.parallel_for(work, columns.shape[1])
