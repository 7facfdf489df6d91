"""A sparse matrix scaled and centered, without filling in its zeros: as a linear operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling.affine_scaler import AffineScaler
from normcore.scaling.containers.sparse import SparseTable, is_sparse
from normcore.scaling.estimator import not_fitted_error
from normcore.scaling.feature_axes import columns_alone_error, is_columns
from normcore.scaling.finite_maps import plain

if TYPE_CHECKING:
    from normcore.scaling.containers.centered_operator import CenteredOperator

__all__ = ["centered"]


def centered(X: Array, scaler: AffineScaler) -> CenteredOperator:
    """Return ``scaler.transform(X.toarray())`` as a linear operator that never fills in zeros.

    It multiplies vectors and matrices as the dense matrix would, in the time that the sparse one
    takes: what iterative solvers and singular value decompositions need.

    Parameters
    ----------
    X : sparse matrix or array of shape (n_samples, n_features)
        Used where it lies, not copied.
    scaler : AffineScaler
        Fitted, as to a sample of the rows, or by ``partial_fit``; its map must not clip.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        Of shape (n_samples, n_features) and dtype float64.

    Raises
    ------
    TypeError
        If ``X`` is not sparse, or the scaler's map is not affine, or has another axis.
    ValueError
        If ``X`` has other features than in fit or holds infinity, or the scaler clips.
    NotFittedError
        If the scaler is not fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> import scipy.sparse as sp
    >>> X = sp.csr_array([[0.0, 2.0], [4.0, 0.0]])
    >>> scaler = nc.StandardScaler(with_std=False).fit(X.toarray())
    >>> nc.centered(X, scaler) @ [1.0, 1.0]
    array([-1.,  1.])
    """
    if not isinstance(scaler, AffineScaler):
        raise TypeError(f"scaler must be an AffineScaler, got {type(scaler).__name__}")
    if not scaler.__sklearn_is_fitted__():
        raise not_fitted_error(scaler)
    if not is_sparse(X):
        raise TypeError(
            f"X must be a sparse matrix, got {type(X).__name__}; dense data is centered by "
            "transform"
        )
    if not is_columns(scaler.axis):
        raise columns_alone_error("sparse matrices", type(scaler).__name__)
    table = SparseTable(X, type(scaler).__name__)
    scaler._check_features(table, None)
    table.refuse_infinity(getattr(scaler, "feature_names_in_", None))
    affine, clip = scaler._map_of(np.empty((0, scaler.n_features_in_)))
    if clip is not None or scaler.squashes:
        raise ValueError(f"{scaler} clips, which is no linear map; set clip=False")
    from normcore.scaling.containers.centered_operator import CenteredOperator

    return CenteredOperator(table.matrix, plain(affine))
