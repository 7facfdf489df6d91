"""Maps of tables that hold some of the features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array, array_namespace
from normcore.layout.out_argument import check_out, result_dtype
from normcore.scaling import element_mask

if TYPE_CHECKING:
    from normcore.scaling.transforming import Transforming

__all__ = ["mapped_among_all", "mapped_some"]

# Values of all features in memory at a time.
_BLOCK = 1 << 20


def mapped_some(
    scaler: Transforming,
    backend: Backend,
    x: Array,
    out: Array,
    inverse: bool,
    chosen: np.ndarray,
    mask: Array,
) -> Array:
    """Return the map of a native table of the chosen features, of what a mask shows of it."""
    if mask is None:
        return scaler._map_some(backend, x, out, inverse, chosen)
    shown = element_mask.hidden_as_nan(backend, x, mask)
    result = over_views.restored(scaler._map_some(backend, shown, None, inverse, chosen), x, mask)
    if out is None:
        return result
    out[...] = result
    return out


def mapped_among_all(
    scaler: Transforming, backend: Backend, x: Array, out: Array, inverse: bool, chosen: np.ndarray
) -> Array:
    """Return the map of a table of the chosen features, by that of tables of all.

    This suits every map: the other features are NaN, block by block.
    """
    xp = array_namespace(x)
    device = getattr(x, "device", None)
    result = xp.empty(x.shape, dtype=result_dtype(x), device=device)
    step = max(1, _BLOCK // scaler.n_features_in_)
    for rows in (slice(start, start + step) for start in range(0, x.shape[0], step)):
        block = x[rows, :]
        shape = (block.shape[0], scaler.n_features_in_)
        whole = xp.full(shape, math.nan, dtype=result.dtype, device=device)
        for place, feature in enumerate(chosen.tolist()):
            whole[:, feature] = xp.astype(block[:, place], result.dtype)
        mapped = scaler._map(backend, whole, None, inverse)
        for place, feature in enumerate(chosen.tolist()):
            result[rows, place] = mapped[:, feature]
    if out is None:
        return result
    check_out(out, x)
    out[...] = result  # at last: it may be x itself, which no failure is to change
    return out
