"""The scalers that change distributions, against scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import normcore as nc

from .cases import Arrays
from .peers import OURS, Contestant, found

__all__ = ["DISTRIBUTIONS", "distribution_contestants", "distribution_oracle"]

#: Scalers, and their parameters beside the defaults.
DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "QuantileTransformer": {"random_state": 0},
    "PowerTransformer": {"standardize": False},
}
#: Decimals of lambdas that every search for them finds.
DECIMALS = 3


def distribution_contestants(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Yield normcore, and scikit-learn where that is installed."""
    parameters = dict(DISTRIBUTIONS[scaler])
    if scaler == "QuantileTransformer":
        parameters["n_quantiles"] = _num_quantiles(arrays.x)
    libraries = {OURS: nc}
    if found("scikit-learn") is not None:
        from sklearn import preprocessing

        libraries["scikit-learn"] = preprocessing
    x = arrays.x
    for name, library in libraries.items():
        one = getattr(library, scaler)(**parameters)
        if verb == "fit":
            yield Contestant(name, lambda one=one: one.fit(x), _learned)
        else:
            if scaler == "PowerTransformer":
                one.fit(x[:100])
                one.lambdas_ = np.linspace(-0.9, 2.8, x.shape[1])
            else:
                one.fit(x)
            yield Contestant(name, lambda one=one: one.transform(x))


def distribution_oracle(scaler: str, verb: str, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute the result in float64, column by column."""
    x = arrays.x.astype(np.float64)
    if scaler == "PowerTransformer":
        if verb == "fit":
            return (np.round([_most_likely(column) for column in x.T], DECIMALS),)
        lambdas = np.linspace(-0.9, 2.8, x.shape[1])
        return (np.stack([_powers(*each) for each in zip(x.T, lambdas, strict=True)], axis=1),)
    references = np.linspace(0.0, 1.0, _num_quantiles(x))
    quantiles = np.quantile(x, references, axis=0)
    if verb == "fit":
        return (quantiles,)
    columns = [np.interp(column, q, references) for column, q in zip(x.T, quantiles.T, strict=True)]
    return (np.stack(columns, axis=1),)


def _num_quantiles(x: np.ndarray) -> int:
    return min(1000, len(x))


def _learned(fitted: Any) -> tuple[np.ndarray, ...]:
    if hasattr(fitted, "quantiles_"):
        return (fitted.quantiles_,)
    return (np.round(fitted.lambdas_, DECIMALS),)


def _powers(x: np.ndarray, power: float) -> np.ndarray:
    """Return the transform of Yeo and Johnson, of powers other than 0 and 2."""
    above = ((np.maximum(x, 0.0) + 1.0) ** power - 1.0) / power
    below = ((1.0 - np.minimum(x, 0.0)) ** (2.0 - power) - 1.0) / (2.0 - power)
    return np.where(x >= 0.0, above, -below)


def _most_likely(x: np.ndarray) -> float:
    """Return the power of the largest likelihood, by thirds of an interval."""
    low, high = -9.87, 10.13
    signed = float(np.mean(np.sign(x) * np.log1p(np.abs(x))))
    while high - low > 1e-9:
        thirds = low + (high - low) / 3.0, high - (high - low) / 3.0
        costs = [0.5 * np.log(np.var(_powers(x, each))) - (each - 1.0) * signed for each in thirds]
        low, high = (low, thirds[1]) if costs[0] < costs[1] else (thirds[0], high)
    return low
