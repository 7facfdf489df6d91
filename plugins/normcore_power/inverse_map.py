"""The compiled inverse of power transforms, which warns where nothing has such a transform."""

from __future__ import annotations

import numpy as np

import normcore as nc
from normcore_power import curve

__all__ = ["inverse"]


def inverse(x: np.ndarray, parameters: np.ndarray, plus_one: bool) -> np.ndarray:
    """Return what has these powers; arguments are those of :func:`normcore_power.curve.inverse`.

    Warns
    -----
    UserWarning
        Naming the first column with values that no number has as its power.
    """
    result = curve.inverse(x, parameters, plus_one)
    lost = np.isnan(result) & ~np.isnan(x)
    if lost.any() and not np.isnan(parameters[lost.any(axis=0)]).any():
        column = int(np.argmax(lost.any(axis=0)))
        nc.warn_caller(
            f"Some values in column {column} of the inverse-transformed data are NaN. No value has "
            "them as its power transform: that has bounds where lambda is below 0, or above 2 for "
            "values below 0.",
            package="normcore_power",
        )
    return result
