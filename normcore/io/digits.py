"""Refuses numbers of a table that float64 would round."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

__all__ = ["LostDigits", "check_decimals", "check_integers", "check_wide_floats", "is_exact"]


class LostDigits(ValueError):
    """A column holds a number that would be rounded.

    Parameters
    ----------
    name : str
        The column.
    value : object
    row : int
        Index of the row in the table, counting from 0.

    Attributes
    ----------
    column : str
    """

    def __init__(self, name: str, value: object, row: int) -> None:
        self.column = name
        digits = str(value)
        shown = digits if len(digits) <= 40 else digits[:37] + "..."
        super().__init__(
            f"column {name!r} holds {shown}, first in row {row + 1} of the data, which float64 "
            "would round; round or shift the column before, or leave it out (--columns) and "
            "write .csv, .parquet or .arrow, which keep its digits"
        )


def check_integers(array: np.ndarray, names: Sequence[str], first_row: int) -> None:
    """Refuse integers that are no float64.

    Parameters
    ----------
    array : array of shape (num_rows, len(names))
        Of any dtype; only integers of 64 bits are looked at.
    names : sequence of str
    first_row : int
        Index of the first row in the table.

    Raises
    ------
    LostDigits
        Naming the first one.
    """
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or not array.size:
        return
    if array.max() <= 2**53 and array.min() >= -(2**53):
        return
    magnitude = np.abs(array).astype(np.uint64)
    # All digits from the first to the last that is not zero must fit into 53 bits.
    lowest = np.maximum(magnitude & (~magnitude + np.uint64(1)), np.uint64(1))
    rows, columns = np.nonzero(magnitude // lowest > np.uint64(2**53))
    if rows.size:
        value = array[rows[0], columns[0]]
        raise LostDigits(names[columns[0]], value, first_row + int(rows[0]))


def check_decimals(values: Sequence[Decimal], name: str, first_row: int, where: np.ndarray) -> None:
    """Refuse decimal numbers whose digits float64 does not keep.

    Raises
    ------
    LostDigits
        Naming the first one.
    """
    for value, row in zip(values, where.tolist(), strict=True):
        if not is_exact(value):
            raise LostDigits(name, value, first_row + row)


def is_exact(value: Decimal) -> bool:
    """Whether a number comes back from float64 with all its digits."""
    nearest = float(value)
    if abs(value) > 2**53:
        return value == Decimal(nearest) if np.isfinite(nearest) else False
    return value == Decimal(repr(nearest))


def check_wide_floats(column: np.ndarray, name: str, first_row: int) -> None:
    """Refuse floats of more than 64 bits that are no float64.

    Raises
    ------
    LostDigits
        Naming the first one.
    """
    if column.dtype.kind != "f" or column.dtype.itemsize <= 8:
        return
    lost = np.flatnonzero((column.astype(np.float64) != column) & ~np.isnan(column))
    if lost.size:
        raise LostDigits(name, column[lost[0]], first_row + int(lost[0]))
