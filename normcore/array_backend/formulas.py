"""What several backends compute alike: scales and gradients of a batch, and the maps of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from normcore.affine import Affine
from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import Moments

__all__ = ["batch_scale", "gradient_vectors", "row_affine", "row_blocks"]


def batch_scale(moments: Moments, eps: float) -> Array:
    """Return ``sqrt(var + eps)``; where var overflows, eps is negligible and std has a value.

    The root of the sum is within 1 ulp and has the same bits everywhere; hypot has not.
    """
    var = moments.var()
    xp = array_namespace(var)
    return xp.where(xp.isfinite(var), xp.sqrt(var + eps), moments.std())


def gradient_vectors(
    gamma: Array, scale: Array, sum_dy: Array, sum_dy_xmu: Array, count: Array
) -> tuple[Array, Array, Array]:
    """Return the a, b and d of ``Backend.backward_elemt`` where the statistics were x's own.

    With ``xhat = (x - mean) / scale``, the gradient through mean and variance is
    ``gamma / scale * (dy - mean(dy) - xhat * mean(dy * xhat))`` (Ioffe and Szegedy 2015,
    section 3). An infinite count stands for statistics that do not depend on x.
    """
    a = gamma / scale
    with np.errstate(all="ignore"):  # what is not finite propagates
        return a, a * (sum_dy / count), a * (sum_dy_xmu / count) / (scale * scale)


def row_affine(moments: Moments, eps: float, centered: bool) -> Affine:
    """Return the map of each row by its own statistics."""
    with np.errstate(all="ignore"):  # what is not finite propagates
        mean = moments.mean
        if centered:
            return Affine(center=mean, scale=batch_scale(moments, eps))
        return Affine(center=mean * 0.0, scale=(moments.var() + mean**2 + eps) ** 0.5)


def row_blocks(x: Array) -> Iterator[slice]:
    """Split rows so that a float64 temporary stays in a cache."""
    step = max(1, (1 << 16) // max(x.shape[1], 1))
    rows = x.shape[0]
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
