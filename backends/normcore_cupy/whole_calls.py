"""Batch norm of arrays whose layout was met before: no checks, no views, one launch or two.

What follows from dtypes, shapes, strides and alignment is worked out once; a call allocates, and
binds addresses. Whatever is not plain (masks, other libraries, several views, an `out` that
overlaps) is left to the general way, whose kernels, results and errors these calls share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics import Moments
from normcore_cupy.device_moments import DeviceMoments
from normcore_cupy.ordering import Ordering, is_plain_tensor
from normcore_cupy.whole_plans import STATE_ROWS, Fresh, Planned, Plans

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["WholeCalls"]

_MOST = 1024  # layouts that are remembered
_ALIGNMENT = 64  # bytes, of what plans look at
_DERIVED_ROWS, _GRADIENT_ROWS = 10, 11
_DGAMMA, _DBETA = 4, 9

#: The dtype, shape, strides, alignment and device of an array.
_Lies: TypeAlias = tuple[Any, ...]
#: An array's address, and how it lies; 0 and () of None.
_Seen: TypeAlias = tuple[int, _Lies]


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
        self._plans = Plans(backend)
        self._known: dict[Hashable, Planned | None] = {}
        self._fresh: dict[_Lies, Fresh | None] = {}

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
            planned = self._plan(key, self._plans.forward, x, y, gamma, beta, axis, eps)
            if planned is None:
                return None
            device = self._device
            parts = device.empty((planned.num_parts,), np.float64)
            state = device.empty((STATE_ROWS, planned.num_channels), np.float64)
            rows = device.empty((_DERIVED_ROWS, planned.num_channels), np.float64)
            addresses = (
                at, where, *self._scratch(planned, parts), device.pointer(state),
                device.pointer(rows), *(each for each, _ in vectors if each),
            )  # fmt: skip
            for launch in planned.launches:
                launch(*addresses)
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
                key, self._plans.backward, dy, x, dx, parts, gamma, axis, eps, training
            )
            if planned is None:
                return None
            device = self._device
            scratch = device.empty((planned.num_parts,), np.float64)
            rows = device.empty((_GRADIENT_ROWS, planned.num_channels), np.float64)
            addresses = (
                upstream, at, where, state, *self._scratch(planned, scratch), device.pointer(rows),
                *((vector[0],) if vector[0] else ()),
            )  # fmt: skip
            for launch in planned.launches:
                launch(*addresses)
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
            planned = self._plan(key, self._plans.running, parts, mean, var, weight, number)
            if planned is None:
                return False
            for launch in planned.launches:
                launch(state, count, old, also_old, old, also_old)
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
        self, key: Hashable, make: Callable[..., Planned | None], *given: Any
    ) -> Planned | None:
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
            fresh = self._fresh[lies] = self._plans.result_like(like)
        if fresh is None:
            return None, 0
        result = self._device.empty(fresh.shape, fresh.dtype)
        where = self._device.pointer(result)
        return (result if fresh.axes is None else result.transpose(fresh.axes)), where

    def _scratch(self, planned: Planned, parts: Array) -> tuple[int, int]:
        """Return the addresses of what ranges leave, and of what they are counted in."""
        where = self._device.pointer(parts)
        if not planned.num_counters:
            return where, where
        return where, self._device.pointer(self._device.counters(planned.num_counters))

    def _released(self, array: Array, like: Array, out: Array = None) -> Array:
        if out is not None:
            return out
        return array if type(like) is self._ndarray else self._ordering.as_tensor(array)


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
