"""Which axes of an array have statistics of their own, and such arrays laid out for kernels.

``axis="columns"`` is a table: two dimensions, a feature each column. An integer or a tuple names
the axes whose positions are features, as in :class:`normcore.BatchNorm` and in Keras's
Normalization; all other axes are samples. ``None`` makes everything one feature.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import NamedTuple, Self, TypeAlias, TypeGuard

import numpy as np

from normcore.layout.array_views import is_single_view
from normcore.layout.namespace import Array, array_namespace, is_strided
from normcore.layout.out_argument import may_overlap, overlap
from normcore.scaling.containers.frames import column_names, is_frame

__all__ = [
    "COLUMNS",
    "Arrangement",
    "Axis",
    "FeatureAxes",
    "as_axes",
    "as_single_views",
    "columns_alone_error",
    "is_columns",
    "is_view",
]

#: The default: a table.
COLUMNS = "columns"
#: What ``axis=`` may be.
Axis: TypeAlias = "int | tuple[int, ...] | str | None"

_Order: TypeAlias = "tuple[int, ...] | None"


def columns_alone_error(kind: str, owner: str) -> TypeError:
    """Return the error of tables that are to be scaled along other axes."""
    return TypeError(
        f"{kind} have columns alone: {owner} needs axis='columns' for them; or pass an array"
    )


def is_columns(axis: Axis) -> bool:
    """Whether an axis is that of tables."""
    return isinstance(axis, str) and axis == COLUMNS


def as_axes(axis: Axis) -> tuple[int, ...]:
    """Return the axes of features, none of them where all is one feature.

    Raises
    ------
    ValueError
        If ``axis`` is neither None, an integer nor a tuple of them.
    """
    if axis is None:
        return ()
    given = axis if isinstance(axis, tuple | list) else (axis,)
    axes = []
    for each in given:
        if isinstance(each, bool | np.bool_) or not hasattr(each, "__index__"):
            raise ValueError(
                f"axis must be 'columns', an integer, a tuple of integers or None, not {axis!r}"
            )
        axes.append(operator.index(each))
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis={axis!r} names an axis twice")
    return tuple(axes)


class Arrangement(NamedTuple):
    """How arrays of one shape become tables: transposed, reshaped, transposed."""

    shape: tuple[int, ...]
    order: _Order
    merged: tuple[int, ...]
    last: _Order

    def lay_out(self, array: Array) -> Array:
        """Return an array with its features on axis 1, without a copy where strides allow it."""
        xp = array_namespace(array)
        if self.order is not None:
            array = xp.permute_dims(array, self.order)
        array = xp.reshape(array, self.merged)
        return array if self.last is None else xp.permute_dims(array, self.last)

    def restore(self, array: Array) -> Array:
        """Return what :meth:`lay_out` laid out, or a result of it, in its own shape."""
        xp = array_namespace(array)
        if self.last is not None:
            array = xp.permute_dims(array, _inverse(self.last))
        if self.order is None:
            return xp.reshape(array, self.shape)
        array = xp.reshape(array, tuple(self.shape[each] for each in self.order))
        return xp.permute_dims(array, _inverse(self.order))


class FeatureAxes:
    """The axes whose positions are features, and the sizes that they had in fit.

    Parameters
    ----------
    axes : tuple of int
        As :func:`as_axes` gives them.
    shape : tuple of int
        Sizes along these, in the order in which arrays have them.
    ndim : int
        Dimensions of the training data.
    """

    __slots__ = ("axes", "ndim", "shape")

    def __init__(self, axes: tuple[int, ...], shape: tuple[int, ...], ndim: int) -> None:
        self.axes, self.shape, self.ndim = axes, shape, ndim

    @classmethod
    def of(cls, axis: Axis, X: Array) -> Self:
        """Return the axes of training data.

        Raises
        ------
        ValueError
            As :func:`as_axes`, and if ``X`` lacks such an axis.
        """
        axes, shape = as_axes(axis), tuple(X.shape)
        return cls(axes, tuple(shape[each] for each in _positions(axes, shape)), len(shape))

    @classmethod
    def of_shape(cls, axis: Axis, shape: tuple[int, ...]) -> Self | None:
        """Return the axes of features that have a shape, None where they are those of a table.

        Raises
        ------
        ValueError
            If the shape has another number of dimensions, or the order of the axes would depend on
            data.
        """
        if is_columns(axis):
            return None
        axes = as_axes(axis)
        if len(shape) != len(axes):
            raise ValueError(
                f"features have shape {shape}, but axis={axis!r} is {len(axes)} of them"
            )
        if len({each < 0 for each in axes}) > 1:
            raise ValueError(f"axis={axis!r} counts from both ends; fit, or count from one")
        return cls(axes, shape, max((each + 1 if each >= 0 else -each for each in axes), default=1))

    @property
    def size(self) -> int:
        """The number of features."""
        return math.prod(self.shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureAxes):
            return NotImplemented
        return self.to_dict() == other.to_dict() and self.axes == other.axes

    __hash__ = None  # type: ignore[assignment]

    def positions(self, X: Array) -> tuple[int, ...]:
        """Return the axes as those of an array, counted from the front, in order."""
        return _positions(self.axes, tuple(X.shape))

    def are_columns(self, X: Array) -> bool:
        """Whether the features of an array are the columns of a table."""
        return len(X.shape) == 2 and self.positions(X) == (1,)

    def names(self, X: Array) -> np.ndarray | None:
        """Return the names of the features, where these are the columns of a frame.

        Raises
        ------
        ValueError
            If ``X`` is a frame, of which each element would be a feature.
        """
        if not is_frame(X):
            return None
        if len(self.axes) == 2:
            raise ValueError(
                f"axis={self.axes} gives each element of a data frame a statistic of its own; "
                "pass an array"
            )
        return column_names(X) if self.are_columns(X) else None

    def label(self, feature: int) -> str:
        """Return the words that name a feature by its place along the axes."""
        if not self.axes:
            return "all of it"
        place = tuple(map(int, np.unravel_index(feature, self.shape)))
        if len(place) == 1:
            return f"position {place[0]} of axis {self.axes[0]}"
        return f"position {place} of axes {self.axes}"

    def check(self, X: Array, owner: str) -> None:
        """Refuse an array whose features are not those of fit.

        Raises
        ------
        ValueError
            If it lacks an axis, or has another size along one. Where axes are counted from both
            ends, arrays have as many dimensions as in fit, or their order would change.
        """
        shape = tuple(X.shape)
        mixed = len({each < 0 for each in self.axes}) > 1
        if mixed and len(shape) != self.ndim:
            raise ValueError(
                f"X has {len(shape)} dimensions, but {owner} was fitted to {self.ndim}, and "
                f"axis={self.axes} counts from both ends"
            )
        found = tuple(shape[each] for each in _positions(self.axes, shape))
        if found != self.shape:
            raise ValueError(
                f"X has shape {shape}, which is {found} along axis={_shown(self.axes)}, but "
                f"{owner} is expecting {self.shape} there"
            )

    def num_samples(self, X: Array) -> int:
        """Return how many values of each feature an array has."""
        return math.prod(tuple(X.shape)) // self.size

    def arrangement(self, X: Array) -> Arrangement:
        """Return how to lay out ``X``, and arrays of its shape: (N, C), or (N, C, ...)."""
        shape = tuple(int(each) for each in X.shape)
        kept = _positions(self.axes, shape)
        first, end = (kept[0], kept[-1] + 1) if kept else (len(shape), len(shape))
        if _is_in_order(X) and end - first == len(kept):
            before, after = math.prod(shape[:first]), math.prod(shape[end:])
            if after == 1:
                return Arrangement(shape, None, (before, self.size), None)
            if before == 1:
                return Arrangement(shape, None, (self.size, after), (1, 0))
            return Arrangement(shape, None, (before, self.size, after), None)
        others = tuple(each for each in range(len(shape)) if each not in kept)
        merged = (*(shape[each] for each in others), self.size)
        if not others:
            return Arrangement(shape, (*others, *kept), (1, self.size), None)
        last = (0, len(others), *range(1, len(others)))
        return Arrangement(shape, (*others, *kept), merged, last)

    def laid_out(self, x: Array, mask: Array, weights: Array) -> tuple[Array, Array, Array]:
        """Return training data, its mask and its weights, each of which may be None, as tables."""
        arrangement = self.arrangement(x)
        if mask is not None:
            mask = arrangement.lay_out(mask)
        if weights is not None:
            weights = self._along_samples(weights, x)
        return arrangement.lay_out(x), mask, weights

    def _along_samples(self, weights: Array, X: Array) -> Array:
        """Return weights of samples, one for each index of the first axis, as for a table.

        Raises
        ------
        ValueError
            If the first axis has statistics of its own.
        """
        if 0 in _positions(self.axes, tuple(X.shape)):
            raise ValueError(
                f"sample_weight weighs the first axis, which has statistics of its own with "
                f"axis={_shown(self.axes)}"
            )
        xp = array_namespace(weights)
        weights = xp.reshape(weights, (-1,) + (1,) * (X.ndim - 1))
        table = self.arrangement(X).lay_out(xp.broadcast_to(weights, tuple(X.shape)))
        return table[:, 0, ...]

    def shaped(self, array: Array) -> Array:
        """Return an array whose last axis is features with the shape that these have."""
        return array.reshape((*array.shape[:-1], *self.shape))

    def flat(self, array: Array) -> Array:
        """Return an array that :meth:`shaped` gave with its features on one axis."""
        xp = array_namespace(array)
        kept = array.ndim - len(self.shape)
        return xp.reshape(array, (*tuple(array.shape)[:kept], self.size))

    def to_dict(self) -> dict[str, object]:
        """Return shape and dimensions as JSON has them."""
        return {"shape": list(self.shape), "ndim": self.ndim}

    @classmethod
    def from_dict(cls, axis: Axis, saved: object) -> Self:
        """Return the axes that :meth:`to_dict` described.

        Raises
        ------
        ValueError
            If they are not those of ``axis``.
        """
        axes = as_axes(axis)
        if not isinstance(saved, Mapping):
            raise ValueError(f"the saved scaler lacks the sizes along axis={_shown(axes)}")
        shape, ndim = saved.get("shape"), saved.get("ndim")
        sizes = [each for each in shape if _is_size(each)] if isinstance(shape, list) else []
        if not (isinstance(shape, list) and len(sizes) == len(shape) and _is_size(ndim)):
            raise ValueError(f"the saved sizes along axis={_shown(axes)} are {shape!r} of {ndim!r}")
        if len(sizes) != len(axes) or not all(-ndim <= each < ndim for each in axes):
            raise ValueError(
                f"the saved sizes {shape!r} of {ndim} dimensions are not those of "
                f"axis={_shown(axes)}"
            )
        return cls(axes, tuple(sizes), ndim)


def as_single_views(table: Array, mask: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return an array with its features on axis 1 as one view of (N, C, S): itself, or a copy.

    Its mask and its weights, each of which may be None, follow it.
    """
    xp = array_namespace(table)
    planes = () if weights is None else (weights[:, None, ...],)
    if is_single_view(1, table, *(xp.broadcast_to(each, table.shape) for each in planes)):
        return table, mask, weights

    def rows(array: Array) -> Array:
        return np.moveaxis(array, 1, -1).reshape(-1, table.shape[1])

    return (
        rows(table),
        None if mask is None else rows(mask),
        None if weights is None else weights.reshape(-1),
    )


def is_view(laid_out: Array, array: Array) -> bool:
    """Whether an array that was laid out lies in the memory of the one that it was."""
    if isinstance(array, np.ndarray):
        return may_overlap(laid_out, array)
    return is_strided(array) and overlap(laid_out, array)


def _is_in_order(X: Array) -> bool:
    """Whether axes that follow each other merge: in C order, or by a copy anyway."""
    if isinstance(X, np.ndarray):
        return bool(X.flags.c_contiguous)
    if not is_strided(X):
        return True
    step = X.dtype.itemsize
    for size, stride in zip(reversed(X.shape), reversed(X.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _positions(axes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return axes of an array counted from the front, in order."""
    ndim = len(shape)
    for each in axes:
        if not -ndim <= each < ndim:
            raise ValueError(f"axis {each} is out of range for X of shape {shape}")
    found = tuple(sorted(each % ndim for each in axes))
    if len(set(found)) < len(found):
        raise ValueError(f"axis={axes} names an axis twice for X of shape {shape}")
    return found


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and value > 0


def _shown(axes: tuple[int, ...]) -> str:
    return repr(axes[0] if len(axes) == 1 else axes or None)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))
