"""The scalers as functions: an array scaled by what is in it, along columns or rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc

__all__ = ["maxabs_scale", "minmax_scale", "robust_scale", "scale"]


def scale(
    X: Any, *, axis: int = 0, with_mean: bool = True, with_std: bool = True, copy: bool = True
) -> Any:
    """Center each feature to its mean and divide it by its standard deviation.

    Parameters
    ----------
    X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features), or (n,)
        NaN is skipped and stays. A sparse one comes back in CSC format.
    axis : {0, 1}
        With 0 each column is scaled, with 1 each row.
    with_mean : bool
        Subtract the mean; not of sparse input.
    with_std : bool
        Divide by the standard deviation, unless that is 0.
    copy : bool
        With False, ``X`` is overwritten where it can be.

    Returns
    -------
    array of the shape and kind of X

    Raises
    ------
    ValueError
        If a parameter is invalid, or ``X`` cannot be fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.scale([[2.0], [4.0]])
    array([[-1.],
           [ 1.]])
    """
    _check_axis(axis)
    scaler = nc.StandardScaler(with_mean=with_mean, with_std=with_std, copy=copy)
    if hasattr(X, "tocsc"):
        if with_mean:
            raise ValueError(
                "Cannot center sparse matrices: pass `with_mean=False` instead See docstring for "
                "motivation and alternatives."
            )
        if axis != 0:
            raise ValueError(f"Can only scale sparse matrix on axis=0,  got axis={axis}")
        X = X.tocsc()
    return _scaled(scaler, X, axis)


def minmax_scale(
    X: Any, feature_range: tuple[float, float] = (0, 1), *, axis: int = 0, copy: bool = True
) -> Any:
    """Map each feature to a range: its smallest value to one end, its largest to the other.

    Parameters
    ----------
    X : array, data frame or nested list of shape (n_samples, n_features), or (n,)
        NaN is skipped and stays.
    feature_range : (lo, hi)
        Two finite numbers, ``lo < hi``.
    axis : {0, 1}
        With 0 each column is scaled, with 1 each row.
    copy : bool
        With False, ``X`` is overwritten where it can be.

    Returns
    -------
    array of the shape and kind of X

    Raises
    ------
    ValueError
        If a parameter is invalid, or ``X`` cannot be fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.minmax_scale([[2.0], [4.0]])
    array([[0.],
           [1.]])
    """
    _check_axis(axis)
    return _scaled(nc.MinMaxScaler(feature_range, copy=copy), X, axis)


def maxabs_scale(X: Any, *, axis: int = 0, copy: bool = True) -> Any:
    """Divide each feature by its largest absolute value.

    Parameters
    ----------
    X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features), or (n,)
        NaN is skipped and stays.
    axis : {0, 1}
        With 0 each column is scaled, with 1 each row.
    copy : bool
        With False, ``X`` is overwritten where it can be.

    Returns
    -------
    array of the shape and kind of X

    Raises
    ------
    ValueError
        If ``axis`` is not 0 or 1, or ``X`` cannot be fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.maxabs_scale([[2.0], [4.0]])
    array([[0.5],
           [1. ]])
    """
    _check_axis(axis)
    return _scaled(nc.MaxAbsScaler(copy=copy), X, axis)


def robust_scale(
    X: Any,
    *,
    axis: int = 0,
    with_centering: bool = True,
    with_scaling: bool = True,
    quantile_range: tuple[float, float] = (25.0, 75.0),
    copy: bool = True,
    unit_variance: bool = False,
) -> Any:
    """Center each feature to its median and divide it by its range between two quantiles.

    Parameters
    ----------
    X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features), or (n,)
        NaN is skipped and stays.
    axis : {0, 1}
        With 0 each column is scaled, with 1 each row.
    with_centering : bool
        Subtract the median; not of sparse input.
    with_scaling : bool
        Divide by the range between the quantiles, unless that is 0.
    quantile_range : (q_min, q_max)
        Percentages.
    copy : bool
        With False, ``X`` is overwritten where it can be.
    unit_variance : bool
        Divide the scale by the same range of the standard normal distribution.

    Returns
    -------
    array of the shape and kind of X

    Raises
    ------
    ValueError
        If a parameter is invalid, or ``X`` cannot be fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.robust_scale([[2.0], [4.0]])
    array([[-1.],
           [ 1.]])
    """
    _check_axis(axis)
    scaler = nc.RobustScaler(
        with_centering=with_centering,
        with_scaling=with_scaling,
        quantile_range=quantile_range,
        copy=copy,
        unit_variance=unit_variance,
    )
    return _scaled(scaler, X, axis)


def _check_axis(axis: object) -> None:
    if axis not in (0, 1) or isinstance(axis, bool | float):
        raise ValueError(f"axis must be 0 or 1, not {axis!r}")


def _scaled(scaler: Any, X: Any, axis: int) -> Any:
    """Return what a scaler makes of the data that it is fitted to; one dimension is a column."""
    scaler.set_output(transform="default")  # an array, whatever scikit-learn's configuration says
    if not hasattr(X, "ndim") or (axis == 1 and hasattr(X, "columns")):
        X = np.asarray(X)  # of a list, or of a frame, whose rows are no columns
    if X.ndim != 1:
        return scaler.fit_transform(X) if axis == 0 else scaler.fit_transform(X.T).T
    if not hasattr(X, "__dlpack__"):
        X = np.asarray(X)
    column = X.reshape(-1, 1) if hasattr(X, "reshape") else _reshaped(X, (-1, 1))
    column = column if axis == 0 else column.T
    result = scaler.fit_transform(column)
    return result.reshape(-1) if hasattr(result, "reshape") else _reshaped(result, (-1,))


def _reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """Return an array of a library whose arrays have no methods."""
    return x.__array_namespace__().reshape(x, shape)
