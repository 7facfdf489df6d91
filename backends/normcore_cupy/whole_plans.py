"""What launches of batch norm take from dtypes, shapes, strides and alignment, worked out once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from normcore import layout
from normcore.layout.namespace import Array
from normcore_cupy.bound import Bound, Place
from normcore_cupy.device import ABSENT, DERIVED, FORWARD, Scalar
from normcore_cupy.launcher import FLOATING, dtype_name
from normcore_cupy.plan import BACKWARD, ELEMENTWISE, REDUCTION, Plan, of_columns

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["STATE_ROWS", "Fresh", "Planned", "Plans"]

#: Vectors of the state of moments.
STATE_ROWS = 7
_NOWHERE = np.int64(0)


class Planned(NamedTuple):
    """What is planned for one layout."""

    launches: tuple[Bound, ...]  # each is given all addresses of a call
    num_channels: int
    num_parts: int  # float64 numbers
    num_counters: int


class Fresh(NamedTuple):
    """How a result that lies as the input is allocated."""

    dtype: np.dtype
    shape: tuple[int, ...]  # in the order of memory
    axes: tuple[int, ...] | None  # that bring it into the order of the input


class Plans:
    """Plans launches of batch norm; None where the general way is to be taken.

    Parameters
    ----------
    backend : DeviceBackend
    """

    def __init__(self, backend: DeviceBackend) -> None:
        self._backend, self._device = backend, backend.device
        self._launcher = backend._launcher

    def forward(
        self, x: Array, y: Array, gamma: Array, beta: Array, axis: int, eps: float
    ) -> Planned | None:
        views = self._views(axis, eps, x, y)
        if views is None:
            return None
        view, target = views
        num_channels = view.shape[1]
        derived = np.zeros((), DERIVED)
        derived["eps"] = eps
        vectors: list[Place] = []
        for name, value in {"gamma": gamma, "beta": beta}.items():
            if value is not None:
                kind = self._vector_kind(value, num_channels)
                if kind is None:
                    return None
                derived[name]["kind"] = kind
                vectors.append((5, name, "data"))
        if gamma is None:
            derived["gamma"]["value"] = 1.0
        over = self._backend._plan(view, REDUCTION)
        finish, num_parts, num_counters = self._finish(over, STATE_ROWS, num_channels)
        name, result = dtype_name(view), dtype_name(target)
        walked = self._launcher.view
        arguments = over.per_range, finish, _NOWHERE, derived
        places: list[Place] = [(3, "parts"), (3, "counters"), (4,), (5, "rows"), *vectors]
        if self._backend._plan(view, REDUCTION, target) == over:
            once = self._at_once(
                "normalize", (name, result), over, (view,),
                (walked(view, over.walk), walked(target, over.walk), *arguments),
                ((0, "data"), (1, "data"), *places),
            )  # fmt: skip
            if once is not None:
                return Planned((once,), num_channels, num_parts, num_counters)
        first = self._bound(
            "moments", (name, "float64"), over,
            (walked(view, over.walk), np.int32(0), *arguments), ((0, "data"), None, *places),
        )  # fmt: skip
        over = self._backend._plan(view, ELEMENTWISE, target)
        second = self._bound(
            "rescale", (name, result), over,
            (
                walked(view, over.walk), walked(target, over.walk), ABSENT, _NOWHERE,
                np.float64(-math.inf), np.float64(math.inf), np.int32(0), over.per_range,
            ),
            ((0, "data"), (1, "data"), None, None, None, (3,)),
        )  # fmt: skip
        return Planned((first, second), num_channels, num_parts, num_counters)

    def backward(
        self,
        dy: Array,
        x: Array,
        dx: Array,
        parts: Array,
        gamma: Array,
        axis: int,
        eps: float,
        training: bool,
    ) -> Planned | None:
        views = self._views(axis, eps, dy, x, dx)
        if views is None or type(training) is not bool:
            return None
        upstream, view, target = views
        num_channels = view.shape[1]
        if not self._is_state(parts, num_channels):
            return None
        forward = np.zeros((), FORWARD)
        forward["eps"], forward["training"] = eps, training
        vectors: list[Place] = []
        if gamma is None:
            forward["gamma"]["value"] = 1.0
        else:
            kind = self._vector_kind(gamma, num_channels)
            if kind is None:
                return None
            forward["gamma"]["kind"] = kind
            vectors.append((3, "gamma", "data"))
        over = self._backend._plan(view, REDUCTION, upstream)
        finish, num_parts, num_counters = self._finish(over, 4, num_channels)
        name, result = dtype_name(view), dtype_name(target)
        walked = self._launcher.view
        inputs = walked(upstream, over.walk), walked(view, over.walk)
        arguments = forward, over.per_range, finish, _NOWHERE
        places: list[Place] = [(3, "state"), (5, "parts"), (5, "counters"), (6,), *vectors]
        if self._backend._plan(view, REDUCTION, upstream, target) == over:
            once = self._at_once(
                "normalize_backward", (name, result), over, (upstream, view),
                (*inputs, walked(target, over.walk), *arguments),
                ((0, "data"), (1, "data"), (2, "data"), *places),
            )  # fmt: skip
            if once is not None:
                return Planned((once,), num_channels, num_parts, num_counters)
        first = self._bound(
            "backward_reduce", (name, "float64"), over, (*inputs, ABSENT, *arguments),
            ((0, "data"), (1, "data"), None, *places),
        )  # fmt: skip
        over = self._backend._plan(view, BACKWARD, upstream, target)
        second = self._bound(
            "backward_elemt", (name, result), over,
            (
                *(walked(each, over.walk) for each in (upstream, view, target)), ABSENT,
                _NOWHERE, _NOWHERE, over.per_range,
            ),
            ((0, "data"), (1, "data"), (2, "data"), None, None, None, (4,)),
        )  # fmt: skip
        return Planned((first, second), num_channels, num_parts, num_counters)

    def running(
        self, parts: Array, mean: Array, var: Array, weight: float | None, number: Array
    ) -> Planned | None:
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
        return Planned((bound,), num_channels, 0, 0)

    def _is_state(self, parts: Array, num_channels: int) -> bool:
        """Whether these are contiguous parts of moments."""
        state = self._backend.adopt(parts)
        whole = (STATE_ROWS, num_channels), (8 * num_channels, 8), "float64"
        return (state.shape, state.strides, state.dtype.name) == whole

    def result_like(self, like: Array) -> Fresh | None:
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
        return Fresh(native.dtype, shape, None if axes == tuple(range(native.ndim)) else axes)

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
        places: tuple[Place | None, ...],
    ) -> Bound:
        name = kernel + over.walk.suffix
        return Bound(self._device, name, dtypes, over.grid, over.block, arguments, places)

    def _at_once(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        over: Plan,
        inputs: tuple[Array, ...],
        arguments: tuple[Scalar, ...],
        places: tuple[Place | None, ...],
    ) -> Bound | None:
        """Return both passes in one launch, if between them the cache holds what they read.

        Half of the cache is for that, and half for what is written.
        """
        name, device = kernel + over.walk.suffix, self._device
        tiles, per_tile, _ = over.grid
        number, room = tiles * per_tile, device.cache_bytes() // 2
        num_bytes = sum(each.size * each.dtype.itemsize for each in inputs)
        waits = per_tile > 1  # blocks for others, with all that was read so far in between
        if not over.walk.suffix or (waits and num_bytes > room):
            return None
        resident = min(device.resident_blocks(name, dtypes, math.prod(over.block)), number)
        if not resident or (not waits and num_bytes * resident > room * number):
            return None
        grid = (resident if waits else number), 1, 1
        arguments = *arguments, np.int32(tiles), np.int32(per_tile)
        return Bound(device, name, dtypes, grid, over.block, arguments, places, waits)

    def _finish(self, over: Plan, num_rows: int, num_channels: int) -> tuple[Scalar, int, int]:
        """Return how ranges are merged, and how much of what they need."""
        finish, (parts, _) = self._launcher.finish(over, num_rows, num_channels)
        return finish, parts.size, over.num_counters
