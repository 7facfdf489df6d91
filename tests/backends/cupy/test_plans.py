"""How work is shared out among threads, and what kernels are told of arrays."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_host.build import kernel_names
from normcore_cupy import counting
from normcore_cupy.device import VIEW, source, view
from normcore_cupy.plan import (
    ELEMENTWISE,
    EXTREMA,
    REDUCTION,
    Walk,
    in_vectors,
    of_merge,
    plan,
)

from normcore.testing.strategies import arrange

SHAPES = [
    (1, 1, 1), (1, 3, 1), (5000, 1, 1), (1, 2, 5000), (5000, 3, 1), (999, 64, 1), (7, 100, 49),
    (64, 2, 64), (1, 5000, 3),
]  # fmt: skip


@pytest.mark.parametrize("granularity", [REDUCTION, ELEMENTWISE], ids=["reduction", "elementwise"])
@pytest.mark.parametrize("layout", ["C", "F", "transposed", "reversed"])
@pytest.mark.parametrize("shape", SHAPES)
def test_threads_share_out_every_position_once(shape: Any, layout: str, granularity: Any) -> None:
    launch = plan(arrange(np.zeros(shape), layout), granularity)
    width, height, _ = launch.block
    per_range, num_positions = int(launch.per_range), shape[0] * shape[2]
    assert launch.grid[0] * width >= shape[1] > (launch.grid[0] - 1) * width
    visited = np.zeros(num_positions, dtype=int)
    for first in range(0, launch.ranges * per_range, per_range):
        for thread in range(height):
            visited[first + thread : min(first + per_range, num_positions) : height] += 1
    assert (visited == 1).all()
    threads = width * height
    assert threads % 32 == 0
    assert threads & (threads - 1) == 0
    assert threads <= 256
    assert width <= 32


@pytest.mark.parametrize(
    ("shape", "layout", "width", "axes"),
    [
        ((1000, 64, 1), "C", 32, (0, 1)),
        ((1000, 3, 1), "C", 4, (0, 1)),
        ((1000, 64, 1), "F", 1, (1, 0)),
        ((8, 64, 49), "C", 1, (0, 1)),
        ((8, 64, 49), "F", 1, (1, 0)),
    ],
)
def test_neighbouring_threads_read_neighbouring_memory(
    shape: Any, layout: str, width: int, axes: Any
) -> None:
    launch = plan(arrange(np.zeros(shape), layout), REDUCTION)
    assert launch.block[0] == width
    assert shape[2] == 1 or launch.walk.axes == axes


@pytest.mark.parametrize(
    "shape", [(1 << 36, 1, 1), (1, 1, 1 << 36), (1 << 16, 1 << 20, 1), (2, 1 << 31, 1)]
)
@pytest.mark.parametrize("granularity", [REDUCTION, ELEMENTWISE], ids=["reduction", "elementwise"])
def test_plans_of_large_arrays_stay_within_the_limits_of_a_launch(
    shape: Any, granularity: Any
) -> None:
    strides = shape[1] * shape[2], shape[2], 1
    launch = plan(SimpleNamespace(shape=shape, strides=strides), granularity)
    assert launch.grid[0] < 1 << 31
    assert launch.ranges < 1 << 16
    assert launch.per_range // launch.block[1] < 1 << 31  # positions of a thread are an int
    grid, block = of_merge(shape[1], launch.ranges)
    assert grid[0] < 1 << 31
    assert block[0] * block[1] <= 256
    assert launch.group * launch.groups >= launch.ranges > launch.group * (launch.groups - 1)
    assert max(launch.group, launch.groups) <= 512  # states that one block merges


def placed(shape: Any, dtype: Any = np.float32, address: int = 256, order: str = "C") -> Any:
    """Return what a plan asks of an array; no memory is taken."""
    dtype = np.dtype(dtype)
    strides, step = [0, 0, 0], dtype.itemsize
    for axis in {"C": (2, 1, 0), "F": (0, 1, 2), "channels last": (1, 2, 0)}[order]:
        strides[axis], step = step, step * shape[axis]
    return SimpleNamespace(shape=shape, strides=tuple(strides), dtype=dtype, address=address)


def walk(*arrays: Any, granularity: Any = ELEMENTWISE, planes: Any = ()) -> Walk:
    pointer = lambda array: array.address  # noqa: E731
    return plan(arrays[0], granularity, *arrays[1:], planes=planes, pointer=pointer).walk


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ([placed((8, 6, 196))], Walk("_along", (0, 1), 4)),
        ([placed((8, 6, 196), np.float16)], Walk("_along", (0, 1), 4)),
        ([placed((8, 6, 200), np.float64)], Walk("_along", (0, 1), 2)),
        ([placed((8, 6, 200), np.int8)], Walk("_along", (0, 1), 4)),
        ([placed((8, 6, 49))], Walk("_single", (0, 1))),
        ([placed((200, 6, 1), order="F")], Walk("_along", (1, 0), 4)),
        ([placed((8, 6, 196), address=260)], Walk("_single", (0, 1))),
        ([placed((8, 6, 196)), placed((8, 6, 196), address=264)], Walk("_single", (0, 1))),
        ([placed((8, 6, 196)), placed((8, 6, 196), np.float64)], Walk("_along", (0, 1), 2)),
        ([placed((8, 6, 196), np.float16), placed((8, 6, 196))], Walk("_along", (0, 1), 4)),
        ([placed((8, 6, 196)), placed((8, 6, 196), order="channels last")], Walk("", (0, 1))),
        ([placed((99, 64, 1))], Walk("_across", (1, 0), 4)),
        ([placed((99, 64, 1), np.float16)], Walk("_across", (1, 0), 4)),
        ([placed((99, 64, 1), np.float64)], Walk("_across", (1, 0), 2)),
        ([placed((99, 66, 1))], Walk("_single", (1, 0))),
        ([placed((8, 64, 49), order="channels last")], Walk("_across", (0, 1), 4)),
        ([placed((1, 1, 1 << 32))], Walk("_along", (0, 1), 4)),
        ([placed((1, 1, 1 << 33))], Walk("", (0, 1))),
        ([placed((1, 1, (1 << 32) - 1))], Walk("", (0, 1))),
        ([placed((1 << 25, 64, 1))], Walk("_across", (1, 0), 4)),
        ([placed((1 << 28, 64, 1))], Walk("", (1, 0))),
    ],
)  # fmt: skip
def test_vectors_where_memory_allows_them(arrays: Any, expected: Walk) -> None:
    assert walk(*arrays) == expected


def test_planes_and_reductions_take_part_in_the_choice_of_a_walk() -> None:
    x = placed((1 << 20, 4, 16))
    plane = SimpleNamespace(shape=(1 << 20, 16), strides=(1 << 14, 1), dtype=np.dtype(bool))
    assert walk(x).suffix == walk(x, planes=(None,)).suffix == "_along"
    assert walk(x, planes=(plane,)).suffix == ""
    assert walk(placed((99, 64, 1)), granularity=REDUCTION) == Walk("_across", (1, 0), 2)
    assert walk(placed((99, 64, 1)), granularity=EXTREMA).values == 4


def test_a_view_in_vectors_counts_in_them() -> None:
    whole = np.array((256, 8, 6, 196, 1176, 196, 1), VIEW)
    assert in_vectors(whole, Walk("_along", (0, 1), 4)).item() == (256, 8, 6, 49, 294, 49, 1)
    whole = np.array((256, 8, 64, 49, 3136, 1, 64), VIEW)
    assert in_vectors(whole, Walk("_across", (0, 1), 4)).item() == (256, 8, 16, 49, 784, 1, 16)
    assert in_vectors(whole, Walk("_single", (0, 1))) is whole


# -- the protocol ----------------------------------------------------------------------------


def test_a_view_has_address_shape_and_strides_in_elements() -> None:
    device = SimpleNamespace(pointer=lambda array: array.__array_interface__["data"][0])
    array = np.zeros((6, 4, 9), dtype=np.float32)[::2, :, ::-3]
    address = array.__array_interface__["data"][0]
    assert view(device, array).item() == (address, 3, 4, 3, 72, 9, -3)
    assert view(device, array, (1, 0)).item() == (address, 3, 4, 3, -3, 9, 72)
    plane = np.broadcast_to(np.zeros((3, 1)), (3, 5))
    assert view(device, plane).item()[1:] == (3, 1, 5, 1, 0, 0)
    assert view(device, plane, (1, 0)).item()[1:] == (5, 1, 3, 0, 0, 1)
    assert view(device, None) == np.zeros((), VIEW)


def test_every_kernel_has_one_source() -> None:
    names = kernel_names(source())
    assert len(names) == len(set(names))
    for name in names:
        assert kernel_names(source(name)) == [name]
        assert len(source(name)) < len(source())
    with pytest.raises(ValueError, match="nothing"):
        source("nothing")


def test_constants_agree_with_the_kernels() -> None:
    assert re.findall(r"constexpr int RANKS = (\d+)", source()) == [str(counting.RANKS)]
    assert re.findall(r"#define MAX_THREADS (\d+)", source()) == ["256"]
