"""The sketch of quantiles, against exact ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import normcore as nc

from .cases import Arrays
from .peers import OURS, Contestant

__all__ = ["SKETCHED", "sketch_contestants", "sketch_oracle"]

#: Tables: one column, many, and a few values.
SKETCHED = [((2_000_000, 1), "float64"), ((200_000, 64), "float32"), ((50_000, 1), "float64")]


def sketch_contestants(arrays: Arrays) -> Iterator[Contestant]:
    """Yield a fit that sketches and one that does not; they agree on how much there is."""
    x = arrays.x
    for name, quantiles in ((OURS, "sketch"), ("exact", "exact")):
        scaler = nc.RobustScaler(quantiles=quantiles)
        yield Contestant(name, lambda scaler=scaler: scaler.fit(x), lambda fitted: (_seen(fitted),))


def sketch_oracle(arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Return the number of rows of each column."""
    return (np.full(arrays.x.shape[1], float(len(arrays.x))),)


def _seen(fitted: nc.RobustScaler) -> np.ndarray:
    return np.full(fitted.n_features_in_, float(fitted.n_samples_seen_))
