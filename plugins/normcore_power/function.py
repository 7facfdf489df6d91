"""power_transform, the function beside PowerTransformer."""

from __future__ import annotations

from typing import Any

from normcore_power.transformer import PowerTransformer

__all__ = ["power_transform"]


def power_transform(
    X: Any, method: str = "yeo-johnson", *, standardize: bool = True, copy: bool = True
) -> Any:
    """Make each feature more like a normal distribution, without keeping a transformer.

    Parameters
    ----------
    X : array, data frame or nested list of shape (n_samples, n_features)
        The data.
    method, standardize, copy
        As those of :class:`~normcore_power.PowerTransformer`.

    Returns
    -------
    array of the shape of X
        Whatever scikit-learn's ``transform_output`` says.

    Raises
    ------
    ValueError
        If ``X`` cannot be fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> Y = nc.power_transform([[1.0], [2.0], [8.0]], method="box-cox")
    >>> abs(Y.mean().round(12)), Y.std().round(12)
    (np.float64(0.0), np.float64(1.0))
    """
    transformer = PowerTransformer(method, standardize=standardize, copy=copy)
    return transformer.set_output(transform="default").fit_transform(X)
