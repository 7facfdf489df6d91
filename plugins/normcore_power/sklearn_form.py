"""Power transforms as scikit-learn keeps them: the curve from its origin, then standardized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from normcore_power.estimation import PowerCurves

if TYPE_CHECKING:
    from normcore_power.transformer import PowerTransformer

    Transformer = TypeVar("Transformer", bound=PowerTransformer)

__all__ = ["attributes", "read"]

# How many deviations away a mean may be: results then keep four digits.
_DIGITS = 2.0**39


def read(made: Transformer, estimator: Any) -> Transformer:
    """Return a transformer with what a fitted estimator has learned."""
    lambdas = np.array(estimator.lambdas_, dtype=np.float64)
    parameters = PowerCurves.of_lambdas(lambdas, plus_one=made.method == "yeo-johnson")
    rows = 0
    if made.standardize:
        standard = estimator._scaler
        parameters[:, 3], parameters[:, 4] = standard.mean_, standard.scale_
        rows = int(np.max(standard.n_samples_seen_))
    count = np.full(len(lambdas), float(max(rows, 1)))
    curves = PowerCurves(parameters, count, np.zeros(len(lambdas)))
    names = getattr(estimator, "feature_names_in_", None)
    return made.fit_statistic(curves, rows, len(lambdas), names)


def attributes(transformer: PowerTransformer, parameters: np.ndarray) -> Mapping[str, Any]:
    """Return the fitted attributes of scikit-learn's transformer.

    Raises
    ------
    ValueError
        If the curve from its origin is much further away than wide, as of data far from zero and
        close together: scikit-learn maps such to zeros, or to the noise of rounding.
    """
    lambdas = np.array(parameters[:, 0])
    if not transformer.standardize:
        return {"lambdas_": lambdas}
    from sklearn.preprocessing import StandardScaler

    plus_one = transformer.method == "yeo-johnson"
    mean, scale = _from_origin(parameters, plus_one)
    kept = np.isfinite(mean) & np.isfinite(scale) & (np.abs(mean) <= _DIGITS * scale)
    lost = np.flatnonzero(~np.isnan(lambdas) & ~kept)
    if lost.size:
        raise ValueError(
            f"column {lost[0]} lies so far from zero that its power transform would lose its "
            "digits in scikit-learn, which measures from zero: subtract an origin before it is "
            "fitted, or use save()"
        )
    scaler = StandardScaler(copy=False).set_output(transform="default")
    scaler.mean_, scaler.scale_ = mean, scale
    with np.errstate(over="ignore", under="ignore"):
        scaler.var_ = scaler.scale_**2
    scaler.n_samples_seen_ = transformer.n_samples_seen_
    scaler.n_features_in_ = len(lambdas)
    return {"lambdas_": lambdas, "_scaler": scaler}


def _from_origin(parameters: np.ndarray, plus_one: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of the curve from 0, or from 1 for Box-Cox, of each feature."""
    power, origin, unit, mean, scale = parameters.T
    sign = np.where(plus_one & (origin < 0), -1.0, 1.0)
    power = np.where(sign < 0, 2.0 - power, power)
    logarithm = np.log1p(np.abs(origin)) if plus_one else np.log(origin)
    safe = np.where(power == 0, 1.0, power)
    with np.errstate(over="ignore", invalid="ignore"):
        start = np.where(power == 0, logarithm, np.expm1(power * logarithm) / safe)
        step = unit * np.exp(power * logarithm)
        return sign * (start + mean * step), scale * step
