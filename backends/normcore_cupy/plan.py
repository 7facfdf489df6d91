"""Grids and blocks as functions of shapes and strides alone, so that every device gives one result.

A block is channels by positions: neighbouring threads read neighbouring channels where those are
closest in memory, and neighbouring positions of one channel elsewhere. Blocks are tiles of
channels times ranges of positions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from normcore.layout.namespace import Array

__all__ = ["ELEMENTWISE", "REDUCTION", "Granularity", "Plan", "of_columns", "of_merge", "plan"]

_WARP, _THREADS = 32, 256  # MAX_THREADS in common.cuh


class Granularity(NamedTuple):
    """How finely positions are divided."""

    blocks: int  # that fill a device
    positions: int  # of a thread, at least


#: Few ranges, as each leaves a state to merge.
REDUCTION = Granularity(blocks=1024, positions=16)
ELEMENTWISE = Granularity(blocks=16384, positions=8)


class Plan(NamedTuple):
    """A launch over an (N, C, S) view.

    Attributes
    ----------
    per_range : int64
        Positions of each of the ``grid[1]`` ranges.
    axes : (0, 1) or (1, 0)
        Which axes of positions count as the outer and the inner one.
    """

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    per_range: np.int64
    axes: tuple[int, int]

    @property
    def ranges(self) -> int:
        """The number of ranges of positions."""
        return self.grid[1]


def plan(x: Array, granularity: Granularity) -> Plan:
    """Return the launch over a view that is not empty."""
    num_samples, num_channels, num_inner = x.shape
    outer, between, inner = (
        abs(stride) if size > 1 else math.inf
        for stride, size in zip(x.strides, x.shape, strict=True)
    )
    width = min(_WARP, _power_of_two(num_channels)) if between < min(outer, inner) else 1
    num_positions = num_samples * num_inner
    height = min(_THREADS, max(_WARP, width * _power_of_two(num_positions))) // width
    tiles = _divided_up(num_channels, width)
    most = _divided_up(num_positions, height * granularity.positions)
    per_range = _divided_up(num_positions, min(most, _divided_up(granularity.blocks, tiles)))
    per_range = _divided_up(per_range, height) * height
    return Plan(
        (tiles, _divided_up(num_positions, per_range), 1),
        (width, height, 1),
        np.int64(per_range),
        (1, 0) if outer < inner else (0, 1),
    )


def of_merge(num_columns: int, num_ranges: int) -> tuple[tuple[int, int, int], ...]:
    """Return the grid and block that merge (ranges, columns) states over the ranges."""
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
