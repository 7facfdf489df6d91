"""What several backends compute alike: scales and gradients of a batch."""

from __future__ import annotations

import math

import numpy as np

from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import Moments

__all__ = ["batch_scale", "gradient_vectors"]


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
    section 3). An infinite count stands for statistics that do not depend on x: then the means
    are 0, whatever the sums, lest one sample's NaN be in the gradient of others.
    """
    a = gamma / scale
    if isinstance(count, float) and math.isinf(count):
        xp = array_namespace(sum_dy)
        sum_dy, sum_dy_xmu = (
            xp.where(xp.isfinite(each), each, xp.zeros_like(each)) for each in (sum_dy, sum_dy_xmu)
        )
    with np.errstate(all="ignore"):  # what is not finite propagates
        return a, a * (sum_dy / count), a * (sum_dy_xmu / count) / (scale * scale)
