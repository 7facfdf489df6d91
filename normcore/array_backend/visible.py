"""The map of what a mask shows, in terms of the map of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.affine import Affine
from normcore.layout.namespace import Array, array_namespace
from normcore.layout.tiling import blocks

if TYPE_CHECKING:
    from normcore.array_backend.abstract import Backend

__all__ = ["rescale_visible"]

# Elements of one block of a walk.
_BLOCK = 1 << 18


def rescale_visible(
    backend: Backend,
    x: Array,
    affine: Affine,
    where: Array,
    *,
    clip: tuple[float, float] | None,
    out: Array,
    refuse_infinite: bool,
) -> Array:
    """Do what :meth:`normcore.Backend.rescale_where` says: map all, and put back what is hidden."""
    xp = array_namespace(x)

    def compute(x: Array, where: Array) -> Array:
        shown = xp.where(where, x, xp.zeros_like(x))  # what is hidden must not be refused
        y = backend.rescale(shown, affine, clip=clip, refuse_infinite=refuse_infinite)
        return xp.where(where, y, x)

    if not isinstance(x, np.ndarray):
        y = compute(x, where)
        if out is None:
            return y
        out[...] = y
        return out
    out = np.empty_like(x) if out is None else out
    for rows, inner in blocks(x.shape, _BLOCK):
        out[rows, :, inner] = compute(x[rows, :, inner], where[rows, :, inner])
    return out
