"""Maps of arrays of any axes, and of what a mask shows of them, in terms of the map of a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array, array_namespace, is_strided
from normcore.layout.out_argument import check_out, refuse_partial_overlap, result_like
from normcore.scaling.feature_axes import FeatureAxes, is_view

if TYPE_CHECKING:
    from normcore.scaling.transforming import Transforming

__all__ = ["any_infinite", "as_table_scaler", "by_tables", "mapped", "refuse_infinity"]

# Elements that are copied into one table, and that are looked at together.
_TABLE, _BLOCK = 1 << 18, 1 << 20


def mapped(
    scaler: Transforming,
    backend: Backend,
    x: Array,
    out: Array,
    inverse: bool,
    features: FeatureAxes | None,
    mask: Array,
) -> Array:
    """Return the map of a native array, written into ``out`` where given.

    Parameters
    ----------
    features : FeatureAxes or None
        None for a table.
    mask : array of bool, of the shape of ``x``, or None
    """
    if out is not None:
        check_out(out, x)
        refuse_partial_overlap(out, x)
    if features is None:
        return scaler._map_where(backend, x, mask, out, inverse)
    arrangement = features.arrangement(x)
    table, target = arrangement.lay_out(x), None
    in_place = is_view(table, x)
    if out is not None and in_place:
        laid_out = arrangement.lay_out(out)
        target = laid_out if is_view(laid_out, out) else None
    flat = as_table_scaler(scaler, features)
    if mask is None:
        result = flat._map_positions(backend, table, target, inverse)
    else:
        result = flat._map_where(backend, table, arrangement.lay_out(mask), target, inverse)
    if target is not None:
        return out
    result = arrangement.restore(result)
    if out is None:
        if in_place or not is_strided(x):
            return result
        out = result_like(x)
    out[...] = result
    return out


def as_table_scaler(scaler: Transforming, features: FeatureAxes) -> Transforming:
    """Return a scaler of tables with the same state: fitted arrays have one axis of features."""
    scaler._settle()
    flat = object.__new__(type(scaler))
    flat.__dict__.update(scaler.__dict__)
    for name in scaler._shaped:
        value = flat.__dict__.get(name)
        if value is not None:
            flat.__dict__[name] = features.flat(value)
    return flat


def by_tables(function: Callable[[Array], Array], x: Array, out: Array) -> Array:
    """Map an array with its features on axis 1 by a function of tables, some samples at a time."""
    if not is_strided(x):
        result = _as_array(function(_as_table(x)), x)
        if out is None:
            return result
        out[...] = result
        return out
    out = result_like(x) if out is None else out
    num_samples = x.shape[0]
    step = max(1, _TABLE // max(1, math.prod(x.shape[1:])))
    for start in range(0, num_samples, step):
        part = x[start : start + step, ...]
        out[start : start + step, ...] = _as_array(function(_as_table(part)), part)
    return out


def _as_table(x: Array) -> Array:
    xp = array_namespace(x)
    moved = xp.permute_dims(x, (0, *range(2, x.ndim), 1))
    return xp.reshape(moved, (-1, x.shape[1]))


def _as_array(table: Array, x: Array) -> Array:
    xp = array_namespace(table)
    moved = xp.reshape(table, (x.shape[0], *tuple(x.shape[2:]), x.shape[1]))
    return xp.permute_dims(moved, (0, x.ndim - 1, *range(1, x.ndim - 1)))


def any_infinite(x: Array, mask: Array = None) -> bool:
    """Whether an array has an infinite element where a mask, if there is one, shows it."""
    return first_infinite(x, mask) is not None


def first_infinite(x: Array, mask: Array = None) -> tuple[int, ...] | None:
    """Return the place of the first infinite element that a mask, if there is one, shows."""
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating") or 0 in x.shape:
        return None
    step = max(1, _BLOCK // max(1, math.prod(x.shape[1:])))
    for start in range(0, x.shape[0], step):
        part = slice(start, min(start + step, x.shape[0]))
        infinite = xp.isinf(x[part, ...])
        if mask is not None:
            infinite = infinite & mask[part, ...]
        if bool(xp.any(infinite)):
            place = [int(each[0]) for each in xp.nonzero(infinite)]
            return (start + place[0], *place[1:])
    return None


def refuse_infinity(x: Array, mask: Array = None) -> None:
    """Refuse an array of any dimensions that shows an infinite element.

    Raises
    ------
    ValueError
        Naming the place of the first one.
    """
    place = first_infinite(x, mask)
    if place is not None:
        shown = place[0] if len(place) == 1 else place
        raise ValueError(
            f"Input X contains infinity, first at index {shown}. Replace the value by NaN, which "
            "scalers skip, or hide it (where=)."
        )
