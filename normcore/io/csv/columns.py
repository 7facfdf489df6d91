"""What the first rows of a CSV file say about its columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from normcore.io.csv.numbers import NotNumber, Numbers
from normcore.io.libraries import pa, pc

__all__ = ["TRUTH", "ColumnGuess", "column_cells", "guess_columns", "truth_as_numbers"]

#: The words for truth values, as pandas reads and writes them.
TRUTH = {"True": 1, "TRUE": 1, "true": 1, "False": 0, "FALSE": 0, "false": 0}

_SAMPLE_ROWS = 32


class ColumnGuess(NamedTuple):
    """Arrays of one value for each column."""

    #: Whether all cells are numbers or missing.
    numeric: np.ndarray
    #: Whether all cells are missing.
    empty: np.ndarray
    #: Whether all cells are truth values or missing.
    truth: np.ndarray
    #: The row of the first cell that is neither a number nor missing.
    text_row: np.ndarray


def column_cells(cells: pa.Array, width: int, positions: np.ndarray) -> pa.Array:
    """Return the cells of some of ``width`` columns, column after column."""
    rows = np.arange(len(cells) // width) * width
    return cells.take(pa.array((positions[:, None] + rows).ravel()))


def guess_columns(cells: pa.Array, width: int, numbers: Numbers) -> ColumnGuess:
    """Look at the cells of some rows, row after row."""
    rows = len(cells) // width
    sample = numbers.are(cells.slice(0, _SAMPLE_ROWS * width)).reshape(-1, width)
    numeric = np.asarray(sample.all(axis=0))
    text_row = np.argmin(sample, axis=0) if len(sample) else np.zeros(width, int)
    empty = np.zeros(width, bool)
    likely = np.flatnonzero(numeric)
    chosen = column_cells(cells, width, likely)
    try:
        floats = numbers.to_floats(chosen).reshape(len(likely), rows)
    except NotNumber:
        are = numbers.are(chosen).reshape(len(likely), rows)
        text_row[likely] = np.argmin(are, axis=1)
        numeric[likely] = are.all(axis=1)
        likely = np.flatnonzero(numeric)
        floats = numbers.to_floats(column_cells(cells, width, likely)).reshape(len(likely), rows)
    nan = likely[np.isnan(floats).all(axis=1)]
    missing = numbers.is_missing(column_cells(cells, width, nan)).reshape(len(nan), rows)
    empty[nan] = missing.all(axis=1)
    truth = np.zeros(width, bool)
    words = np.flatnonzero(~numeric)
    if rows:
        first = cells.take(pa.array(text_row[words] * width + words))
        words = words[_is_truth(first)]
    texts = column_cells(cells, width, words)
    are = (_is_truth(texts) | numbers.is_missing(texts)).reshape(len(words), rows)
    truth[words] = are.all(axis=1)
    return ColumnGuess(numeric, empty, truth, text_row)


def truth_as_numbers(cells: pa.Array) -> pa.Array:
    """Return cells with the digits 1 and 0 for truth values."""
    index = pc.index_in(cells, pa.array(list(TRUTH)))
    digits = pa.array([str(value) for value in TRUTH.values()]).take(index)
    return pc.coalesce(digits, cells)


def _is_truth(cells: pa.Array) -> np.ndarray:
    return np.array(pc.is_in(cells, pa.array(list(TRUTH))).to_numpy(zero_copy_only=False))
