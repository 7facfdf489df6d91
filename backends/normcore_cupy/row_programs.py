"""What layer and RMS norm launch: how rows are cut follows from their length and dtype alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.device import WANTED, Device, Scalar, placed
from normcore_cupy.launcher import dtype_name
from normcore_cupy.program import Address, Argument, Placed, Program

__all__ = ["RowPrograms", "has_vectors", "is_vectors", "width"]

# Of rows.cuh and rows_backward.cuh: threads of a row, and values that one of them has of a part.
_THREADS, _PART_HELD, _PART_PAIRS = 256, 16, 8
_SUM_ROWS = 64
_WARP = 32
_BLOCK = 128  # threads, where a row does not take more
_SHORT = 8  # values of one thread of a warp, at least
_RANGES = 264  # of rows whose columns are added up apart: two blocks for each processor of a H200
_PART_ROWS = 5
_FLOAT64 = np.array((0, 1), WANTED)

_Launch = tuple[tuple[int, int, int], tuple[int, int, int]]


class RowPrograms:
    """Adds the launches over rows (N, D) to programs.

    Arrays show how those of calls lie, and go with their addresses. Where rows are whole vectors,
    theirs and those of gamma and beta are aligned.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    def forward(
        self,
        program: Program,
        x: Array,
        out: Array,
        at: tuple[Address, Address],
        gamma: Argument,
        beta: Argument,
        states: Address,
        eps: float,
        centered: bool,
    ) -> None:
        """One launch, or three for long rows."""
        num_rows, num_columns = x.shape
        dtypes = dtype_name(x), dtype_name(out)
        views = _placed(x, at[0]), _placed(out, at[1])
        scaling = gamma, beta, np.float64(eps), np.int32(centered)
        vectors = is_vectors(x)
        held = 32 if vectors and x.dtype.itemsize < 8 else 16
        if num_columns <= held * _THREADS:
            name = "normalize_rows" if vectors else "normalize_odd_rows"
            launch = _of_rows(num_rows, _threads(num_columns, held))
            program.launch(name, dtypes, *launch, *views, *scaling, states)
            return
        cut = _Parts.of(num_columns, _PART_HELD)
        launch = (num_rows * cut.number, 1, 1), (_THREADS, 1, 1)
        parts = program.scratch((num_rows, cut.number, _PART_ROWS))
        program.launch("observe_row_parts", dtypes, *launch, views[0], *cut.arguments, parts)
        program.launch(
            "merge_row_parts", dtypes, *_of_rows(num_rows, _threads(cut.number, _SHORT)),
            parts, *cut.arguments, np.int64(num_columns), np.int64(num_rows), states,
        )  # fmt: skip
        program.launch("map_row_parts", dtypes, *launch, *views, *scaling, states, *cut.arguments)

    def backward(
        self,
        program: Program,
        dy: Array,
        x: Array,
        out: Array,
        at: tuple[Address, Address, Address],
        gamma: Argument,
        states: Address,
        eps: float,
        centered: bool,
        gradients: tuple[Argument, Argument],
    ) -> None:
        """Two launches, or four for long rows."""
        num_rows, num_columns = x.shape
        dtypes = dtype_name(x), dtype_name(out)
        views = [_placed(*each) for each in zip((dy, x, out), at, strict=True)]
        scaling = gamma, states, np.float64(eps), np.int32(centered)
        vectors = is_vectors(x)
        pairs = 16 if vectors and x.dtype.itemsize < 8 else 8
        if num_columns <= 2 * _THREADS * pairs:
            name = "normalize_rows_backward" if vectors else "normalize_odd_rows_backward"
            _, block = _of_rows(num_rows, _threads(num_columns, pairs))
            per_range, num_ranges = _ranges(num_rows, block[1], _RANGES)
            sums = _column_sums(program, num_ranges, per_range // block[1], num_columns)
            program.launch(
                name, dtypes, (num_ranges, 1, 1), block, *views, *scaling, np.int32(per_range),
                *sums,
            )  # fmt: skip
        else:
            cut = _Parts.of(num_columns, _PART_PAIRS)
            block = _THREADS, 1, 1
            parts = program.scratch((cut.number, 2 * num_rows))
            program.launch(
                "sum_row_parts", dtypes, (num_rows * cut.number, 1, 1), block, *views[:2],
                *scaling, *cut.arguments, parts,
            )  # fmt: skip
            of_rows = program.scratch((num_rows,)), program.scratch((num_rows,))
            wanted = Placed(_FLOAT64, {"data": of_rows[0]}), Placed(_FLOAT64, {"data": of_rows[1]})
            _merge(program, dtypes, (parts, None), cut.number, num_rows, wanted)
            per_range, num_ranges = _ranges(num_rows, 1, max(1, 2 * _RANGES // cut.number))
            sums = _column_sums(program, num_ranges, per_range, num_columns)
            program.launch(
                "differentiate_row_parts", dtypes, (num_ranges * cut.number, 1, 1), block, *views,
                *scaling, *of_rows, *cut.arguments, np.int32(per_range), *sums,
            )  # fmt: skip
        _merge(program, dtypes, sums, num_ranges, num_columns, gradients)


def _column_sums(
    program: Program, num_ranges: int, steps: int, num_columns: int
) -> tuple[Address, Address | None]:
    """Return arrays for dgamma and dbeta of ranges, and for what they lose where they do."""
    shape = num_ranges, 2 * num_columns
    lows = program.scratch(shape) if steps > _SUM_ROWS else None
    return program.scratch(shape), lows


def _merge(
    program: Program,
    dtypes: tuple[str, str],
    sums: tuple[Address, Address | None],
    num_ranges: int,
    num_columns: int,
    wanted: tuple[Argument, Argument],
) -> None:
    """Sum (ranges, 2, columns) over the ranges, into two vectors."""
    width = 16
    program.launch(
        "merge_row_sums", dtypes, (-(-2 * num_columns // width), 1, 1), (width, 16, 1),
        *sums, np.int64(num_ranges), np.int64(num_columns), *wanted,
    )  # fmt: skip


def _placed(array: Array, address: Address) -> Placed:
    view = placed(array.shape, array.strides, array.dtype.itemsize, (0, 1))
    return Placed(view, {"data": address})


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


def width(x: Array) -> int:
    """Return how many values a vector of 16 bytes has, 8 at most."""
    return min(16 // x.dtype.itemsize, 8)


def is_vectors(x: Array) -> bool:
    """Whether rows are a whole number of vectors."""
    return bool(x.shape[1] % width(x) == 0)


def has_vectors(array: Array, address: int, alignment: int) -> bool:
    """Whether rows at an address are aligned, without gaps inside."""
    between, within = array.strides
    return (
        (within == array.dtype.itemsize or array.shape[1] == 1)
        and (between % alignment == 0 or array.shape[0] == 1)
        and address % alignment == 0
    )


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
