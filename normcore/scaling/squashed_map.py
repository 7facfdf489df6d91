"""Affine maps that a function of each value follows, in float64 and blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend, InfiniteInput
from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace
from normcore.scaling.finite_maps import FiniteAffine, rescale_quarters
from normcore.threads import run

if TYPE_CHECKING:
    from normcore.scaling.affine_scaler import AffineScaler

__all__ = ["squashed_map"]

# Elements of a block, which stays in a cache.
_BLOCK = 1 << 15


def squashed_map(
    scaler: AffineScaler,
    backend: Backend,
    x: Array,
    affine: Affine,
    inverse: bool,
    out: Array,
    where: Array,
) -> Array:
    """Return the map of a native table by ``affine``, before or after the scaler's function.

    Parameters
    ----------
    affine : Affine
        That of the direction.
    where : array of bool, of the shape of ``x``, or None
        Elements where it is False stay as they are.

    Raises
    ------
    InfiniteInput
        Of infinities that ``where`` shows; what has been written by then is undefined.
    """
    if not isinstance(x, np.ndarray):
        result = _mapped(scaler, backend, x, affine, inverse, where)
        xp = array_namespace(x)
        result = xp.astype(result, out_argument.result_dtype(x))
        if out is None:
            return result
        out[...] = result
        return out
    if out is None:
        target = out_argument.result_like(x)
    else:
        out_argument.check_out(out, x)
        out_argument.refuse_partial_overlap(out, x)
        target = out
    step = max(1, _BLOCK // max(x.shape[1], 1))

    def work(start: int, stop: int) -> None:
        for block in range(start, stop):
            rows = slice(block * step, min((block + 1) * step, x.shape[0]))
            shown = None if where is None else where[rows]
            with np.errstate(over="ignore"):
                target[rows] = _mapped(scaler, backend, x[rows], affine, inverse, shown)

    run(work, -(-x.shape[0] // step))
    return target


def _mapped(
    scaler: AffineScaler, backend: Backend, x: Array, affine: Affine, inverse: bool, where: Array
) -> Array:
    """Return the map of some rows, in float64."""
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "real floating"):  # integers are mapped exactly
        given = x = xp.astype(x, xp.float64)
    else:
        given = xp.astype(x, xp.float64)
    if where is not None:
        x = xp.where(where, x, xp.zeros_like(x))
    if xp.isdtype(x.dtype, "real floating") and bool(xp.any(xp.isinf(x))):
        raise InfiniteInput
    if inverse:
        y = _rescaled(backend, scaler.unsquash(xp, x), affine)
    else:
        y = scaler.squash(xp, _rescaled(backend, x, affine))
    return y if where is None else xp.where(where, y, given)


def _rescaled(backend: Backend, x: Array, affine: Affine) -> Array:
    if isinstance(affine, FiniteAffine) and affine.unit is not None:
        return rescale_quarters(backend, x, affine, refuse_infinite=False)
    return over_views.rescale(backend, x, affine, 1)
