"""The linear operator of a sparse matrix under an affine map of its columns; imports SciPy."""

# Design: column j maps to x * d[j] + v[j] with d = gamma / scale and v = beta - center * d, so the
# matrix is X diag(d) + 1 v^T: each product is one of X and a correction of rank one.

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator

from normcore.affine import Affine
from normcore.layout.namespace import Array

__all__ = ["CenteredOperator"]


class CenteredOperator(LinearOperator):
    """``((X - center) / scale) * gamma + beta`` of the columns of a sparse ``X``."""

    def __init__(self, X: Array, affine: Affine) -> None:
        super().__init__(np.dtype(np.float64), X.shape)
        center, scale, gamma, beta = affine.vectors(X.shape[1])
        self._matrix = X
        self._factor = gamma / scale
        self._shift = beta - center * self._factor

    def _matmat(self, W: np.ndarray) -> np.ndarray:
        return np.asarray(self._matrix @ (self._factor[:, None] * W) + self._shift @ W)

    def _rmatmat(self, U: np.ndarray) -> np.ndarray:
        product = self._matrix.T @ U
        return np.asarray(self._factor[:, None] * product + np.outer(self._shift, U.sum(axis=0)))

    def _matvec(self, w: np.ndarray) -> np.ndarray:
        return self._matmat(w.reshape(-1, 1))

    def _rmatvec(self, u: np.ndarray) -> np.ndarray:
        return self._rmatmat(u.reshape(-1, 1))
