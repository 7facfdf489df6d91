"""normalize, scikit-learn's function of that name: rows or columns divided by their norms."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc
from normcore_normalizer.column_normalizer import ColumnNormalizer
from normcore_normalizer.normalizer import Normalizer, check_norm, row_norms

__all__ = ["normalize"]


def normalize(
    X: Any, norm: str = "l2", *, axis: int = 1, copy: bool = True, return_norm: bool = False
) -> Any:
    """Divide each row, or each column, by its norm, without keeping a scaler.

    Parameters
    ----------
    X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
        The data. A sparse one comes back in CSR format for rows, in CSC format for columns.
    norm : {"l1", "l2", "max"}, default="l2"
        As for :class:`normcore.Normalizer`.
    axis : {0, 1}, default=1
        With 1 each row is divided by its norm, with 0 each column.
    copy : bool, default=True
        With False, ``X`` is overwritten where it can be.
    return_norm : bool, default=False
        Return the norms too: 1 for a row of zeros. For sparse input only with ``norm="max"``,
        where the norm of a row of zeros is 0.

    Returns
    -------
    array of the shape and kind of X, or a pair of that and a NumPy array of the norms

    Raises
    ------
    ValueError
        If a parameter is invalid, or ``X`` is not two-dimensional, is empty or not finite.
    NotImplementedError
        If the norms of sparse input are asked for, other than the largest absolute values.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.normalize([[1.0, 3.0]], norm="l1")
    array([[0.25, 0.75]])
    """
    check_norm(norm)
    if axis not in (0, 1):
        raise ValueError(f"axis must be 0 or 1, not {axis!r}")
    if hasattr(X, "tocsr"):
        return _normalize_sparse(X, norm, axis, copy, return_norm)
    rows = Normalizer(norm, copy=copy).set_output(transform="default")
    rows.fit(X)  # refuses what is not finite
    norms = None
    if axis == 1:
        norms = row_norms(X, norm) if return_norm else None  # before X may be overwritten
        result = rows.transform(X)
    else:
        columns = nc.MaxAbsScaler(copy=copy) if norm == "max" else ColumnNormalizer(norm, copy=copy)
        columns.set_output(transform="default")
        result, norms = columns.fit_transform(_as_floats(X)), columns.scale_
    if not return_norm:
        return result
    norms = np.asarray(norms)
    return result, norms.astype(result.dtype) if isinstance(result, np.ndarray) else norms


def _normalize_sparse(X: Any, norm: str, axis: int, copy: bool, return_norm: bool) -> Any:
    if return_norm and norm != "max":
        raise NotImplementedError(
            "return_norm=True is not implemented for sparse matrices with norm 'l1' or norm 'l2'"
        )
    rows = X if axis == 1 else X.T  # of CSC format, that is CSR
    norms = None
    if return_norm:
        norms = abs(rows).max(axis=1)
        norms = np.asarray(norms.todense() if hasattr(norms, "todense") else norms).ravel()
    result = Normalizer(norm, copy=copy).transform(rows)
    result = result if axis == 1 else result.T
    return (result, norms) if return_norm else result


def _as_floats(X: Any) -> Any:
    """Return floats, as the least integer of a dtype has no absolute value in it."""
    if hasattr(X, "dtype") and getattr(X.dtype, "kind", "f") == "f":
        return X
    return np.asarray(X, dtype=np.float64)
