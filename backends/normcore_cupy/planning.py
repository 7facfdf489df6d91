"""What plans of whole calls ask of arrays, and what they make of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from normcore import layout
from normcore.layout import out_argument
from normcore.layout.namespace import Array
from normcore.statistics.wide_integers import is_64_bit
from normcore_cupy.device import ABSENT, FINISH
from normcore_cupy.launcher import FLOATING, dtype_name
from normcore_cupy.plan import ELEMENTWISE, Plan, plan
from normcore_cupy.program import Address, Argument, Placed, Program

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["STATE_ROWS", "Drafted", "Planned", "Planning", "guarded", "is_in_c_order"]

#: Vectors of the state of moments.
STATE_ROWS = 7


class Planned(NamedTuple):
    """What a call does with arrays that lie in one way.

    Attributes
    ----------
    program : Program
    num_released : int
        The results that go to the caller: the first ones of the program.
    out : int or None
        Which of the arrays is the result, if the caller brings it.
    extents : tuple of int
        The bytes from the first to the last of each array.
    aliases : frozenset of int
        The arrays that `out` may be.
    """

    program: Program
    num_released: int = 0
    out: int | None = None
    extents: tuple[int, ...] = ()
    aliases: frozenset[int] = frozenset()

    def may_write(self, addresses: list[int]) -> bool:
        """Whether the result is one of the inputs, or shares no memory with any array."""
        if self.out is None:
            return True
        start = addresses[self.out]
        end = start + self.extents[self.out]
        for number, (first, extent) in enumerate(zip(addresses, self.extents, strict=False)):
            if number == self.out or not first + extent > start or not first < end:
                continue
            if first != start or number not in self.aliases:
                return False
        return True


def guarded(
    program: Program, num_released: int, out: int, arrays: list[Array], inputs: int
) -> Planned | None:
    """Return a plan that refuses an `out` over others of these arrays, where it is one of them.

    Parameters
    ----------
    out : int
        Which of the arrays it would be.
    arrays : list of arrays or None
        The backend's own.
    inputs : int
        So many at the begin may be `out` itself.
    """
    target = arrays[out]
    if target is None:
        return Planned(program, num_released)
    present = [each for each in arrays if each is not None]
    if any(stride < 0 for each in present for stride in each.strides):
        return None
    aliases = frozenset(
        number
        for number, each in enumerate(arrays[:inputs])
        if (each.dtype, each.strides) == (target.dtype, target.strides)
    )
    return Planned(program, num_released, out, tuple(map(_extent, arrays)), aliases)


class Drafted(NamedTuple):
    """Arrays as kernels see them.

    Attributes
    ----------
    views : (N, C, S) arrays
        The last one is of the result, or of one that lies as that will.
    plane : (N, S) array or None
        Of the mask.
    at_out : Address
    is_fresh : bool
        Whether a call allocates the result.
    """

    views: tuple[Array, ...]
    plane: Array
    at_out: Address
    is_fresh: bool


def is_in_c_order(array: Array) -> bool:
    """Whether elements follow each other without gaps, the last axis innermost."""
    step = array.dtype.itemsize
    for size, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _holds_result(out: Array, x: Array) -> bool:
    """Whether an ``out`` is one that the general way would take."""
    try:
        out_argument.check_out(out, x)
    except (TypeError, ValueError):
        return False
    return True


def _extent(array: Array) -> int:
    """Return the bytes from the first to the last of an array whose strides are not negative."""
    if array is None:
        return 0
    steps = zip(array.shape, array.strides, strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return int(last) + int(array.dtype.itemsize)


class Planning:
    """Plans for arrays of a caller's.

    Parameters
    ----------
    backend : DeviceBackend
    """

    def __init__(self, backend: DeviceBackend) -> None:
        self._backend, self._device = backend, backend.device
        self._launcher = backend._launcher

    # -- what arrays are -------------------------------------------------------------------

    def _adopted(self, arrays: list[Array]) -> list[Array]:
        return [None if each is None else self._backend.adopt(each) for each in arrays]

    def result_like(self, program: Program, native: Array) -> tuple[Array, Address] | None:
        """Have calls return an array in the memory order of another, if that is dense; and one."""
        order = sorted(range(native.ndim), key=lambda each: -native.strides[each])
        step = native.dtype.itemsize
        for axis in reversed(order):
            if native.strides[axis] != step:
                return None
            step *= native.shape[axis]
        axes = tuple(order.index(each) for each in range(native.ndim))
        shape = tuple(native.shape[each] for each in order)
        # What is allocated is aligned for all vectors, so any such array shows how others lie.
        example = self._device.empty(shape, native.dtype).transpose(axes)
        in_order = axes == tuple(range(native.ndim))
        return example, program.result(shape, native.dtype, None if in_order else axes)

    def _with_result(
        self,
        program: Program,
        axis: int,
        eps: float,
        arrays: tuple[Array, ...],
        out: Array,
        at_out: Address,
        mask: Array = None,
    ) -> Drafted | None:
        """Return how arrays, of one shape and dtype, and the result are seen."""
        try:
            natives = self._adopted([*arrays, out])
        except TypeError:
            return None
        *natives, target = natives
        x = natives[-1]
        if type(axis) is not int or not isinstance(eps, float) or not 0 < eps < math.inf:
            return None
        if (
            dtype_name(x) not in FLOATING
            or not -x.ndim <= axis < x.ndim
            or x.ndim < 2
            or not x.size
        ):
            return None
        if target is None:
            fresh = self.result_like(program, natives[0])
            if fresh is None:
                return None
            target, at_out = fresh
        elif not _holds_result(target, natives[0]):
            return None
        natives.append(target)
        if any((each.dtype, each.shape) != (x.dtype, x.shape) for each in natives):
            return None
        if mask is None:
            views = list(layout.views(axis, *natives))
            return Drafted(views[0], None, at_out, out is None) if len(views) == 1 else None
        try:
            shown = layout.broadcast_plane(self._backend.adopt(mask), x, axis, "mask")
        except (TypeError, ValueError):
            return None
        views = list(layout.views(axis, *natives, shown))
        if shown.dtype != np.bool_ or len(views) != 1:
            return None
        *viewed, plane = views[0]
        return Drafted(tuple(viewed), layout.plane_of(plane), at_out, out is None)

    def _view_of_one(self, axis: int | None, x: Array) -> Array:
        """Return the (N, C, S) view of an array that a statistic may be observed of; or None."""
        try:
            native = self._backend.adopt(x)
        except TypeError:
            return None
        if is_64_bit(native) or not native.size:
            return None
        if axis is not None and (type(axis) is not int or not -native.ndim <= axis < native.ndim):
            return None
        views = list(layout.views(axis, native))
        return views[0][0] if len(views) == 1 else None

    def _kind(self, value: Array, num_channels: int) -> int | None:
        """Return the kind of a contiguous vector of floats, as ``Given`` counts; 0 of None."""
        if value is None:
            return 0
        native = self._backend.adopt(value)
        if native.shape != (num_channels,) or native.strides != (native.dtype.itemsize,):
            return None
        return self._kind_of(native)

    def _kind_of(self, native: Array) -> int | None:
        name = dtype_name(native)
        return 1 + FLOATING.index(name) if name in FLOATING else None

    def _fits_state(self, parts: Array, num_channels: int) -> bool:
        """Whether these are contiguous parts of moments, or None."""
        if parts is None:
            return True
        state = self._backend.adopt(parts)
        whole = (STATE_ROWS, num_channels), (8 * num_channels, 8), "float64"
        return (state.shape, state.strides, state.dtype.name) == whole

    # -- what kernels take -----------------------------------------------------------------

    def _placed(self, view: Array, over: Plan, address: Address) -> Placed:
        return Placed(self._launcher.view(view, over.walk), {"data": address})

    def _plane(self, plane: Array, over: Plan, address: Address) -> Argument:
        return ABSENT if plane is None else self._placed(plane, over, address)

    def _weights(self, program: Program, plane: Array, address: Address) -> tuple[Array, Address]:
        """Have a mask converted to weights; return a plane that lies as they do, and where."""
        distinct = plane[tuple(slice(None if stride else 1) for stride in plane.strides)]
        shown = distinct[:, None, :]
        weights = self._launcher.like(shown, np.float64)
        at = program.scratch((weights.size,))
        over = plan(shown, ELEMENTWISE)
        self._launch(
            program, "convert", ("bool", "float64"), over, self._placed(shown, over, address),
            self._placed(weights, over, at), over.per_range,
        )  # fmt: skip
        return self._device.xp.broadcast_to(weights[:, 0, :], plane.shape), at

    def _finish(self, program: Program, over: Plan, num_rows: int, num_channels: int) -> Placed:
        """Return how ranges are merged, in memory of each call."""
        parts = program.scratch((over.num_states, num_rows, num_channels))
        counters = program.counters(over.num_counters)
        finish = np.array((0, 0, over.group, over.groups), FINISH)
        return Placed(finish, {"parts": parts, "counters": counters or parts})

    def _launch(
        self,
        program: Program,
        kernel: str,
        dtypes: tuple[str, str],
        over: Plan,
        *arguments: Argument,
    ) -> None:
        program.launch(kernel + over.walk.suffix, dtypes, over.grid, over.block, *arguments)

    def _launch_at_once(
        self,
        program: Program,
        kernel: str,
        dtypes: tuple[str, str],
        over: Plan,
        inputs: tuple[Array, ...],
        *arguments: Argument,
    ) -> bool:
        """Launch two passes as one, if between them the cache holds what they read.

        Half of the cache is for that, and half for what is written.
        """
        name, device = kernel + over.walk.suffix, self._device
        tiles, per_tile, _ = over.grid
        number, room = tiles * per_tile, device.cache_bytes() // 2
        num_bytes = sum(each.size * each.dtype.itemsize for each in inputs)
        waits = per_tile > 1  # blocks for others, with all that was read so far in between
        if not over.walk.suffix or (waits and num_bytes > room):
            return False
        resident = min(device.resident_blocks(name, dtypes, math.prod(over.block)), number)
        if not resident or (not waits and num_bytes * resident > room * number):
            return False
        grid = (resident if waits else number), 1, 1
        arguments = *arguments, np.int32(tiles), np.int32(per_tile)
        program.launch(name, dtypes, grid, over.block, *arguments, together=waits)
        return True
