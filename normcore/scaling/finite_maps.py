"""Affine maps whose intermediate results stay finite where the result is.

``((x - center) / scale) * gamma + beta`` can leave float64 on the way in two cases.

1. A quotient by a scale below 1 may be infinite, and a gamma below 1 would have brought it back.
   Both are multiplied by a power of two, which changes no bit of a result.
2. A difference from a center, or a sum with a beta, may be infinite where that is near the largest
   float64. There the map is evaluated on a quarter of x, and its result multiplied by 4: exact,
   and finite unless the result itself is not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array, array_namespace
from normcore.layout.out_argument import result_dtype
from normcore.layout.tiling import blocks

__all__ = ["FiniteAffine", "finite", "plain", "rescale_quarters", "spread"]

# From half a unit in the last place of the largest float64 on, sums with it may overflow.
_FAR = 2.0**970
# Elements of one block of a walk.
_BLOCK = 1 << 18


class FiniteAffine(Affine):
    """A map with coefficients that keep intermediate results finite.

    Attributes
    ----------
    plain : Affine
        The same map as its maker gave it.
    unit : float64 array of shape (C,) or None
        By which x is multiplied, center and beta are, and the result is divided; None where it is
        1 in all channels.
    """

    __slots__ = ("plain", "unit")

    def __init__(self, plain: Affine, num_channels: int) -> None:
        center, scale, gamma, beta = plain.vectors(num_channels)
        shift = np.where(_may_overflow(scale, gamma), _shift(scale, gamma), 0)
        far = np.maximum(np.abs(center), np.abs(beta)) >= _FAR
        unit = np.where(far, 0.25, 1.0)
        super().__init__(
            center=center * unit,
            scale=np.ldexp(scale, shift),
            gamma=np.ldexp(gamma, shift),
            beta=beta * unit,
            center_low=plain.center_low,
        )
        object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "unit", unit if far.any() else None)

    def inverse(self) -> Affine:
        """Return the inverse map."""
        swapped = self.plain.inverse()
        return FiniteAffine(swapped, len(np.atleast_1d(self.center)))

    def select(self, channels: slice | np.ndarray) -> Affine:
        """Return the map of some of the channels (an index array or a slice)."""
        return FiniteAffine(self.plain.select(channels), len(self.center[channels]))

    def __reduce__(self) -> tuple[Callable[..., Affine], tuple[Affine, int]]:
        return FiniteAffine, (self.plain, len(np.atleast_1d(self.center)))


def plain(affine: Affine) -> Affine:
    """Return a map with the coefficients that its maker gave it."""
    return affine.plain if isinstance(affine, FiniteAffine) else affine


def finite(affine: Affine, num_channels: int) -> Affine:
    """Return a map with the same results, but for what would overflow on the way."""
    center, scale, gamma, beta = np.abs(affine.coefficients(num_channels))
    if np.fmax.reduce((center, beta), axis=None) >= _FAR or _may_overflow(scale, gamma).any():
        return FiniteAffine(affine, num_channels)
    return affine


def spread(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``high - low`` as a product of two finite numbers, the second 2 where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
        overflows = np.isinf(width) & np.isfinite(low) & np.isfinite(high)
        return np.where(overflows, high / 2 - low / 2, width), np.where(overflows, 2.0, 1.0)


def rescale_quarters(
    backend: Backend,
    x: Array,
    affine: FiniteAffine,
    axis: int | None = 1,
    *,
    out: Array = None,
    clip: tuple[float, float] | None = None,
    refuse_infinite: bool = True,
) -> Array:
    """Return the map of an array in which some channels have a unit; refuse infinity if told to."""
    kernel = partial(_quarters, backend, affine, clip, refuse_infinite)
    return over_views.elementwise(kernel, axis, x, out=out)


def _quarters(
    backend: Backend,
    affine: FiniteAffine,
    clip: tuple[float, float] | None,
    refuse_infinite: bool,
    x: Array,
    *,
    out: Array = None,
) -> Array:
    xp = array_namespace(x)
    assert affine.unit is not None
    first, last = Affine(gamma=affine.unit), Affine(scale=affine.unit)

    def compute(block: Array) -> Array:
        wide = xp.astype(block, xp.float64)
        for each in (first, affine):
            wide = backend.rescale(wide, each, refuse_infinite=refuse_infinite and each is first)
        return backend.rescale(wide, last, clip=clip)

    dtype = result_dtype(x)
    if not isinstance(x, np.ndarray):
        result = xp.astype(compute(x), dtype)
        if out is None:
            return result
        out[...] = result
        return out
    out = np.empty(x.shape, dtype) if out is None else out
    with np.errstate(over="ignore"):
        for rows, inner in blocks(x.shape, _BLOCK):
            out[rows, :, inner] = compute(x[rows, :, inner])
    return out


def _may_overflow(scale: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    scale, gamma = np.abs(scale), np.abs(gamma)
    may: np.ndarray = (scale < 1.0) & (gamma < 1.0) & (scale > 0.0) & (gamma > 0.0)
    return may


def _shift(scale: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Return the power of two by which the larger of the two gets to 1 or above."""
    exponents = np.frexp(np.maximum(np.abs(scale), np.abs(gamma)))[1]
    shift: np.ndarray = 1 - exponents
    return shift
