"""Scalers on sparse matrices, against scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import normcore as nc

from .cases import Arrays
from .peers import OURS, Contestant, found

__all__ = ["SPARSE", "sparse_contestants", "sparse_oracle"]

#: The scalers that keep zeros, and the parameters with which they do.
SPARSE: dict[str, dict[str, Any]] = {
    "StandardScaler": {"with_mean": False},
    "MaxAbsScaler": {},
    "RobustScaler": {"with_centering": False, "quantile_range": (1.0, 99.7)},
}
#: Share of the values that are not zero.
DENSITY = 0.01


def sparse_contestants(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Yield normcore, and scikit-learn where that and SciPy are installed."""
    matrix = _matrix(arrays)
    if matrix is None:
        return
    libraries = {OURS: nc}
    if found("scikit-learn") is not None:
        from sklearn import preprocessing

        libraries["scikit-learn"] = preprocessing
    for name, library in libraries.items():
        one = getattr(library, scaler)(**SPARSE[scaler])
        if verb == "fit":
            yield Contestant(name, lambda one=one: one.fit(matrix), lambda fitted: (fitted.scale_,))
        else:
            one.fit(matrix)
            # scikit-learn's StandardScaler turns CSC into CSR.
            yield Contestant(
                name,
                lambda one=one: one.transform(matrix),
                lambda y: (y.asformat(matrix.format).data,),
            )


def sparse_oracle(scaler: str, verb: str, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute the result in float64, column by column."""
    matrix = _matrix(arrays).astype(np.float64)
    columns = matrix.tocsc()
    scale = np.ones(matrix.shape[1])
    for j in range(scale.size):
        column = np.zeros(matrix.shape[0])
        stored = slice(columns.indptr[j], columns.indptr[j + 1])
        column[columns.indices[stored]] = columns.data[stored]
        if scaler == "StandardScaler":
            scale[j] = column.std()
        elif scaler == "MaxAbsScaler":
            scale[j] = np.abs(column).max()
        else:
            low, high = np.quantile(column, np.array(SPARSE[scaler]["quantile_range"]) / 100)
            scale[j] = high - low
    scale[scale == 0] = 1.0
    if verb == "fit":
        return (scale,)
    by_column = np.repeat(scale, np.diff(columns.indptr))
    of_entries = scale[matrix.indices] if matrix.format == "csr" else by_column
    return (matrix.data / of_entries,)


def _matrix(arrays: Arrays) -> Any:
    """Return some of the values in the format of the case; None without SciPy."""
    try:
        from scipy import sparse
    except ImportError:
        return None
    known = arrays.fitted.get("matrix")
    if known is None:
        kept = np.random.default_rng(3).random(arrays.x.shape, dtype=np.float32) < DENSITY
        kind = sparse.csr_array if arrays.case.layout == "CSR" else sparse.csc_array
        known = arrays.fitted["matrix"] = kind(np.where(kept, arrays.x, 0))
    return known
