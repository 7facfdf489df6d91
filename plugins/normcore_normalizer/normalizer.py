"""Normalizer, which divides each row by its norm."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Self

import numpy as np

import normcore as nc
from normcore_normalizer.row_norms import divide_rows, divide_sparse_rows

__all__ = ["Normalizer", "check_norm", "row_norms"]

NORMS = ("l1", "l2", "max")
BLOCK_ROWS = 1024


class Normalizer(nc.RowScaler):
    """Divide each row by its norm, so that its norm is 1; a row of zeros stays.

    There is nothing to fit: ``transform`` works at once. The result of a row does not depend on
    the rows beside it.

    Parameters
    ----------
    norm : {"l1", "l2", "max"}, default="l2"
        The sum of absolute values, the root of the sum of squares, or the largest absolute value.
    copy : bool, default=True
        False writes the result into the input where that is a writable float array, or a sparse
        matrix of floats in CSR format.
    backend : str or Backend, optional
        The backend to use whatever the data; by default the one that fits it.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : array of str of shape (n_features,)
        Where ``X`` named its columns.

    Notes
    -----
    Norms are within 4 units in the last place of float64, whatever the size of the values: squares
    neither overflow nor vanish. The quotient is rounded once to the dtype of the result, which is
    that of ``X`` for floats and float64 for others. NaN and infinity are refused.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.Normalizer().transform([[3.0, 4.0]])
    array([[0.6, 0.8]])
    """

    sklearn_class = "sklearn.preprocessing.Normalizer"
    #: Nothing was learned that depends on it.
    immediate = nc.RowScaler.immediate | {"norm"}

    def __init__(
        self, norm: str = "l2", *, copy: bool = True, backend: str | nc.Backend | None = None
    ) -> None:
        self.norm = norm
        self.copy = copy
        self.backend = backend

    def check_parameters(self) -> None:
        """Refuse an unknown norm."""
        check_norm(self.norm)

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a normalizer of the norm of scikit-learn's, and of the columns it has seen.

        Parameters
        ----------
        estimator, **params
            As for :meth:`normcore.AffineScaler.from_sklearn`.
        """
        made = cls(**params)
        width = getattr(estimator, "n_features_in_", None)
        if width is None:
            return made
        return made.fit_statistic(None, None, width, getattr(estimator, "feature_names_in_", None))

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of scikit-learn's normalizer, which has none of its own."""
        return {}

    def map_rows(self, xp: ModuleType, x: Any, out: Any = None) -> Any:
        """Return rows divided by their norms.

        Parameters
        ----------
        xp, x, out
            As for :meth:`normcore.RowScaler.map_rows`.
        """
        if xp is np:
            _refuse(divide_rows(x, out, self.norm))
            return out
        return _divided(xp, x, self.norm)

    def map_sparse_rows(self, data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        """Divide the stored values of rows by the norms of the rows.

        Parameters
        ----------
        data, starts, out
            As for :meth:`normcore.RowScaler.map_sparse_rows`.
        """
        _refuse(divide_sparse_rows(data, starts, out, self.norm))


def check_norm(norm: object) -> None:
    """Refuse a norm that there is not.

    Raises
    ------
    ValueError
        Naming those there are.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}")


def row_norms(X: Any, norm: str) -> Any:
    """Return the norms of the rows of a dense table that is known to be finite, in float64."""
    if not isinstance(X, np.ndarray) and hasattr(X, "__array_namespace__"):
        xp = X.__array_namespace__()
        norms, most = _norms(xp, xp.astype(X, xp.float64), norm)
        return xp.reshape(norms * most, (-1,))
    x = np.asarray(X)
    norms = np.empty(len(x))
    for start in range(0, len(x), BLOCK_ROWS):
        block = np.array(x[start : start + BLOCK_ROWS], dtype=np.float64, order="C")
        divide_rows(block, block, norm, norms[start : start + BLOCK_ROWS])
    return norms


def _refuse(row: int) -> None:
    if row >= 0:
        raise ValueError(f"row {row} holds NaN or infinity")


def _divided(xp: ModuleType, x: Any, norm: str) -> Any:
    """Return rows of float64 divided by their norms, in array-API terms."""
    norms, most = _norms(xp, x, norm)
    if bool(xp.any(~xp.isfinite(most))):
        raise ValueError("a row holds NaN or infinity")
    return x / most / norms


def _norms(xp: ModuleType, x: Any, norm: str) -> tuple[Any, Any]:
    """Return two factors of the norm of each row, the second its largest absolute value.

    Squares of what is left by that have their digits. Both are 1 for a row of zeros.
    """
    most = xp.max(xp.abs(x), axis=1, keepdims=True)
    one = xp.ones_like(most)
    most = xp.where(most == 0, one, most)
    scaled = x / most
    size = one
    if norm == "l1":
        size = xp.sum(xp.abs(scaled), axis=1, keepdims=True)
    elif norm == "l2":
        size = xp.sqrt(xp.sum(scaled**2, axis=1, keepdims=True))
    return xp.where(size == 0, one, size), most
