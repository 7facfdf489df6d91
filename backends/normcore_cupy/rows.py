"""Layer and RMS norm on a device: arrays as kernels read them, and programs that are known."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.device import GIVEN, WANTED
from normcore_cupy.known import Known
from normcore_cupy.launcher import FLOATING, Launcher, dtype_name
from normcore_cupy.program import Address, Argument, Placed, Program
from normcore_cupy.row_programs import RowPrograms, has_vectors, is_vectors, width

__all__ = ["RowKernels"]

_STATE_ROWS = 7
_FLOAT64 = np.array((0, 1), WANTED)


class RowKernels:
    """Rows of arrays (N, D), each normalized by its own statistics.

    How a row is cut depends on its length and dtype alone, so that its bits do not depend on what
    stands beside it. Arrays whose rows are not the aligned vectors that kernels read are copied.

    Parameters
    ----------
    launcher : Launcher
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher, self._device = launcher, launcher.device
        self._programs = RowPrograms(launcher.device)
        self._known = Known[Program]()

    def forward(
        self, x: Array, gamma: Array, beta: Array, eps: float, centered: bool, out: Array
    ) -> tuple[Array, Array]:
        """Return the result and the (7, N) states: one launch, or three for long rows."""
        out, _ = self._result(x, out)
        num_rows, num_columns = x.shape
        if 0 in x.shape:
            return out, self._device.zeros((_STATE_ROWS, num_rows), np.float64)
        scale = self._along("gamma", gamma, num_columns)
        shift = self._along("beta", beta, num_columns)
        x, target = self._readable(x), self._writable(out, x)

        def made() -> Program:
            program = Program(self._device, 4)
            states = program.result((_STATE_ROWS, num_rows), np.float64)
            self._programs.forward(
                program, x, target, (Address(0), Address(1)), _argument(scale, 2),
                _argument(shift, 3), states, eps, centered,
            )  # fmt: skip
            return program

        arrays = x, target, scale[0], shift[0]
        (states,) = self._run(made, arrays, ("forward", eps, centered, scale[1], shift[1]))
        return self._written(out, target), states

    def backward(
        self,
        dy: Array,
        x: Array,
        states: Array,
        gamma: Array,
        eps: float,
        centered: bool,
        out: Array,
    ) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta: two launches, or four for long rows.

        Raises
        ------
        ValueError
            If the states are of another number of rows.
        """
        out, _ = self._result(x, out)
        num_rows, num_columns = x.shape
        if states.shape[1] != num_rows:
            raise ValueError(f"the moments are of {states.shape[1]} rows, but x has {num_rows}")
        dy, x = (each[0, ...] for each in self._launcher.of_one_dtype(dy[None, ...], x[None, ...]))
        if 0 in x.shape:
            sums = self._device.zeros((2, num_columns), np.float64)
            return out, sums[0], sums[1]
        scale = self._along("gamma", gamma, num_columns)
        dy, x = self._readable(dy), self._readable(x)
        target = self._writable(out, x)

        def made() -> Program:
            program = Program(self._device, 5)
            both = [program.result((num_columns,), np.float64) for _ in range(2)]
            first, second = (Placed(_FLOAT64, {"data": each}) for each in both)
            self._programs.backward(
                program, dy, x, target, (Address(0), Address(1), Address(2)), _argument(scale, 4),
                Address(3), eps, centered, (first, second),
            )  # fmt: skip
            return program

        arrays = dy, x, target, states, scale[0]
        dgamma, dbeta = self._run(made, arrays, ("backward", eps, centered, scale[1]))
        return self._written(out, target), dgamma, dbeta

    def _run(
        self, made: Callable[[], Program], arrays: tuple[Array, ...], options: Hashable
    ) -> list[Array]:
        """Run the program for arrays that lie so, which is made where it is not known."""
        lie = [
            None if each is None else (each.shape, each.strides, dtype_name(each))
            for each in arrays
        ]
        key = (options, *lie)
        program = self._known.get(key) or self._known.keep(key, made())
        return program([0 if each is None else self._device.pointer(each) for each in arrays])

    # -- arrays as kernels take them -------------------------------------------------------

    def _result(self, x: Array, out: Array) -> tuple[Array, tuple[str, str]]:
        given = None if out is None else out[None, ...]
        target, dtypes = self._launcher.result(x[None, ...], given)
        return (target[0, ...] if out is None else out), dtypes

    def _readable(self, array: Array) -> Array:
        """Return rows as aligned vectors, where rows are whole vectors: a copy if need be."""
        if not is_vectors(array) or self._has_vectors(array, 16):
            return array
        copy = self._device.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def _writable(self, out: Array, x: Array) -> Array:
        """Return ``out``, or an array in its place where its rows are not aligned vectors."""
        vector = width(x) * out.dtype.itemsize
        if not is_vectors(x) or self._has_vectors(out, min(16, vector)):
            return out
        return self._device.empty(out.shape, out.dtype)

    def _has_vectors(self, array: Array, alignment: int) -> bool:
        return has_vectors(array, self._device.pointer(array), alignment)

    def _written(self, out: Array, target: Array) -> Array:
        if target is not out:
            out[...] = target
        return out

    def _along(self, name: str, value: Array, num_columns: int) -> tuple[Array, float]:
        """Return gamma or beta as an aligned vector along a row, or None and a number.

        Raises
        ------
        ValueError
            If it has another length than a row.
        """
        if isinstance(value, int | float | np.generic):
            return None, float(value)
        if tuple(value.shape) not in ((), (num_columns,)):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, but rows have {num_columns} values"
            )
        if isinstance(value, np.ndarray):
            vector = np.array(np.broadcast_to(value, (num_columns,)), np.float64)
            return self._device.asarray(vector), 0.0
        if (
            dtype_name(value) in FLOATING
            and value.strides == (value.dtype.itemsize,)
            and self._device.pointer(value) % 16 == 0
        ):
            return value, 0.0
        return self._launcher.vectors(num_columns, {name: value}).reshape(-1), 0.0


def _argument(along: tuple[Array, float], number: int) -> Argument:
    """Return gamma or beta as kernels take it: a vector by its address, or a number."""
    vector, value = along
    if vector is None:
        return np.array((0, 0, value), GIVEN)
    kind = 1 + FLOATING.index(dtype_name(vector))
    return Placed(np.array((0, kind, 0.0), GIVEN), {"data": Address(number)})
