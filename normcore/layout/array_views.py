"""Any array and feature axis as ``(N, C, S)`` views.

N counts samples, C channels, S inner positions. A view never copies: axes of positions that do
not merge into two groups of one stride each are peeled off, shortest first, and each slice is a
view of its own.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from normcore.layout import numpy_views
from normcore.layout.namespace import Array, array_namespace, is_strided, native
from normcore.layout.out_argument import kind_of, result_like

__all__ = [
    "as_single_views",
    "broadcast_plane",
    "is_single_view",
    "plane_of",
    "positive_axis",
    "single_view_out",
    "views",
]


def positive_axis(axis: int, ndim: int) -> int:
    """Return ``axis`` counted from the front.

    Raises
    ------
    ValueError
        If the array has no such axis.
    TypeError
        If ``axis`` is not an integer.
    """
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an integer, not {axis!r}") from None
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of range for an array of {ndim} dimensions")
    return axis % ndim


def views(axis: int | None, *arrays: Array) -> Iterable[tuple[Array, ...]]:
    """Return tuples of ``(N, C, S)`` views of arrays of one shape.

    Parameters
    ----------
    axis : int or None
        The channel axis; None makes all elements one channel.
    *arrays : arrays of one shape
        Those with strides, as NumPy's, are viewed without a copy. Others are reshaped, which
        copies where their library has to.
    """
    found = numpy_views.views(axis, arrays)
    if found is None and not isinstance(arrays[0], np.ndarray):
        found = _known_views(axis, arrays)
    return _views(axis, arrays) if found is None else (found,)


class _Placed(NamedTuple):
    """Where the elements of an array lie."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)


def _known_views(axis: int | None, arrays: tuple[Array, ...]) -> tuple[Array, ...] | None:
    """Return the one view of arrays of a device; None where there are several, or to say why not.

    How arrays are viewed follows from shapes and strides, and calls repeat these.
    """
    strides = tuple(getattr(array, "strides", None) for array in arrays)
    if type(axis) is not int or not all(type(each) is tuple for each in strides):
        return None  # 1.0 would be found where 1 was met
    known = _permutation(axis, tuple(arrays[0].shape), strides)
    if known is None:
        return None
    axes, shape = known
    if axes is None:
        return tuple(array.reshape(shape) for array in arrays)
    return tuple(array.transpose(axes).reshape(shape) for array in arrays)


@functools.lru_cache(maxsize=1024)
def _permutation(
    axis: int, shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...] | None, tuple[int, int, int]] | None:
    """Return in which order axes merge, None for the order that they are in, and to what shape."""
    if not -len(shape) <= axis < len(shape) or math.prod(shape) == 0:
        return None
    if any(len(each) != len(shape) for each in strides):
        return None
    axis %= len(shape)
    groups = _groups(axis, [_Placed(shape, each) for each in strides])
    if len(groups) > 2:
        return None
    axes, merged = _merged(axis, shape, groups)
    return None if axes == tuple(range(len(shape))) else axes, merged


def _views(axis: int | None, arrays: tuple[Array, ...]) -> Iterator[tuple[Array, ...]]:
    first = arrays[0]
    if axis is None:
        yield from _views(-1, tuple(array[..., None] for array in arrays))
        return
    axis = positive_axis(axis, first.ndim)
    shape = first.shape
    if not all(is_strided(array) for array in arrays):
        merged = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        yield tuple(array_namespace(array).reshape(array, merged) for array in arrays)
    elif math.prod(shape) == 0:
        merged = math.prod(shape[:axis]) * math.prod(shape[axis + 1 :]), shape[axis], 1
        yield tuple(array.reshape(merged) for array in arrays)
    elif first.ndim == 2 and axis == 1 and abs(first.strides[0]) >= abs(first.strides[1]):
        yield tuple(array[:, :, None] for array in arrays)
    else:
        yield from _strided_views(axis, arrays)


def is_single_view(axis: int | None, *arrays: Array) -> bool:
    """Whether :func:`views` yields a single tuple."""
    pieces = iter(views(axis, *arrays))
    next(pieces)
    return next(pieces, None) is None


def single_view_out(
    axis: int | None, *arrays: Array, out: Array = None, mask: Array = None
) -> tuple[Array, bool]:
    """Return the ``out`` of a kernel that must see all data in a single view, and whether it can.

    It can where the arrays, the mask and the result are a single view. A fresh result has a say
    in that: where it has strides of its own, it is made here; otherwise ``out`` is returned.
    """
    if (mask is None and numpy_views.views(axis, arrays, out) is not None) or not is_strided(
        arrays[0]
    ):
        return out, True
    if out is None:
        out = result_like(arrays[0])
    planes = () if mask is None else (broadcast_plane(mask, arrays[0], axis, "mask"),)
    return out, is_single_view(axis, *arrays, *planes, out)


