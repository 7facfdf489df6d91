"""Launches on a device, and what callers give made into what kernels take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics import Moments
from normcore_cupy.device import C_TYPES, Device, Scalar, view
from normcore_cupy.plan import ELEMENTWISE, Plan, plan

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Launcher", "dtype_name"]

_FLOATING = ("float64", "float32", "float16", "bfloat16")
_NOWHERE = np.int64(0)


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

        Raises
        ------
        ValueError
            If one of them has another length.
        """
        values = [
            value if hasattr(value, "dtype") else np.asarray(value) for value in named.values()
        ]
        for name, value in zip(named, values, strict=True):
            if tuple(value.shape) not in ((), (num_channels,)):
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, but there are {num_channels} channels"
                )
        if all(isinstance(value, np.ndarray | np.generic) for value in values):
            rows = [np.broadcast_to(value, (num_channels,)) for value in values]
            return self.device.asarray(np.array(rows, dtype=np.float64))
        vectors = self.device.empty((len(values), num_channels), np.float64)
        for row, value in enumerate(values):
            if isinstance(value, np.ndarray | np.generic):
                one = value.ndim == 0
                value = float(value) if one else self.device.asarray(np.array(value, np.float64))
            vectors[row, ...] = value
        return vectors

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
            out = self.like(x, x.dtype if name in _FLOATING else np.float64)
        elif dtype_name(out) not in _FLOATING:
            raise TypeError(f"out has dtype {out.dtype}; use one of {', '.join(_FLOATING)}")
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
        """Launch over views: ``arrays`` first, then as :meth:`run`."""
        views = (view(self.device, array, over.axes) for array in arrays)
        self.run(kernel, dtypes, over.grid, over.block, *views, *args)

    def run(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *args: Array,
    ) -> None:
        """Launch with NumPy values as they are, and contiguous device arrays by address."""
        values: tuple[Scalar, ...] = tuple(
            _NOWHERE if each is None
            else each if isinstance(each, np.generic | np.ndarray)
            else np.int64(self.device.pointer(each))
            for each in args
        )  # fmt: skip
        self.device.launch(kernel, dtypes, grid, block, values)


def dtype_name(array: Array) -> str:
    """Return the name of an array's dtype.

    Raises
    ------
    TypeError
        If there is no kernel for it.
    """
    name: str = np.dtype(array.dtype).name
    if name not in C_TYPES:
        raise TypeError(f"there is no kernel for dtype {name}; use one of {', '.join(C_TYPES)}")
    return name
