"""What the columns of a CSV file that are not normalized hold, decided over the whole file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from normcore.io.csv.numbers import NotNumber, Numbers
from normcore.io.digits import is_exact
from normcore.io.libraries import pa, pc

__all__ = ["Kind", "PassingColumns", "Seen"]


class Kind(IntEnum):
    """The type of a column; those of several blocks have the greatest."""

    MISSING = 0
    INTEGER = 1
    FLOAT = 2
    TEXT = 3

    @property
    def type(self) -> pa.DataType:
        """The Arrow type; a column that is missing everywhere is of floats."""
        if self is Kind.TEXT:
            return pa.string()
        return pa.int64() if self is Kind.INTEGER else pa.float64()


class Seen(NamedTuple):
    """What some rows say about columns."""

    kinds: np.ndarray
    #: Whether a column has whole numbers that float64 would round.
    inexact: np.ndarray


class PassingColumns:
    """Looks at all cells of some columns, one block after the other.

    A column is of numbers if every cell is one or missing, and if no number says more as text: a
    leading zero as in 007, a whole number that no type holds exactly, one beyond all floats.

    Parameters
    ----------
    names : sequence of str
    numbers : Numbers
    """

    def __init__(self, names: Sequence[str], numbers: Numbers) -> None:
        self.names = tuple(names)
        self._numbers = numbers
        self._kinds = np.zeros(len(names), np.int64)
        self._inexact = np.zeros(len(names), bool)

    def look(self, cells: pa.Array) -> Seen:
        """Return what cells, column after column, make of the columns; for :meth:`add`."""
        numbers = self._numbers
        missing = numbers.is_missing(cells)
        canonical = numbers.canonical(cells)
        try:
            floats = numbers.to_floats(cells)
            are = np.ones(len(cells), bool)
        except NotNumber:
            are = numbers.are(cells)
            present = pc.if_else(pa.array(are), cells, pa.scalar(None, pa.string()))
            floats = numbers.to_floats(present)
        text = ~are | (_matches(canonical, r"^[-+]?0\d") & ~missing)
        beyond = np.flatnonzero(np.isinf(floats))
        text[beyond] |= _matches(canonical.take(pa.array(beyond)), r"\d")
        whole = np.flatnonzero(floats == np.floor(floats))
        integers = np.zeros(len(cells), bool)
        spelt = canonical.take(pa.array(whole))
        integers[whole] = _matches(spelt, r"^[-+]?\d+$")
        inexact = np.zeros(len(cells), bool)
        for place in whole[np.abs(floats[whole]) >= 2.0**53].tolist():
            number = canonical[place].as_py()
            if re.fullmatch(r"[-+]?\d+(\.0*)?", number):
                value = Decimal(number)
                inexact[place] = not is_exact(value)
                # Out of the range of integers, it is a float if it is exact.
                integers[place] &= -(2**63) <= value < 2**63

        def column(cells: np.ndarray) -> np.ndarray:
            return np.asarray(cells.reshape(len(self.names), -1).any(axis=1))

        kinds = np.where(column(integers & ~missing), Kind.INTEGER, Kind.MISSING)
        kinds[column(are & ~missing & ~integers)] = Kind.FLOAT
        kinds[column(text)] = Kind.TEXT
        return Seen(kinds, column(inexact))

    def add(self, seen: Seen) -> None:
        """Count in what :meth:`look` returned."""
        self._kinds = np.maximum(self._kinds, seen.kinds)
        self._inexact |= seen.inexact

    def result(self) -> dict[str, Kind]:
        """Return the kinds of the columns, once all blocks were added."""
        kinds = np.where((self._kinds == Kind.FLOAT) & self._inexact, Kind.TEXT, self._kinds)
        return {name: Kind(kind) for name, kind in zip(self.names, kinds.tolist(), strict=True)}


def _matches(cells: pa.Array, pattern: str) -> np.ndarray:
    found = pc.fill_null(pc.match_substring_regex(cells, pattern), False)
    return np.array(found.to_numpy(zero_copy_only=False))
