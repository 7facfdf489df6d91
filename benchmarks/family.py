"""Scalers beside the three of the core: by the largest absolute value, and of rows to norm 1."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import normcore as nc

from .cases import Arrays
from .peers import OURS, Contestant, found

__all__ = ["VERBS", "family_contestants", "family_oracle"]

#: What is done with each.
VERBS = {
    "MaxAbsScaler": ("fit", "transform out=", "transform"),
    "Normalizer": ("transform out=", "transform"),
}


def family_contestants(scaler: str, verb: str, arrays: Arrays) -> Iterator[Contestant]:
    """Yield normcore, scikit-learn and NumPy."""
    x = arrays.x
    ours = getattr(nc, scaler)().fit(x)
    if verb == "fit":
        yield Contestant(OURS, lambda: getattr(nc, scaler)().fit(x), _fitted)
    elif verb == "transform":
        yield Contestant(OURS, lambda: ours.transform(x))
    else:
        out = arrays.out
        yield Contestant(OURS, lambda: ours.transform(x, out=out))
    if found("scikit-learn") is not None and not verb.endswith("out="):
        from sklearn import preprocessing

        theirs = getattr(preprocessing, scaler)()
        call = partial(theirs.fit, x) if verb == "fit" else partial(theirs.fit(x).transform, x)
        yield Contestant("scikit-learn", call, _fitted if verb == "fit" else _returned)
    if scaler == "MaxAbsScaler" and verb == "fit":
        yield Contestant("NumPy", lambda: np.maximum(x.max(axis=0), -x.min(axis=0)))


def family_oracle(scaler: str, verb: str, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute the result in float64 with NumPy."""
    x = arrays.x.astype(np.float64)
    if scaler == "Normalizer":
        return (x / np.linalg.norm(x, axis=1, keepdims=True),)
    most = np.abs(x).max(axis=0)
    return (most if verb == "fit" else x / most,)


def _fitted(scaler: Any) -> tuple[np.ndarray, ...]:
    return (np.asarray(scaler.scale_),)


def _returned(result: Any) -> tuple[np.ndarray, ...]:
    return (np.asarray(result),)