def as_single_views(
    x: Array, axis: int | None, weights: Array = None
) -> Iterator[tuple[Array, int | None, Array]]:
    """Yield ``x``, its axis and its weights; or copies of a few channels at a time.

    What is yielded is a single view of :func:`views`.
    """
    planes = () if weights is None else (broadcast_plane(weights, x, axis, "weights"),)
    if is_single_view(axis, x, *planes):
        yield x, axis, weights
        return
    rows, *flat = (
        array[..., None] if axis is None else np.moveaxis(array, axis, -1) for array in (x, *planes)
    )
    weights = flat[0][..., 0].reshape(-1) if flat else None
    step = -(-rows.shape[-1] // 16)
    for start in range(0, rows.shape[-1], step):
        part = rows[..., start : start + step]
        yield part.reshape(-1, part.shape[-1]), 1, weights


def _strided_views(axis: int, arrays: tuple[Array, ...]) -> Iterator[tuple[Array, ...]]:
    first = arrays[0]
    groups = _groups(axis, arrays)
    if len(groups) > 2:
        peeled = min((each for group in groups for each in group), key=lambda i: first.shape[i])
        for position in range(first.shape[peeled]):
            key = (slice(None),) * peeled + (position,)
            yield from _strided_views(axis - (peeled < axis), tuple(a[key] for a in arrays))
        return
    axes, merged = _merged(axis, first.shape, groups)
    yield tuple(array.transpose(*axes).reshape(merged) for array in arrays)


def _groups(axis: int, arrays: Sequence[Array]) -> list[list[int]]:
    """Return the axes of positions by what merges: two groups, outer and inner, or more."""
    first = arrays[0]
    inner = abs(first.strides[axis])
    order = sorted(
        (each for each in range(first.ndim) if each != axis and first.shape[each] != 1),
        key=lambda each: -abs(first.strides[each]),
    )
    groups: list[list[int]] = []
    for each in order:
        if groups and all(
            array.strides[groups[-1][-1]] == array.strides[each] * array.shape[each]
            for array in arrays
        ):
            groups[-1].append(each)
        else:
            groups.append([each])
    if len(groups) < 2:
        only = groups[0] if groups else []
        channels_inside = not only or inner <= abs(first.strides[only[-1]])
        groups = [only, []] if channels_inside else [[], only]
    return groups


def _merged(
    axis: int, shape: tuple[int, ...], groups: list[list[int]]
) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """Return the order of axes and the shape that make an (N, C, S) view."""
    unit = [each for each in range(len(shape)) if each != axis and shape[each] == 1]
    outer, inner = groups
    num_samples, num_inner = (math.prod(shape[each] for each in group) for group in groups)
    return (*unit, *outer, axis, *inner), (num_samples, shape[axis], num_inner)


def broadcast_plane(values: Array, x: Array, axis: int | None, what: str) -> Array:
    """Broadcast weights or a mask of positions to the shape of ``x``, without a copy.

    Parameters
    ----------
    values : array
        One value for each index of the first axis, shape (N,), or one for each position, the
        shape of ``x`` without its channel axis.

    Raises
    ------
    ValueError
        If the shape is neither.
    """
    xp = array_namespace(x)
    try:
        if xp is np or isinstance(values, np.ndarray):
            values = native(np.asarray(values))
        values = values if xp is np else xp.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{what} is a {kind_of(values)}, which cannot be read beside x, a {kind_of(x)}: {error}"
        ) from error
    rest = tuple(x.shape)
    if axis is not None:
        axis = positive_axis(axis, x.ndim)
        rest = rest[:axis] + rest[axis + 1 :]
    if tuple(values.shape) == rest:
        values = values if axis is None else xp.expand_dims(values, axis=axis)
    elif axis != 0 and tuple(values.shape) == tuple(x.shape[:1]):
        values = xp.reshape(values, (-1,) + (1,) * (x.ndim - 1))
    else:
        samples = "" if axis == 0 else f"{tuple(x.shape[:1])}, one value for each sample, or "
        raise ValueError(
            f"{what} has shape {tuple(values.shape)}; expected {samples}{rest}, one for each "
            "position"
        )
    return xp.broadcast_to(values, x.shape)


def plane_of(view: Array) -> Array:
    """Return the plane ``(N, S)`` that a view of what :func:`broadcast_plane` gave repeats."""
    if view.shape[1]:
        return view[:, 0, :]
    shape, xp = (view.shape[0], view.shape[2]), array_namespace(view)
    return xp.zeros(shape, dtype=view.dtype, device=getattr(view, "device", None))
