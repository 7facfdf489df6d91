"""Grids and blocks as functions of shapes and strides alone, so that every device gives one result.

A block is channels by positions: neighbouring threads read neighbouring channels where those are
closest in memory, and neighbouring positions of one channel elsewhere. Blocks are tiles of
channels times ranges of positions. Where memory allows it a thread takes vectors, and everything
counts in these.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from normcore.layout.namespace import Array

__all__ = [
    "BACKWARD",
    "ELEMENTWISE",
    "EXTREMA",
    "REDUCTION",
    "Granularity",
    "Plan",
    "Walk",
    "in_vectors",
    "of_columns",
    "of_merge",
    "plan",
]

_WARP, _THREADS = 32, 256  # MAX_THREADS in common.cuh
_OFFSETS = 1 << 31  # of an int
_ALIGNMENT = 64  # bytes, of the largest vectors and more
_AHEAD = 16 * _THREADS  # positions that the loads in flight of a block reach


class Granularity(NamedTuple):
    """How finely arrays are divided."""

    blocks: int  # that fill a device
    positions: int  # of a thread, at least
    channels: int  # of a thread, at most; each of them takes registers


#: Few ranges, as each leaves a state to merge.
REDUCTION = Granularity(blocks=512, positions=16, channels=2)
EXTREMA = REDUCTION._replace(channels=4)
ELEMENTWISE = Granularity(blocks=16384, positions=8, channels=4)
BACKWARD = ELEMENTWISE._replace(channels=2)


class Walk(NamedTuple):
    """How threads go through arrays of one shape; the structs of common.cuh.

    Attributes
    ----------
    suffix : str
        Of the kernel's name: "" for any strides, "_single" where all arrays have the same ones,
        "_along" and "_across" for vectors of positions and of channels.
    axes : (0, 1) or (1, 0)
        Which axes of positions count as the outer and the inner one.
    values : int
        Of a vector.
    """

    suffix: str
    axes: tuple[int, int]
    values: int = 1


class Plan(NamedTuple):
    """A launch over an (N, C, S) view.

    Attributes
    ----------
    per_range : int64
        Positions, or vectors of them, of each of the ``grid[1]`` ranges.
    walk : Walk
    """

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    per_range: np.int64
    walk: Walk

    @property
    def ranges(self) -> int:
        """The number of ranges of positions."""
        return self.grid[1]

    @property
    def group(self) -> int:
        """How many ranges one block merges, the last one to be done; then another the groups."""
        if self.ranges <= _WARP:
            return self.ranges
        return 1 << ((self.ranges - 1).bit_length() + 1) // 2

    @property
    def groups(self) -> int:
        """The number of groups of ranges."""
        return _divided_up(self.ranges, self.group)

    @property
    def num_states(self) -> int:
        """How many states are kept before the end: of ranges, and of groups if they are several."""
        return self.ranges + (self.groups if self.groups > 1 else 0)

    @property
    def num_counters(self) -> int:
        """How many numbers blocks count in: ranges of each group, groups, and tickets of a tile.

        A single range needs none.
        """
        return self.grid[0] * (2 + self.groups) if self.ranges > 1 else 0


#: Shape, strides in bytes, size of an element, and the address within the largest vectors; None
#: where there are none.
_Placed: TypeAlias = tuple[tuple[int, int, int], tuple[int, ...], int, int | None]


class _Layout(NamedTuple):
    """An (N, C, S) array: its shape, with the strides in elements of the axes that have some."""

    shape: tuple[int, int, int]
    strides: tuple[int, int, int]
    itemsize: int
    address: int


def plan(
    x: Array,
    granularity: Granularity,
    *others: Array,
    planes: tuple[Array, ...] = (),
    pointer: Callable[[Array], int] | None = None,
) -> Plan:
    """Return the launch over arrays of one shape that is not empty.

    Parameters
    ----------
    x, others : (N, C, S) arrays
    planes : sequence of (N, S) arrays or None
    pointer : callable, optional
        Returns the address of an array; without it there are no vectors.
    """
    arrays: tuple[_Placed, ...]
    if pointer is None:
        arrays = ((x.shape, x.strides, 1, None),)
    else:
        arrays = tuple(
            (each.shape, each.strides, each.dtype.itemsize, pointer(each) % _ALIGNMENT)
            for each in (x, *others)
        )
    beside = tuple((each.strides, each.dtype.itemsize) for each in planes if each is not None)
    return _planned(arrays, beside, granularity)


@functools.lru_cache(maxsize=4096)
def _planned(
    arrays: tuple[_Placed, ...],
    planes: tuple[tuple[tuple[int, ...], int], ...],
    granularity: Granularity,
) -> Plan:
    """Return the launch over arrays that lie so; calls repeat these."""
    shape, byte_strides, _, address = arrays[0]
    num_samples, num_channels, num_inner = shape
    outer, between, inner = (
        abs(stride) if size > 1 else math.inf
        for stride, size in zip(byte_strides, shape, strict=True)
    )
    axes = (1, 0) if outer < inner else (0, 1)
    walk, across = Walk("", axes), between < min(outer, inner)
    if address is not None:
        layouts = [_layout(each) for each in arrays]
        walk = _walk(layouts, planes, axes, across, granularity.channels)
    num_positions = num_samples * num_inner
    if walk.suffix == "_across":
        num_channels //= walk.values
    else:
        num_positions //= walk.values
    width = min(_WARP, _power_of_two(num_channels)) if across else 1
    height = min(_THREADS, max(_WARP, width * _power_of_two(num_positions))) // width
    tiles = _divided_up(num_channels, width)
    most = _divided_up(num_positions, height * granularity.positions)
    per_range = _divided_up(num_positions, min(most, _divided_up(granularity.blocks, tiles)))
    per_range = _divided_up(per_range, height) * height
    return Plan(
        (tiles, _divided_up(num_positions, per_range), 1),
        (width, height, 1),
        np.int64(per_range),
        walk,
    )


def _layout(array: _Placed) -> _Layout:
    shape, byte_strides, itemsize, address = array
    strides = [
        stride // itemsize if size > 1 else 0
        for stride, size in zip(byte_strides, shape, strict=True)
    ]
    return _Layout(shape, (strides[0], strides[1], strides[2]), itemsize, address or 0)


def _walk(
    arrays: list[_Layout],
    planes: tuple[tuple[tuple[int, ...], int], ...],
    axes: tuple[int, int],
    across: bool,
    most: int,
) -> Walk:
    """Return the fastest walk that the arrays allow."""
    first = arrays[0]
    if any(each.strides != first.strides for each in arrays):
        return Walk("", axes)
    size = max(each.itemsize for each in arrays)
    outer, inner = (0, 2) if axes == (0, 1) else (2, 0)
    values = min(most if across else 4, 16 // size)
    axis, others = (1, (0, 2)) if across else (inner, (outer, 1))
    aligned = (
        first.strides[axis] == 1
        and first.shape[axis] % values == 0
        and all(first.strides[other] % values == 0 for other in others)
        and all(each.address % (each.itemsize * values) == 0 for each in arrays)
    )
    if not aligned:
        values = 1
    reach = [_reach(first.shape, first.strides, outer, inner, values)]
    for strides, itemsize in planes:
        sn, ss = (stride // itemsize for stride in strides)
        reach.append(_reach(first.shape, (sn, 0, ss), outer, inner, 1))
    steps = first.shape[inner] // (1 if across else values)
    if max(*reach, steps) >= _OFFSETS:
        return Walk("", axes)
    suffix = ("_across" if across else "_along") if aligned else "_single"
    return Walk(suffix, axes, values)


def _reach(
    shape: tuple[int, int, int], strides: tuple[int, int, int], outer: int, inner: int, values: int
) -> int:
    """Return a bound on offsets, in vectors; threads step over the end before they look."""
    rows = shape[outer] + _AHEAD * values // shape[inner] + 2
    sizes = {outer: rows, 1: shape[1], inner: shape[inner] + _AHEAD}
    return sum(size * abs(strides[axis]) for axis, size in sizes.items()) // values


def in_vectors(view: np.ndarray, walk: Walk) -> np.ndarray:
    """Return the :data:`~normcore_cupy.device.VIEW` of an array in vectors of the walk."""
    if walk.values == 1:
        return view
    counted, beside = ("c", "sc") if walk.suffix == "_across" else ("s", "ss")
    result = view.copy()
    result[counted] //= walk.values
    for stride in ("sn", "sc", "ss"):
        result[stride] = 1 if stride == beside else view[stride] // walk.values
    return result


def of_merge(num_columns: int, num_ranges: int) -> tuple[tuple[int, int, int], ...]:
    """Return the grid and block that merge states (ranges, columns) in a kernel of its own."""
    height = min(_THREADS, _power_of_two(num_ranges))
    width = max(1, _WARP // height)
    return (_divided_up(num_columns, width), 1, 1), (width, height, 1)


def of_columns(num_columns: int) -> tuple[tuple[int, int, int], ...]:
    """Return the grid and block of one thread for each column."""
    return (_divided_up(num_columns, _THREADS), 1, 1), (_THREADS, 1, 1)


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below ``number``."""
    return 1 << (number - 1).bit_length()


def _divided_up(number: int, divisor: int) -> int:
    return -(-number // divisor)
