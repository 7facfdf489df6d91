"""What threads make of the cells of a CSV file: numbers, and what is left as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from normcore.io.csv.batch import CsvBatch
from normcore.io.csv.columns import column_cells, truth_as_numbers
from normcore.io.csv.kinds import Kind, PassingColumns, Seen
from normcore.io.csv.numbers import NotNumber, Numbers
from normcore.io.csv.stream import BadCell
from normcore.io.digits import LostDigits
from normcore.io.libraries import pa, pc

__all__ = ["CsvWork", "Rows"]


class Rows(NamedTuple):
    """What a thread makes of some rows."""

    num_rows: int
    values: np.ndarray
    missing: np.ndarray | None
    cells: pa.StringArray
    quoted: bool
    #: Column, cell and row of the first number that float64 would round.
    lost: tuple[str, str, int] | None
    #: What the columns say that pass through, if they are watched.
    seen: Seen | None


class CsvWork:
    """Makes numbers of cells; called from several threads.

    Parameters
    ----------
    names : tuple of str
        All columns.
    numeric : sequence of str
        Those of numbers.
    others : bool
        Whether the others are wanted.
    truth : set of str
        Those that hold truth values.
    numbers : Numbers
    columns : PassingColumns or None
        Watches columns that pass through.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        numeric: Sequence[str],
        others: bool,
        truth: set[str],
        numbers: Numbers,
        columns: PassingColumns | None,
    ) -> None:
        place = {name: index for index, name in enumerate(names)}
        self._width = len(names)
        self._numeric = tuple(numeric)
        self._positions = np.array([place[name] for name in numeric], np.intp)
        self._others = np.setdiff1d(np.arange(self._width if others else 0), self._positions)
        self._truth = np.array([name in truth for name in numeric], bool)
        self._names = names if others else self._numeric
        self._kept = self._positions if others else np.arange(len(numeric))
        self._columns = columns
        self._watched = np.array([place[name] for name in columns.names] if columns else [], int)
        self._numbers = numbers

    def __call__(self, cells: pa.StringArray, quoted: bool) -> Rows:
        """Make numbers of cells that lie row after row.

        Raises
        ------
        BadCell
            If a cell is no number and should be one.
        """
        shape = len(cells) // self._width, len(self._numeric)
        chosen = None
        try:
            # Without the cells of the other columns it is quicker to read all than to choose.
            if 2 * shape[1] < self._width or self._truth.any():
                chosen = self._chosen(cells)
                values = self._numbers.to_floats(chosen).reshape(shape)
            else:
                values = self._numbers.to_floats(self._without_others(cells))
                values = values.reshape(shape[0], self._width)
                values = _columns(values, self._positions)
        except NotNumber:
            raise self._bad_cell(self._chosen(cells)) from None
        missing: np.ndarray | None = None
        lost = None
        if not _all_small(values):
            nan = np.flatnonzero(np.isnan(values))
            large = np.flatnonzero(np.abs(values) >= 2.0**53)
            chosen = self._chosen(cells) if chosen is None else chosen
            missing = np.zeros(shape, bool)
            missing.flat[nan] = self._numbers.is_missing(chosen.take(pa.array(nan)))
            found = self._numbers.lost(chosen.take(pa.array(large)))
            if found is not None:
                row, column = divmod(int(large[found[0]]), shape[1])
                lost = self._numeric[column], found[1], row
        seen = None
        if self._columns is not None and self._watched.size:
            seen = self._columns.look(column_cells(cells, self._width, self._watched))
        kept = _rows_of(cells, self._width, self._others)
        return Rows(shape[0], values, missing, kept, quoted, lost, seen)

    def batch(self, first_row: int, rows: Rows, kinds: Mapping[str, Kind]) -> CsvBatch:
        """Return rows as a batch."""
        lost = rows.lost
        return CsvBatch(
            first_row,
            rows.num_rows,
            self._names,
            self._numeric,
            self._kept,
            rows.values,
            rows.missing,
            rows.cells,
            None if rows.quoted else self._numbers.delimiter,
            None if lost is None else LostDigits(lost[0], lost[1], first_row + lost[2]),
            self._numbers,
            kinds,
        )

    def _chosen(self, cells: pa.StringArray) -> pa.StringArray:
        """Return the cells of numeric columns, row after row, with 1 and 0 for truth values."""
        chosen = _rows_of(cells, self._width, self._positions)
        if self._truth.any():
            mask = np.tile(self._truth, len(chosen) // len(self._truth))
            chosen = pc.if_else(pa.array(mask), truth_as_numbers(chosen), chosen)
        return chosen

    def _without_others(self, cells: pa.StringArray) -> pa.StringArray:
        if len(self._positions) == self._width:
            return cells
        keep = np.zeros((len(cells) // self._width, self._width), bool)
        keep[:, self._positions] = True
        if cells.null_count:
            keep &= cells.is_valid().to_numpy(zero_copy_only=False).reshape(keep.shape)
        valid, (_, offsets, text) = np.packbits(keep, bitorder="little"), cells.buffers()
        return pa.StringArray.from_buffers(len(cells), offsets, text, pa.py_buffer(valid))

    def _bad_cell(self, chosen: pa.StringArray) -> BadCell:
        place = int(np.argmin(self._numbers.are(chosen)))
        row, column = divmod(place, len(self._numeric))
        return BadCell(row, self._numeric[column], chosen[place].as_py())


def _all_small(values: np.ndarray) -> bool:
    """Whether no value is missing or so large that it may have been rounded to a whole number."""
    return not values.size or bool(values.max() < 2.0**53 and values.min() > -(2.0**53))


def _columns(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    if len(positions) == values.shape[1] and np.array_equal(positions, np.arange(len(positions))):
        return values
    if np.array_equal(positions, np.arange(positions[0], positions[-1] + 1)):
        return np.ascontiguousarray(values[:, positions[0] : positions[-1] + 1])
    return values[:, positions]


def _rows_of(cells: pa.StringArray, width: int, positions: np.ndarray) -> pa.StringArray:
    """Return the cells of some of ``width`` columns, row after row."""
    if len(positions) == width and np.array_equal(positions, np.arange(width)):
        return cells
    rows = np.arange(len(cells) // width, dtype=np.int32)[:, None] * np.int32(width)
    return cells.take(pa.array((rows + positions.astype(np.int32)).ravel()))
