"""Batch norm of a caller's arrays whose layout was met before: no checks, no views, two launches.

What follows from dtypes, shapes, strides and alignment is worked out once; a call allocates, and
binds addresses. Whatever is not plain (masks, other libraries, several views, an `out` that
overlaps) is left to the general way, whose kernels, results and errors these calls share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from normcore import layout
from normcore.layout.namespace import Array
from normcore.statistics import Moments
from normcore_cupy.bound import Bound, Place
from normcore_cupy.device import ABSENT, DERIVED, FORWARD, Scalar
from normcore_cupy.device_moments import DeviceMoments
from normcore_cupy.launcher import FLOATING, dtype_name
from normcore_cupy.ordering import Ordering, is_plain_tensor
from normcore_cupy.plan import BACKWARD, ELEMENTWISE, REDUCTION, Plan, of_columns

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["WholeCalls"]

_MOST = 1024  # layouts that are remembered
_ALIGNMENT = 64  # bytes, of what plans look at
_STATE_ROWS, _DERIVED_ROWS, _GRADIENT_ROWS = 7, 10, 11
_DGAMMA, _DBETA = 4, 9
_NOWHERE = np.int64(0)

#: The dtype, shape, strides, alignment and device of an array.
_Lies: TypeAlias = tuple[Any, ...]
#: An array's address, and how it lies; 0 and () of None.
_Seen: TypeAlias = tuple[int, _Lies]


class _Planned(NamedTuple):
    """What is planned for one layout."""

    first: Bound
    second: Bound
    num_channels: int
    num_parts: int  # float64 numbers
    num_counters: int


class _Fresh(NamedTuple):
    """How a result that lies as the input is allocated."""

    dtype: np.dtype
    shape: tuple[int, ...]  # in the order of memory
    axes: tuple[int, ...] | None  # that bring it into the order of the input


class WholeCalls:
    """Batch norm, forward and backward, of arrays of CuPy and of tensors.

    A call returns None where the general way is to be taken.

    Parameters
    ----------
    backend : DeviceBackend
    ordering : Ordering
    """

    def __init__(self, backend: DeviceBackend, ordering: Ordering) -> None:
        self._backend, self._device, self._ordering = backend, backend.device, ordering
        self._launcher, self._ndarray = backend._launcher, backend.xp.ndarray
        self._known: dict[Hashable, _Planned | None] = {}
        self._fresh: dict[_Lies, _Fresh | None] = {}

    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, axis: int, eps: float, out: Array
    ) -> tuple[Array, Moments] | None:
        """Normalize with the statistics of the batch."""
        seen = self._look(x, gamma, beta, out)
        if seen is None:
            return None
        (at, _), *vectors, _ = seen
        with self._ordering.of(x):
            y, where = self._result(x, seen[0], out, seen[-1])
            if y is None or not _may_be_written(seen[-1], (seen[0],), vectors):
                return None
            key = (*(each for _, each in seen), where % _ALIGNMENT, axis, eps)
            planned = self._plan(key, self._plan_forward, x, y, gamma, beta, axis, eps)
            if planned is None:
                return None
            device = self._device
            parts = device.empty((planned.num_parts,), np.float64)
            state = device.empty((_STATE_ROWS, planned.num_channels), np.float64)
            rows = device.empty((_DERIVED_ROWS, planned.num_channels), np.float64)
            table = device.pointer(rows)
            planned.first(
                at, *self._scratch(planned, parts), device.pointer(state), table,
                *(each for each, _ in vectors if each),
            )  # fmt: skip
            planned.second(at, where, table)
            moments = DeviceMoments(state, self._launcher, {0.0: (rows, 4), 1.0: (rows, 7)})
            return self._released(y, x, out), moments

    def batch_norm_backward(
        self,
        dy: Array,
        x: Array,
        parts: Array,
        gamma: Array,
        axis: int,
        eps: float,
        training: bool,
        out: Array,
    ) -> tuple[Array, Array, Array] | None:
        """Return dx, dgamma and dbeta, for the parts of moments."""
        seen = self._look(dy, x, parts, gamma, out)
        if seen is None or seen[0][1][:3] != seen[1][1][:3]:
            return None
        (upstream, _), (at, _), (state, _), vector, _ = seen
        with self._ordering.of(dy):
            dx, where = self._result(dy, seen[0], out, seen[-1])
            if dx is None or not _may_be_written(seen[-1], seen[:2], seen[2:-1]):
                return None
            key = (*(each for _, each in seen), where % _ALIGNMENT, axis, eps, training)
            planned = self._plan(
                key, self._plan_backward, dy, x, dx, parts, gamma, axis, eps, training
            )
            if planned is None:
                return None
            device = self._device
            scratch = device.empty((planned.num_parts,), np.float64)
            rows = device.empty((_GRADIENT_ROWS, planned.num_channels), np.float64)
            table = device.pointer(rows)
            vectors = (vector[0],) if vector[0] else ()
            planned.first(upstream, at, state, *self._scratch(planned, scratch), table, *vectors)
            planned.second(upstream, at, where, table)
            return (
                self._released(dx, dy, out),
                self._released(rows[_DGAMMA, ...], dy),
                self._released(rows[_DBETA, ...], dy),
            )

    def update_running(
        self, parts: Array, mean: Array, var: Array, weight: float | None, number: Array
    ) -> bool:
        """Move running statistics towards the parts of moments; False if it is left undone."""
        seen = self._look(parts, mean, var, number)
        if seen is None:
            return False
        (state, _), (old, _), (also_old, _), (count, _) = seen
        with self._ordering.of(parts):
            key = (*(each for _, each in seen), weight)
            planned = self._plan(key, self._plan_running, parts, mean, var, weight, number)
            if planned is None:
                return False
            planned.first(state, count, old, also_old, old, also_old)
        return True

    # -- of every call ---------------------------------------------------------------------

    def _look(self, first: Array, *others: Array) -> list[_Seen] | None:
        """Return where arrays are and how they lie; None unless all are plain."""
        native, of_cupy = self._ndarray, type(first) is self._ndarray
        seen: list[_Seen] = []
        for array in (first, *others):
            if array is None:
                seen.append((0, ()))
            elif type(array) is native:
                pointer = array.data
                place, strides = pointer.ptr, array.strides
                lies = array.dtype, array.shape, strides, place % _ALIGNMENT, pointer.device_id
                seen.append((place, lies))
            elif not of_cupy and is_plain_tensor(array):
                place = array.data_ptr()
                lies = (
                    array.dtype, array.shape, array.stride(), place % _ALIGNMENT,
                    array.get_device(),
                )  # fmt: skip
                seen.append((place, lies))
            else:
                return None
        device = seen[0][1][-1]
        if any(lies and lies[-1] != device for _, lies in seen):
            return None
        if of_cupy and device != self._backend.xp.cuda.runtime.getDevice():
            return None
        return seen

    def _plan(
        self, key: Hashable, make: Callable[..., _Planned | None], *given: Any
    ) -> _Planned | None:
        """Return the plan of a layout, made where it is met the first time."""
        try:
            return self._known[key]
        except TypeError:  # an argument that is none of what is expected
            return None
        except KeyError:
            pass
        if len(self._known) >= _MOST:
            self._known.clear()
        planned = self._known[key] = make(*given)
        return planned

    def _result(self, like: Array, seen: _Seen, out: Array, given: _Seen) -> tuple[Array, int]:
        """Return what to write to, and its address; None where a fresh one would not lie so."""
        if out is not None:
            return out, given[0]
        lies = seen[1][:3]
        try:
            fresh = self._fresh[lies]
        except KeyError:
            if len(self._fresh) >= _MOST:
                self._fresh.clear()
            fresh = self._fresh[lies] = self._fresh_like(like)
        if fresh is None:
            return None, 0
        result = self._device.empty(fresh.shape, fresh.dtype)
        where = self._device.pointer(result)
        return (result if fresh.axes is None else result.transpose(fresh.axes)), where

    def _scratch(self, planned: _Planned, parts: Array) -> tuple[int, int]:
        """Return the addresses of what ranges leave, and of what they are counted in."""
        where = self._device.pointer(parts)
        if not planned.num_counters:
            return where, where
        return where, self._device.pointer(self._device.counters(planned.num_counters))

    def _released(self, array: Array, like: Array, out: Array = None) -> Array:
        if out is not None:
            return out
        return array if type(like) is self._ndarray else self._ordering.as_tensor(array)

    # -- what is worked out once -----------------------------------------------------------

    def _plan_forward(
        self, x: Array, y: Array, gamma: Array, beta: Array, axis: int, eps: float
    ) -> _Planned | None:
        views = self._views(axis, eps, x, y)
        if views is None:
            return None
        view, target = views
        num_channels = view.shape[1]
        derived = np.zeros((), DERIVED)
        derived["eps"] = eps
        places: list[Place] = []
        for name, value in {"gamma": gamma, "beta": beta}.items():
            if value is not None:
                kind = self._vector_kind(value, num_channels)
                if kind is None:
                    return None
                derived[name]["kind"] = kind
                places.append((5, name, "data"))
        if gamma is None:
            derived["gamma"]["value"] = 1.0
        over = self._backend._plan(view, REDUCTION)
        finish, num_parts, num_counters = self._finish(over, _STATE_ROWS, num_channels)
        walked = self._launcher.view
        first = self._bound(
            "moments", (dtype_name(view), "float64"), over,
            (walked(view, over.walk), np.int32(0), over.per_range, finish, _NOWHERE, derived),
            ((0, "data"), (3, "parts"), (3, "counters"), (4,), (5, "rows"), *places),
        )  # fmt: skip
        over = self._backend._plan(view, ELEMENTWISE, target)
        second = self._bound(
            "rescale", (dtype_name(view), dtype_name(target)), over,
            (
                walked(view, over.walk), walked(target, over.walk), ABSENT, _NOWHERE,
                np.float64(-math.inf), np.float64(math.inf), np.int32(0), over.per_range,
            ),
            ((0, "data"), (1, "data"), (3,)),
        )  # fmt: skip
        return _Planned(first, second, num_channels, num_parts, num_counters)

    def _plan_backward(
        self,
        dy: Array,
        x: Array,
        dx: Array,
        parts: Array,
        gamma: Array,
        axis: int,
        eps: float,
        training: bool,
    ) -> _Planned | None:
        views = self._views(axis, eps, dy, x, dx)
        if views is None or type(training) is not bool:
            return None
        upstream, view, target = views
        num_channels = view.shape[1]
        if not self._is_state(parts, num_channels):
            return None
        forward = np.zeros((), FORWARD)
        forward["eps"], forward["training"] = eps, training
        places: list[Place] = []
        if gamma is None:
            forward["gamma"]["value"] = 1.0
        else:
            kind = self._vector_kind(gamma, num_channels)
            if kind is None:
                return None
            forward["gamma"]["kind"] = kind
            places.append((3, "gamma", "data"))
        over = self._backend._plan(view, REDUCTION, upstream)
        finish, num_parts, num_counters = self._finish(over, 4, num_channels)
        walked = self._launcher.view
        first = self._bound(
            "backward_reduce", (dtype_name(view), "float64"), over,
            (
                walked(upstream, over.walk), walked(view, over.walk), ABSENT, forward,
                over.per_range, finish, _NOWHERE,
            ),
            (
                (0, "data"), (1, "data"), (3, "state"), (5, "parts"), (5, "counters"), (6,),
                *places,
            ),
        )  # fmt: skip
        over = self._backend._plan(view, BACKWARD, upstream, target)
        second = self._bound(
            "backward_elemt", (dtype_name(view), dtype_name(target)), over,
            (
                *(walked(each, over.walk) for each in (upstream, view, target)), ABSENT,
                _NOWHERE, _NOWHERE, over.per_range,
            ),
            ((0, "data"), (1, "data"), (2, "data"), (4,)),
        )  # fmt: skip
        return _Planned(first, second, num_channels, num_parts, num_counters)

    def _plan_running(
        self, parts: Array, mean: Array, var: Array, weight: float | None, number: Array
    ) -> _Planned | None:
        num_channels = parts.shape[-1]
        kinds = {self._vector_kind(each, num_channels) for each in (mean, var)}
        if None in kinds or len(kinds) > 1 or not self._is_state(parts, num_channels):
            return None
        if number is None:
            if not isinstance(weight, float):
                return None
        elif weight is not None or self._backend.adopt(number).dtype != np.int64:
            return None
        name = dtype_name(self._backend.adopt(mean))
        at = _NOWHERE
        grid, block = of_columns(num_channels)
        count, ddof = np.int64(num_channels), np.float64(1.0)
        arguments = at, ddof, np.float64(weight or 0.0), at, count, at, at, at, at
        places: tuple[Place, ...] = ((0,), (3,), (5,), (6,), (7,), (8,))
        kernel, dtypes = "update_running", (name, name)
        bound = Bound(self._device, kernel, dtypes, grid, block, arguments, places)
        return _Planned(bound, bound, num_channels, 0, 0)

    def _is_state(self, parts: Array, num_channels: int) -> bool:
        """Whether these are contiguous parts of moments."""
        state = self._backend.adopt(parts)
        whole = (_STATE_ROWS, num_channels), (8 * num_channels, 8), "float64"
        return (state.shape, state.strides, state.dtype.name) == whole

    def _fresh_like(self, like: Array) -> _Fresh | None:
        """Return how to allocate in the memory order of an array, if it is dense and of floats."""
        try:
            native = self._backend.adopt(like)
        except TypeError:
            return None
        if dtype_name(native) not in FLOATING or native.size == 0:
            return None
        order = sorted(range(native.ndim), key=lambda each: -native.strides[each])
        step = native.dtype.itemsize
        for axis in reversed(order):
            if native.strides[axis] != step:
                return None
            step *= native.shape[axis]
        axes = tuple(order.index(each) for each in range(native.ndim))
        shape = tuple(native.shape[each] for each in order)
        return _Fresh(native.dtype, shape, None if axes == tuple(range(native.ndim)) else axes)

    def _views(self, axis: int, eps: float, *arrays: Array) -> tuple[Array, ...] | None:
        """Return the (N, C, S) views of arrays; None unless each has one, and statistics."""
        try:
            natives = [self._backend.adopt(each) for each in arrays]
        except TypeError:
            return None
        x = natives[0]
        if type(axis) is not int or not isinstance(eps, float) or not 0 < eps < math.inf:
            return None
        if dtype_name(x) not in FLOATING or not -x.ndim <= axis < x.ndim or x.ndim < 2:
            return None
        if x.size < 2 * x.shape[axis] or x.size == 0:
            return None
        views = list(layout.views(axis, *natives))
        return views[0] if len(views) == 1 else None

    def _vector_kind(self, value: Array, num_channels: int) -> int | None:
        """Return the kind of a contiguous vector of floats, as ``Given`` of common.cuh counts."""
        native = self._backend.adopt(value)
        if native.shape != (num_channels,) or native.strides != (native.dtype.itemsize,):
            return None
        name = dtype_name(native)
        return 1 + FLOATING.index(name) if name in FLOATING else None

    def _bound(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        over: Plan,
        arguments: tuple[Scalar, ...],
        places: tuple[Place, ...],
    ) -> Bound:
        name = kernel + over.walk.suffix
        return Bound(self._device, name, dtypes, over.grid, over.block, arguments, places)

    def _finish(self, over: Plan, num_rows: int, num_channels: int) -> tuple[Scalar, int, int]:
        """Return how ranges are merged, and how much of what they need."""
        finish, (parts, _) = self._launcher.finish(over, num_rows, num_channels)
        return finish, parts.size, over.grid[0] * (1 + over.groups) if over.ranges > 1 else 0


def _may_be_written(out: _Seen, inputs: Sequence[_Seen], vectors: Sequence[_Seen]) -> bool:
    """Whether `out` lies as the first input, and is each of them or shares no memory with it."""
    start, lies = out
    if not lies:
        return True
    if lies[:3] != inputs[0][1][:3]:
        return False
    size = math.prod(lies[1]) * lies[0].itemsize
    if any(start != each and abs(start - each) < size for each, _ in inputs):
        return False
    for each, vector in vectors:
        if vector:
            end = each + math.prod(vector[1]) * vector[0].itemsize
            if each < start + size and start < end:
                return False
    return True
