"""A volume of which a mask shows a part, mapped against the same map of the whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import normcore as nc

from .cases import Arrays
from .peers import OURS, Contestant

__all__ = ["MASKS", "mask_contestants", "mask_oracle"]

#: Masks that show half of the elements: each by chance, or those of one block.
MASKS = ("scattered", "block")


def mask_contestants(kind: str, arrays: Arrays) -> Iterator[Contestant]:
    """Yield the map under a mask, and that of all, of which what is shown is compared."""
    x, out, where = arrays.x, arrays.out, _mask(kind, arrays)
    scaler = nc.StandardScaler(axis=None).fit(x, where=where)
    yield Contestant(OURS, lambda: scaler.transform(x, out=out, where=where))
    yield Contestant(
        "without a mask",
        lambda: scaler.transform(x, out=out),
        lambda y: (np.where(where, y, x),),
    )


def mask_oracle(kind: str, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute the result in float64 with NumPy."""
    x, where = arrays.x.astype(np.float64), _mask(kind, arrays)
    return (np.where(where, (x - x.mean(where=where)) / x.std(where=where), x),)


def _mask(kind: str, arrays: Arrays) -> np.ndarray:
    shape = arrays.x.shape
    if kind == "scattered":
        return np.random.default_rng(2).random(shape) < 0.5
    mask = np.zeros(shape, bool)
    mask[tuple(slice(side // 10, side - side // 10) for side in shape)] = True
    return mask
