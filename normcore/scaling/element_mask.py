"""Which elements of X count: ``where=``, NumPy's term.

Elements where it is False are left out of statistics, and a map leaves them as they are.
"""

# Design: to a statistic, what is hidden is NaN, which every one of them skips. A map of floats
# takes the mask along (Backend.rescale_where); any other map is given NaN, or 0 for integers that
# float64 does not hold, and what is hidden is put back. A mask keeps its strides, so that one of
# voxels that all channels share, broadcast, takes no more memory than it has.

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array, array_namespace, as_array
from normcore.layout.out_argument import kind_of
from normcore.statistics import Moments, wide_integers
from normcore.statistics.statistic import Statistic

__all__ = [
    "as_mask",
    "hidden_as_nan",
    "observe_visible",
    "refuse_where",
    "shown_integers",
    "zeroed",
]

#: Maps all to NaN.
_TO_NAN = Affine(gamma=float("nan"))

# 64-bit integers up to this are exact in float64.
_LIMIT = 2**53


def as_mask(where: Array, X: Array, backend: Backend) -> Array:
    """Return a mask of the elements of ``X``, of its shape, as the backend takes it.

    Parameters
    ----------
    where : array of bool
        Of the kind of ``X``, of a shape that broadcasts to that of ``X``.
    X : array

    Raises
    ------
    TypeError
        If it is of another library, in another place or not of bool.
    ValueError
        If it does not broadcast to the shape of ``X``, or hides all of it.
    """
    if isinstance(X, np.ndarray):
        foreign = not isinstance(where, np.ndarray) and hasattr(where, "__dlpack__")
        where = where if foreign else np.asarray(as_array(where, what="where"))
    if not (isinstance(where, type(X)) or isinstance(X, type(where))):
        raise TypeError(f"where is a {kind_of(where)}, but X is a {kind_of(X)}; make them alike")
    where = as_array(where, what="where", beside=X)
    xp, shape = array_namespace(where), tuple(X.shape)
    if not xp.isdtype(where.dtype, "bool"):
        raise TypeError(
            f"where must be an array of bool, True for elements that count, not {where.dtype}"
        )
    given = tuple(where.shape)
    fits = len(given) <= len(shape) and all(
        mine in (1, its) for mine, its in zip(given[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ValueError(f"where has shape {given}, which does not broadcast to that of X, {shape}")
    if not bool(xp.any(where)):
        raise ValueError("where hides all of X: no element of it is True")
    mask = backend.adopt(where)
    return array_namespace(mask).broadcast_to(mask, shape)


def refuse_where(where: Array, X: Array) -> None:
    """Refuse a mask of what is not an array in memory, such as a sparse matrix.

    Raises
    ------
    TypeError
        If there is a mask.
    """
    if where is not None:
        of = f" of {X.dtype}" if hasattr(X, "dtype") else ""
        raise TypeError(f"where= is for arrays in memory, and X is a {type(X).__name__}{of}")


def observe_visible(
    backend: Backend, observe: Callable[..., Statistic], x: Array, mask: Array, weights: Array
) -> Statistic:
    """Observe what a mask shows of an array with its features on axis 1.

    Parameters
    ----------
    observe : callable
        ``observe(view, weights=plane)``
    weights : array or None
        As :func:`normcore.array_backend.over_views.observe` takes them.
    """
    if wide_integers.is_64_bit(x) and _holds_wide(x):
        by_feature = _each_feature(observe, x, mask, weights)
        if isinstance(by_feature[0], Moments):
            return _side_by_side([each for each in by_feature if isinstance(each, Moments)])
    return over_views.observe(observe, hidden_as_nan(backend, x, mask), 1, weights=weights)


def hidden_as_nan(backend: Backend, x: Array, mask: Array) -> Array:
    """Return floats, or integers as float64, with NaN for what a mask hides."""
    xp = array_namespace(x)
    out = None
    if not xp.isdtype(x.dtype, "real floating"):
        x = out = xp.astype(x, xp.float64)
    return over_views.rescale(backend, x, _TO_NAN, 1, where=~mask, out=out)


def weighing(x: Array, mask: Array, weights: Array) -> Array:
    """Return a mask, of a shape that broadcasts to that of ``x``, without what weighs nothing."""
    if weights is None:
        return mask
    xp = array_namespace(x)
    rows = xp.reshape(xp.astype(weights, xp.bool), (-1, *[1] * (x.ndim - 1)))
    return rows if mask is None else mask & rows


def zeroed(x: Array, mask: Array) -> Array:
    """Return ``x`` with 0 for what a mask, if there is one, hides."""
    if mask is None:
        return x
    xp = array_namespace(x)
    return xp.where(mask, x, xp.zeros_like(x))


def shown_integers(X: Array, where: Array) -> Array:
    """Return 64-bit integers with 0 where a mask hides them; all else as it is."""
    if not wide_integers.is_64_bit(X):
        return X
    xp = array_namespace(X)
    return xp.where(xp.asarray(where), X, xp.zeros_like(X))


def _holds_wide(x: Array) -> bool:
    """Whether there are integers, hidden ones too, that float64 rounds."""
    xp = array_namespace(x)
    return bool(xp.max(x) > _LIMIT) or (
        xp.isdtype(x.dtype, "signed integer") and bool(xp.min(x) < -_LIMIT)
    )


def _each_feature(
    observe: Callable[..., Statistic], x: Array, mask: Array, weights: Array
) -> list[Statistic]:
    """Observe the visible integers of each feature by itself, gathered: exact in their dtype."""
    found = []
    for feature in range(int(x.shape[1])):
        shown = mask[:, feature, ...]
        gathered = weights if weights is None else weights[shown]
        column = x[:, feature, ...][shown][:, None]
        found.append(over_views.observe(observe, column, 1, weights=gathered))
    return found


def _side_by_side(moments: list[Moments]) -> Moments:
    """Return the moments of all features from those of each."""
    xp = array_namespace(moments[0].parts)
    parts = xp.concat([each.parts for each in moments], axis=1)
    none = xp.zeros(1, dtype=xp.bool)
    wide = [none if each.wide is None else each.wide for each in moments]
    known = any(each.wide is not None for each in moments)
    return Moments(parts, xp.concat(wide) if known else None)
