"""Layer and RMS norm on a device: how rows are cut, and the launches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.device import Scalar, view
from normcore_cupy.launcher import Launcher, dtype_name

__all__ = ["RowKernels"]

# Of rows.cuh and rows_backward.cuh: threads of a row, and values that one of them has of a part.
_THREADS, _PART_HELD, _PART_PAIRS = 256, 16, 8
_SUM_ROWS = 64
_WARP = 32
_BLOCK = 128  # threads, where a row does not take more
_SHORT = 8  # values of one thread of a warp, at least
_RANGES = 264  # of rows whose columns are added up apart: two blocks for each processor of a H200
_STATE_ROWS, _PART_ROWS = 7, 5

_Launch = tuple[tuple[int, int, int], tuple[int, int, int]]


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

    def forward(
        self, x: Array, gamma: Array, beta: Array, eps: float, centered: bool, out: Array
    ) -> tuple[Array, Array]:
        """Return the result and the (7, N) states: one launch, or three for long rows."""
        out, dtypes = self._result(x, out)
        num_rows, num_columns = x.shape
        states = self._device.empty((_STATE_ROWS, num_rows), np.float64)
        if 0 in x.shape:
            states[...] = 0.0
            return out, states
        scaling = (
            *self._along("gamma", gamma, num_columns), *self._along("beta", beta, num_columns),
            np.float64(eps), np.int32(centered),
        )  # fmt: skip
        x, target = self._readable(x), self._writable(out, x)
        views = view(self._device, x), view(self._device, target)
        vectors = _is_vectors(x)
        held = 32 if vectors and x.dtype.itemsize < 8 else 16
        if num_columns <= held * _THREADS:
            name = "normalize_rows" if vectors else "normalize_odd_rows"
            launch = _of_rows(num_rows, _threads(num_columns, held))
            self._launcher.run(name, dtypes, *launch, *views, *scaling, states)
        else:
            cut = _Parts.of(num_columns, _PART_HELD)
            launch = (num_rows * cut.number, 1, 1), (_THREADS, 1, 1)
            parts = self._device.empty((num_rows, cut.number, _PART_ROWS), np.float64)
            self._launcher.run(
                "observe_row_parts", dtypes, *launch, views[0], *cut.arguments, parts
            )
            self._launcher.run(
                "merge_row_parts", dtypes, *_of_rows(num_rows, _threads(cut.number, _SHORT)),
                parts, *cut.arguments, np.int64(num_columns), np.int64(num_rows), states,
            )  # fmt: skip
            self._launcher.run(
                "map_row_parts", dtypes, *launch, *views, *scaling, states, *cut.arguments
            )
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
        dtypes = dtype_name(x), dtype_name(out)
        weights, value = self._along("gamma", gamma, num_columns)
        if weights is None:
            weights = self._device.asarray(np.full(num_columns, value))
        dy, x = self._readable(dy), self._readable(x)
        target = self._writable(out, x)
        dy_view, x_view, out_view = (view(self._device, each) for each in (dy, x, target))
        scaling = weights, states, np.float64(eps), np.int32(centered)
        vectors = _is_vectors(x)
        pairs = 16 if vectors and x.dtype.itemsize < 8 else 8
        if num_columns <= 2 * _THREADS * pairs:
            name = "normalize_rows_backward" if vectors else "normalize_odd_rows_backward"
            threads = _threads(num_columns, pairs)
            _, block = _of_rows(num_rows, threads)
            per_range, num_ranges = _ranges(num_rows, block[1], _RANGES)
            sums = self._column_sums(num_ranges, per_range // block[1], num_columns)
            self._launcher.run(
                name, dtypes, (num_ranges, 1, 1), block, dy_view, x_view, out_view, *scaling,
                np.int32(per_range), *sums,
            )  # fmt: skip
        else:
            cut = _Parts.of(num_columns, _PART_PAIRS)
            parts = self._device.empty((cut.number, 2 * num_rows), np.float64)
            block = _THREADS, 1, 1
            self._launcher.run(
                "sum_row_parts", dtypes, (num_rows * cut.number, 1, 1), block, dy_view, x_view,
                *scaling, *cut.arguments, parts,
            )  # fmt: skip
            of_rows = self._merged(dtypes, parts, None)
            per_range, num_ranges = _ranges(num_rows, 1, max(1, 2 * _RANGES // cut.number))
            sums = self._column_sums(num_ranges, per_range, num_columns)
            self._launcher.run(
                "differentiate_row_parts", dtypes, (num_ranges * cut.number, 1, 1), block, dy_view,
                x_view, out_view, *scaling, of_rows, *cut.arguments, np.int32(per_range), *sums,
            )  # fmt: skip
        gradients = self._merged(dtypes, *sums)
        return self._written(out, target), gradients[:num_columns], gradients[num_columns:]

    def _column_sums(self, num_ranges: int, steps: int, num_columns: int) -> tuple[Array, Array]:
        """Return arrays for dgamma and dbeta of ranges, and for what they lose where they do."""
        shape = num_ranges, 2 * num_columns
        lows = self._device.empty(shape, np.float64) if steps > _SUM_ROWS else None
        return self._device.empty(shape, np.float64), lows

    def _merged(self, dtypes: tuple[str, str], highs: Array, lows: Array) -> Array:
        """Sum (ranges, columns) over the ranges."""
        num_ranges, num_columns = highs.shape
        out = self._device.empty((num_columns,), np.float64)
        width = 16
        self._launcher.run(
            "merge_row_sums", dtypes, (-(-num_columns // width), 1, 1), (width, 16, 1),
            highs, lows, np.int64(num_ranges), np.int64(num_columns), out,
        )  # fmt: skip
        return out

    # -- arrays as kernels take them -------------------------------------------------------

    def _result(self, x: Array, out: Array) -> tuple[Array, tuple[str, str]]:
        given = None if out is None else out[None, ...]
        target, dtypes = self._launcher.result(x[None, ...], given)
        return (target[0, ...] if out is None else out), dtypes

    def _readable(self, array: Array) -> Array:
        """Return rows as aligned vectors, where rows are whole vectors: a copy if need be."""
        if not _is_vectors(array) or self._has_vectors(array, 16):
            return array
        copy = self._device.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def _writable(self, out: Array, x: Array) -> Array:
        """Return ``out``, or an array in its place where its rows are not aligned vectors."""
        vector = _width(x) * out.dtype.itemsize
        if not _is_vectors(x) or self._has_vectors(out, min(16, vector)):
            return out
        return self._device.empty(out.shape, out.dtype)

    def _has_vectors(self, array: Array, alignment: int) -> bool:
        between, within = array.strides
        return (
            (within == array.dtype.itemsize or array.shape[1] == 1)
            and (between % alignment == 0 or array.shape[0] == 1)
            and self._device.pointer(array) % alignment == 0
        )

    def _written(self, out: Array, target: Array) -> Array:
        if target is not out:
            out[...] = target
        return out

    def _along(self, name: str, value: Array, num_columns: int) -> tuple[Array, Scalar]:
        """Return gamma or beta as an aligned vector along a row, or None and a number.

        Raises
        ------
        ValueError
            If it has another length than a row.
        """
        if isinstance(value, int | float | np.generic):
            return None, np.float64(value)
        if tuple(value.shape) not in ((), (num_columns,)):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, but rows have {num_columns} values"
            )
        nothing = np.float64(0.0)
        if isinstance(value, np.ndarray):
            vector = np.array(np.broadcast_to(value, (num_columns,)), np.float64)
            return self._device.asarray(vector), nothing
        if (
            dtype_name(value) == "float64"
            and value.strides == (8,)
            and self._device.pointer(value) % 16 == 0
        ):
            return value, nothing
        return self._launcher.vectors(num_columns, {name: value}).reshape(-1), nothing


class _Parts(NamedTuple):
    """How a long row is cut."""

    length: int
    number: int

    @classmethod
    def of(cls, num_columns: int, held: int) -> _Parts:
        """Cut into parts of much the same length, in whole vectors."""
        number = -(-num_columns // (held * _THREADS))
        length = -(-num_columns // number)
        length = -(-length // _SHORT) * _SHORT
        return cls(length, -(-num_columns // length))

    @property
    def arguments(self) -> tuple[Scalar, Scalar]:
        """What kernels take."""
        return np.int64(self.number), np.int32(self.length)


def _width(x: Array) -> int:
    """Return how many values a vector of 16 bytes has, 8 at most."""
    return min(16 // x.dtype.itemsize, 8)


def _is_vectors(x: Array) -> bool:
    """Whether rows are a whole number of vectors."""
    return bool(x.shape[1] % _width(x) == 0)


def _threads(number: int, held: int) -> int:
    """Return how many threads share so many values of which each has ``held`` at most."""
    threads = min(_WARP, _power_of_two(-(-number // _SHORT)))
    while threads * held < number and threads < 2 * _THREADS:
        threads *= 2
    return threads


def _of_rows(num_rows: int, threads: int) -> _Launch:
    """Return the grid and block that give each row some threads: of a warp, or a whole block."""
    rows = _BLOCK // threads if threads <= _WARP else 1
    return (-(-num_rows // rows), 1, 1), (threads, rows, 1)


def _ranges(num_rows: int, at_a_time: int, most: int) -> tuple[int, int]:
    """Return the rows of a range, a multiple of ``at_a_time``, and the number of ranges."""
    steps = -(-num_rows // at_a_time)
    per_range = -(-steps // min(most, steps)) * at_a_time
    return per_range, -(-num_rows // per_range)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
