"""Launches on a device, and what callers give made into what kernels take."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from normcore.affine import COEFFICIENTS, Affine
from normcore.layout.namespace import Array
from normcore.statistics import Moments
from normcore_cupy.device import ABSENT, C_TYPES, FINISH, GIVEN, MAP, Device, Scalar, placed
from normcore_cupy.plan import ELEMENTWISE, Plan, Walk, in_vectors, plan

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["FLOATING", "Launcher", "dtype_name"]

#: Dtypes of vectors and results; Given::kind of common.cuh is 1 for the first.
FLOATING = ("float64", "float32", "float16", "bfloat16")
_NOWHERE = np.int64(0)
_ON_HOST = (float, int, np.ndarray, np.generic)
_BY_VALUE = (np.generic, np.ndarray)


class _Made(dict[Hashable, Array]):
    """What was made of a map, for each place that a device tells."""

    def __init__(self, of: Launcher) -> None:
        super().__init__()
        self.of = of


class Launcher:
    """Views, planes, vectors and results in the dtypes and layouts that kernels read.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def vectors(self, num_channels: int, named: dict[str, Array]) -> Array:
        """Return scalars and vectors, on the host or the device, as rows of one device array.

        What lies on the host goes there in one copy.

        Raises
        ------
        ValueError
            If one of them has another length.
        """
        values = list(named.values())
        on_host = [isinstance(value, _ON_HOST) for value in values]
        for name, value in named.items():
            shape = getattr(value, "shape", ())
            if shape != () and tuple(shape) != (num_channels,):
                raise ValueError(
                    f"{name} has shape {tuple(shape)}, but there are {num_channels} channels"
                )
        host = np.empty((len(values), num_channels))
        for row, value in enumerate(values):
            if on_host[row]:
                host[row] = value
        if all(on_host):
            return self.device.asarray(host)
        vectors = (
            self.device.asarray(host) if any(on_host) else self.device.empty(host.shape, host.dtype)
        )
        for row, value in enumerate(values):
            if not on_host[row]:
                vectors[row, ...] = value
        return vectors

    def coefficients(self, affine: Affine, num_channels: int) -> Array:
        """Return a map's coefficients as rows of one device array.

        Those of a map of the host are kept with it, for every stream that it was used on.
        """
        made = affine.backend_cache
        if not isinstance(made, _Made) or made.of is not self:
            if not self.is_on_host(affine):
                return self.vectors(
                    num_channels, {name: getattr(affine, name) for name in COEFFICIENTS}
                )
            made = _Made(self)
            affine.cache(made)
        rows = self.device.kept(made)
        if rows is None or rows.shape[1] != num_channels:
            rows = made[self.device.place()] = self.device.asarray(
                affine.coefficients(num_channels)
            )
        return rows

    @staticmethod
    def is_on_host(affine: Affine) -> bool:
        """Whether all coefficients of a map are numbers, and NumPy's."""
        return all(isinstance(getattr(affine, name), _ON_HOST) for name in COEFFICIENTS)

    def given_map(self, affine: Affine, num_channels: int) -> tuple[np.ndarray, list[Array]]:
        """Return a map as the struct that kernels read, and the arrays behind it.

        Raises
        ------
        ValueError
            If a coefficient has another length.
        """
        given, held = np.zeros((), MAP), []
        for name in COEFFICIENTS:
            given[name], vector = self.given(num_channels, name, getattr(affine, name))
            held.append(vector)
        given["group"] = 1
        return given, held

    def vector(self, name: str, value: Array, num_channels: int) -> tuple[Array, np.float64]:
        """Return a contiguous vector of the device, of any float dtype, or None and a number.

        Raises
        ------
        ValueError
            If it has another length.
        """
        if isinstance(value, float | int) or value.shape == ():
            if isinstance(value, _ON_HOST):
                return None, np.float64(value)
        elif tuple(value.shape) != (num_channels,):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, but there are {num_channels} channels"
            )
        elif (
            not isinstance(value, np.ndarray)
            and value.strides == (value.dtype.itemsize,)
            and dtype_name(value) in FLOATING
        ):
            return value, np.float64(0.0)
        return self.vectors(num_channels, {name: value})[0, ...], np.float64(0.0)

    def given(self, num_channels: int, name: str, value: Array) -> tuple[np.ndarray, Array]:
        """Return :meth:`vector` as the struct that kernels read, and the array behind it."""
        vector, number = self.vector(name, value, num_channels)
        if vector is None:
            return np.array((0, 0, number), GIVEN), None
        kind = 1 + FLOATING.index(dtype_name(vector))
        return np.array((self.device.pointer(vector), kind, 0.0), GIVEN), vector

    def finish(
        self, over: Plan, num_rows: int, num_channels: int
    ) -> tuple[np.ndarray, tuple[Array, ...]]:
        """Return where a reduction keeps its states (ranges, rows, C), and the arrays behind it."""
        parts = counters = self.device.empty((over.num_states, num_rows, num_channels), np.float64)
        if over.num_counters:
            counters = self.device.counters(over.num_counters)
        addresses = self.device.pointer(parts), self.device.pointer(counters)
        return np.array((*addresses, over.group, over.groups), FINISH), (parts, counters)

    def state(self, moments: Moments) -> Array:
        """Return the state as a contiguous array of the device."""
        state = self.device.asarray(moments.parts)
        if state.strides == (8 * state.shape[1], 8):
            return state
        contiguous = self.device.empty(state.shape, np.float64)
        contiguous[...] = state
        return contiguous

    def plane(self, plane: Array, dtype: str, x: Array) -> Array:
        """Return weights or a mask (N, S) in the dtype that kernels read; stride 0 stays.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        if plane is None:
            return None
        expected = x.shape[0], x.shape[2]
        if tuple(plane.shape) != expected:
            raise ValueError(
                f"weights or mask have shape {tuple(plane.shape)}, expected {expected}"
            )
        plane = self.device.asarray(plane)
        if dtype_name(plane) == dtype or 0 in expected:
            return plane
        distinct = plane[tuple(slice(None if stride else 1) for stride in plane.strides)]
        converted = self.converted(distinct[:, None, :], dtype)[:, 0, :]
        return self.device.xp.broadcast_to(converted, expected)

    def of_one_dtype(self, dy: Array, x: Array) -> tuple[Array, Array]:
        """Return dy and x as one kernel reads them; float64 holds both where they differ.

        Raises
        ------
        ValueError
            If their shapes differ.
        """
        if tuple(dy.shape) != tuple(x.shape):
            raise ValueError(f"dy has shape {tuple(dy.shape)}, but x has {tuple(x.shape)}")
        if dtype_name(dy) == dtype_name(x):
            return dy, x
        return self.converted(dy, "float64"), self.converted(x, "float64")

    def converted(self, x: Array, dtype: str) -> Array:
        """Return the array in another dtype, itself where it has that already."""
        if dtype_name(x) == dtype:
            return x
        out = self.like(x, np.dtype(dtype))
        if 0 not in x.shape:
            over = plan(x, ELEMENTWISE)
            self.launch("convert", (dtype_name(x), dtype), over, (x, out), over.per_range)
        return out

    def result(self, x: Array, out: Array) -> tuple[Array, tuple[str, str]]:
        """Return ``out``, allocated where it is None, and the dtypes of input and output.

        Raises
        ------
        TypeError
            If there is no kernel for one of them.
        ValueError
            If ``out`` has another shape.
        """
        name = dtype_name(x)
        if out is None:
            out = self.like(x, x.dtype if name in FLOATING else np.float64)
        elif dtype_name(out) not in FLOATING:
            raise TypeError(f"out has dtype {out.dtype}; use one of {', '.join(FLOATING)}")
        elif tuple(out.shape) != tuple(x.shape):
            raise ValueError(f"out has shape {tuple(out.shape)}, but x has {tuple(x.shape)}")
        return out, (name, dtype_name(out))

    def like(self, x: Array, dtype: DTypeLike) -> Array:
        """Return an uninitialized array of the shape and the memory order of ``x``."""
        order = sorted(range(3), key=lambda axis: -abs(x.strides[axis]))
        array = self.device.empty(tuple(x.shape[axis] for axis in order), dtype)
        return array.transpose(tuple(order.index(axis) for axis in range(3)))

    def launch(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        over: Plan,
        arrays: tuple[Array, ...],
        *args: Array,
    ) -> None:
        """Launch over views: ``arrays`` first, planes in elements, then as :meth:`run`."""
        views = (ABSENT if array is None else self.view(array, over.walk) for array in arrays)
        self.run(kernel + over.walk.suffix, dtypes, over.grid, over.block, *views, *args)

    def view(self, array: Array, walk: Walk) -> np.ndarray:
        """Return an array as kernels that walk so take it."""
        result = _walked(array.shape, array.strides, array.dtype.itemsize, walk).copy()
        result["data"] = self.device.pointer(array)
        return result

    def run(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *args: Array,
    ) -> None:
        """Launch with NumPy values as they are, and contiguous device arrays by address."""
        pointer = self.device.pointer
        values: list[Scalar] = [
            _NOWHERE if each is None
            else each if isinstance(each, _BY_VALUE)
            else np.int64(pointer(each))
            for each in args
        ]  # fmt: skip
        self.device.launch(kernel, dtypes, grid, block, tuple(values))


@functools.lru_cache(maxsize=4096)
def _walked(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, walk: Walk
) -> np.ndarray:
    """Return the view of an array, in vectors of the walk, or of a plane; without its address."""
    whole = placed(shape, strides, itemsize, walk.axes)
    return whole if len(shape) == 2 else in_vectors(whole, walk)


def dtype_name(array: Array) -> str:
    """Return the name of an array's dtype.

    Raises
    ------
    TypeError
        If there is no kernel for it.
    """
    return _name_of(array.dtype)


@functools.cache
def _name_of(dtype: DTypeLike) -> str:
    name: str = np.dtype(dtype).name
    if name not in C_TYPES:
        raise TypeError(f"there is no kernel for dtype {name}; use one of {', '.join(C_TYPES)}")
    return name
