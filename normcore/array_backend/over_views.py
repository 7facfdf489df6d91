"""A backend's kernels over arrays of any layout, view by view.

Statistics merge over the views; element-wise kernels write into each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.abstract import Backend
from normcore.layout import numpy_views
from normcore.layout.array_views import broadcast_plane, plane_of, views
from normcore.layout.bfloat16 import is_real, widened
from normcore.layout.namespace import Array, array_namespace, as_array, is_strided, to_numpy
from normcore.layout.out_argument import (
    check_out,
    no_memory_error,
    refuse_partial_overlap,
    refuse_shared_memory,
    result_like,
)
from normcore.statistics import Moments, wide_integers
from normcore.statistics.statistic import StatisticT

__all__ = [
    "TINY_WEIGHT",
    "as_weights",
    "check_weights",
    "elementwise",
    "observe",
    "refuse_products",
    "rescale",
    "restored",
    "write",
]

#: Below, products of weights and squares lose digits.
TINY_WEIGHT = 2.0**-800


def as_weights(weights: Array, beside: Array = None) -> Array:
    """Return weights as an array, as :func:`as_array`.

    Raises
    ------
    TypeError
        As that, and if they are of NumPy and not real numbers.
    """
    weights = as_array(weights, what="weights", beside=beside)
    if isinstance(weights, np.ndarray) and not is_real(weights.dtype):
        raise TypeError(f"weights must be real numbers, not {weights.dtype}")
    return widened(weights)


def check_weights(weights: Array) -> None:
    """Refuse weights that are negative, NaN or infinite.

    Raises
    ------
    ValueError
        Naming the first one.
    """
    xp = array_namespace(weights)
    if xp.isdtype(weights.dtype, ("bool", "unsigned integer")):
        return
    largest = xp.finfo(xp.float64).max
    if isinstance(weights, np.ndarray) and weights.size:
        # Without arrays of as many bools; NaN is in both.
        least, most = weights.min(), weights.max()
        if least >= 0 and most <= largest:
            return
    good = (weights >= 0) & (weights <= largest)
    if not bool(xp.all(good)):
        where = int(xp.argmin(xp.astype(xp.reshape(good, (-1,)), xp.uint8)))
        value = float(xp.reshape(weights, (-1,))[where])
        raise ValueError(
            f"weights must be finite and not negative, but weight {where} is {value!r}"
        )


def refuse_products(
    observe_with: Callable[[Array], Moments], weights: Array, found: Moments
) -> None:
    """Refuse weights whose sum, or whose products with data, float64 cannot hold.

    Parameters
    ----------
    observe_with : callable
        Finds the moments of the data with other weights.
    found : Moments
        Those with these.

    Raises
    ------
    ValueError
        If all weights are too small, or some too large for a channel of finite data.
    """
    xp = array_namespace(weights)
    if math.prod(weights.shape) and xp.isdtype(weights.dtype, "real floating"):
        heaviest = float(xp.max(weights))
        if 0.0 < heaviest < TINY_WEIGHT:
            raise ValueError(
                f"weights hold nothing above {heaviest}, whose products with data float64 cannot "
                "hold; multiply the weights by a constant"
            )
    heavy = ~_finite_channels(found)
    if not heavy.any():
        return
    alone = observe_with(xp.astype(weights != 0, xp.float64))  # infinite where the data are
    heavy &= _finite_channels(alone)
    if heavy.any():
        raise ValueError(
            "weights are so large that their sum, or that of their products with x, is beyond the "
            f"largest float64 in channel {int(np.argmax(heavy))}; divide the weights by a constant"
        )


def _finite_channels(moments: Moments) -> np.ndarray:
    return np.isfinite(to_numpy(moments.parts)).all(axis=0)


def observe(
    kernel: Callable[..., StatisticT],
    x: Array,
    axis: int | None,
    *,
    weights: Array = None,
    merge: Callable[[StatisticT, StatisticT], StatisticT] | None = None,
    **options: object,
) -> StatisticT:
    """Observe a statistic of each channel of ``x``.

    Parameters
    ----------
    kernel : callable
        ``kernel(view, weights=plane, **options)``, the bound kernel of a backend; ``weights`` is
        passed only where given.
    x : array of the backend's own kind
    axis : int or None
        The channel axis; None makes all elements one channel.
    weights : array, optional
        As in :func:`~normcore.layout.array_views.broadcast_plane`; finite and not negative.
    merge : callable, optional
        The backend's own, of two statistics; by default the first statistic's.
    """
    merge = merge or _merge
    if weights is None:
        return reduce(merge, (kernel(view, **options) for (view,) in views(axis, x)))
    weights = as_weights(weights)
    check_weights(weights)
    if not isinstance(weights, np.ndarray):
        xp = array_namespace(weights)
        weights = xp.astype(weights, xp.float64)  # the standard's bool has no order
    weights = broadcast_plane(weights, x, axis, "weights")
    both = views(axis, x, weights)
    return reduce(merge, (kernel(view, weights=plane_of(w), **options) for view, w in both))


def _merge(statistic: StatisticT, other: StatisticT) -> StatisticT:
    return statistic.merge(other)


def elementwise(
    kernel: Callable[..., Array],
    axis: int | None,
    *arrays: Array,
    out: Array = None,
    mask: Array = None,
    **options: object,
) -> Array:
    """Map ``kernel(*views, mask=plane, out=view, **options)`` over arrays of one shape.

    Parameters
    ----------
    out : array, optional
        Of that shape and the result's dtype; may be one of ``arrays`` itself. By default a fresh
        array in the memory order of the first one.
    mask : array of bool, optional
        As in :func:`~normcore.layout.array_views.broadcast_plane`.

    Raises
    ------
    ValueError
        As :func:`~normcore.layout.out_argument.check_out`, and if ``out`` overlaps an input in
        part, or the mask.
    TypeError
        As :func:`~normcore.layout.out_argument.check_out`.
    """
    first = arrays[0]
    found = None if mask is not None else numpy_views.views(axis, arrays, out)
    if found is not None:
        if out is not None:
            kernel(*found[:-1], out=found[-1], **options)
            return out
        try:
            return numpy_views.shaped_as(kernel(*found, **options), first)
        except MemoryError as error:
            raise no_memory_error(error) from error
    xp = array_namespace(first)
    planes = () if mask is None else (broadcast_plane(mask, first, axis, "mask"),)
    if not is_strided(first):
        (inputs,) = views(axis, *arrays, *planes)
        if planes:
            options["mask"] = plane_of(inputs[-1])
        inputs = inputs[: len(arrays)]
        result = xp.reshape(kernel(*inputs, **options), first.shape)
        if out is None:
            return result
        check_out(out, first)
        out[...] = result
        return out
    if out is None:
        out = result_like(first)
    else:
        check_out(out, first)
        refuse_partial_overlap(out, *arrays)
        refuse_shared_memory(out, mask=mask)
    return write(kernel, axis, arrays, planes, out, **options)


def write(
    kernel: Callable[..., Array],
    axis: int | None,
    arrays: tuple[Array, ...],
    planes: tuple[Array, ...],
    out: Array,
    **options: object,
) -> Array:
    """Do what :func:`elementwise` does, for an ``out`` that fits; ``planes`` has the mask if any.

    Arrays and masks have strides and one shape.
    """
    for *parts, target in views(axis, *arrays, *planes, out):
        if planes:
            options["mask"] = plane_of(parts.pop())
        kernel(*parts, out=target, **options)
    return out


def rescale(
    backend: Backend,
    x: Array,
    affine: Affine,
    axis: int | None,
    *,
    out: Array = None,
    mask: Array = None,
    clip: tuple[float, float] | None = None,
    activation: str | None = None,
    refuse_infinite: bool = False,
    where: Array = None,
) -> Array:
    """Map ``backend.rescale`` over ``x``; see :func:`elementwise` for ``out`` and ``mask``.

    ``where``, of bool and the shape of ``x``, says which elements; all others stay as they are.
    """
    if where is not None:
        return _rescale_where(backend, x, affine, axis, where, out, clip, refuse_infinite)
    if not numpy_views.is_floats(x):
        x, affine = wide_integers.centered(x, affine, axis, elementwise)
    # As elementwise does, which takes a microsecond longer to hand the options on: a fourth of what
    # a row takes in all.
    found = None if mask is not None else numpy_views.views(axis, (x,), out)
    if found is None:
        return elementwise(
            backend.rescale,
            axis,
            x,
            out=out,
            mask=mask,
            affine=affine,
            clip=clip,
            activation=activation,
            refuse_infinite=refuse_infinite,
        )
    try:
        y = backend.rescale(
            found[0],
            affine,
            clip=clip,
            activation=activation,
            out=None if out is None else found[1],
            refuse_infinite=refuse_infinite,
        )
    except MemoryError as error:
        if out is None:
            raise no_memory_error(error) from error
        raise
    return numpy_views.shaped_as(y, x) if out is None else out


def _rescale_where(
    backend: Backend,
    x: Array,
    affine: Affine,
    axis: int | None,
    where: Array,
    out: Array,
    clip: tuple[float, float] | None,
    refuse_infinite: bool,
) -> Array:
    """Map what a mask shows of an array of any real dtype."""
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "real floating"):

        def kernel(view: Array, shown: Array, out: Array = None) -> Array:
            return backend.rescale_where(
                view, affine, shown, clip=clip, out=out, refuse_infinite=refuse_infinite
            )

        return elementwise(kernel, axis, x, where, out=out)
    shown = xp.where(where, x, xp.zeros_like(x))
    y = rescale(backend, shown, affine, axis, out=out, clip=clip, refuse_infinite=refuse_infinite)
    y = restored(y, x, where)
    if out is None or y is out:
        return y
    out[...] = y
    return out


def restored(y: Array, x: Array, where: Array) -> Array:
    """Return a result with the elements of ``x`` where a mask is False, in place if it can be."""
    if isinstance(y, np.ndarray):
        np.copyto(y, x, where=~where, casting="same_kind")
        return y
    xp = array_namespace(y)
    return xp.where(where, y, xp.astype(x, y.dtype))
