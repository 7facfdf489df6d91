"""quantile_transform, the function beside QuantileTransformer."""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore_quantile.transformer import QuantileTransformer

__all__ = ["quantile_transform"]


def quantile_transform(
    X: Any,
    *,
    axis: int = 0,
    n_quantiles: int = 1000,
    output_distribution: str = "uniform",
    ignore_implicit_zeros: bool = False,
    subsample: int | None = 100_000,
    random_state: int | np.random.RandomState | None = None,
    copy: bool = True,
) -> Any:
    """Map each feature by its quantiles to a distribution, without keeping a transformer.

    Parameters
    ----------
    X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
        The data.
    axis : {0, 1}
        With 0 each column is mapped, with 1 each row.
    n_quantiles, output_distribution, ignore_implicit_zeros, random_state, copy
        As those of :class:`~normcore_quantile.QuantileTransformer`.
    subsample : int or None, default=100_000
        Likewise.

    Returns
    -------
    array or sparse matrix of the shape of X
        Whatever scikit-learn's ``transform_output`` says.

    Raises
    ------
    ValueError
        If ``axis`` is not 0 or 1, or ``X`` cannot be fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.quantile_transform([[1.0], [10.0], [1000.0]], n_quantiles=3)
    array([[0. ],
           [0.5],
           [1. ]])
    """
    if axis not in (0, 1) or isinstance(axis, bool):
        raise ValueError(f"axis must be 0 or 1, not {axis!r}")
    transformer = QuantileTransformer(
        n_quantiles=n_quantiles,
        output_distribution=output_distribution,
        ignore_implicit_zeros=ignore_implicit_zeros,
        subsample=subsample,
        random_state=random_state,
        copy=copy,
    ).set_output(transform="default")
    if axis == 0:
        return transformer.fit_transform(X)
    if not hasattr(X, "T"):
        X = np.asarray(X)
    return transformer.fit_transform(X.T).T
