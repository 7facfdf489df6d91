"""Numbers in the cells of a CSV file."""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal

import numpy as np

from normcore.io.csv.options import CsvOptions
from normcore.io.digits import is_exact
from normcore.io.libraries import pa, pc

__all__ = ["NotNumber", "Numbers"]


class NotNumber(ValueError):
    """A cell is not a number; the argument is its index."""


class Numbers:
    """How the numbers of a file are spelt.

    Parameters
    ----------
    options : CsvOptions
    """

    def __init__(self, options: CsvOptions) -> None:
        self.delimiter = options.delimiter
        self._decimal, self._thousands = options.decimal, options.thousands
        point, digits = re.escape(options.decimal), r"\d+"
        if options.thousands is not None:
            digits = rf"(?:\d{{1,3}}(?:{re.escape(options.thousands)}\d{{3}})+|\d+)"
        self._pattern = (
            rf"^[ \t]*[-+]?(?:(?:{digits}(?:{point}\d*)?|{point}\d+)(?:[eE][-+]?\d+)?"
            r"|(?i:nan|inf|infinity))[ \t]*$"
        )
        self._spelt_as_in_arrow = options.decimal == "." and options.thousands is None
        words = pa.array(options.missing, pa.string())
        numbers = self._are_spelt_so(words)
        self._missing = words.filter(pa.array(~numbers))
        codes = _floats(self.canonical(words.filter(pa.array(numbers))))
        #: Numbers that stand for missing values, as -999, however a cell spells them.
        self._codes = codes[~np.isnan(codes)]

    def is_missing(self, cells: pa.Array) -> np.ndarray:
        """Return which cells are missing values; those that are spelt like NaN are not."""
        result = _numpy(pc.or_kleene(pc.is_null(cells), pc.is_in(cells, self._missing)))
        if self._codes.size:
            numbers = self._are_spelt_so(cells)
            values = _floats(self.canonical(cells.filter(pa.array(numbers))))
            result[numbers] = np.isin(values, self._codes)
        return result

    def _are_spelt_so(self, cells: pa.Array) -> np.ndarray:
        return _numpy(pc.fill_null(pc.match_substring_regex(cells, self._pattern), False))

    def are(self, cells: pa.Array) -> np.ndarray:
        """Return which cells are numbers or missing."""
        numbers = self._are_spelt_so(cells)
        if not numbers.all():
            where = np.flatnonzero(~numbers)
            numbers[where] = self.is_missing(cells.take(pa.array(where)))
        return numbers

    def to_floats(self, cells: pa.Array) -> np.ndarray:
        """Return the numbers, NaN for missing ones.

        Raises
        ------
        NotNumber
            If a cell is neither a number nor missing.
        """
        values = self._to_floats(cells)
        if self._codes.size:
            values = np.where(np.isin(values, self._codes), np.nan, values)
        return values

    def _to_floats(self, cells: pa.Array) -> np.ndarray:
        present = cells
        if self._spelt_as_in_arrow:
            with suppress(pa.ArrowInvalid):
                return _floats(cells)
        if cells.null_count or _any(pc.is_in(cells, self._missing)):
            missing = pc.is_in(cells, self._missing)
            present = pc.if_else(missing, pa.scalar(None, pa.string()), cells)
        # A decimal comma without a point anywhere says that all points are decimal ones.
        if self._thousands is None and (
            self._decimal == "." or not _any(pc.match_substring(present, "."))
        ):
            with suppress(pa.ArrowInvalid):
                return _floats(self.canonical(present))
        numbers = self.are(present)
        if not numbers.all():
            raise NotNumber(int(np.argmin(numbers)))
        return _floats(self.canonical(present))

    def lost(self, cells: pa.Array) -> tuple[int, str] | None:
        """Return index and text of the first whole number that float64 would round."""
        texts = self.canonical(cells)
        whole = _numpy(pc.match_substring_regex(texts, r"^[-+]?\d{16,}(\.0*)?$"))
        for place in np.flatnonzero(whole).tolist():
            text = texts[place].as_py()
            if not is_exact(Decimal(text)):
                return place, text
        return None

    def to_integers(self, cells: pa.Array) -> pa.Array:
        """Return cells that are whole numbers or missing as such."""
        texts = pc.utf8_ltrim(self.canonical(cells), "+")
        missing = pa.array(self.is_missing(cells))
        return pc.cast(pc.if_else(missing, pa.scalar(None, pa.string()), texts), pa.int64())

    def canonical(self, cells: pa.Array) -> pa.Array:
        """Return numbers as pyarrow reads them."""
        cells = pc.utf8_trim(cells, " \t")
        if self._thousands is not None:
            cells = pc.replace_substring(cells, self._thousands, "")
        if self._decimal != ".":
            cells = pc.replace_substring(cells, self._decimal, ".")
        return cells


def _floats(cells: pa.Array) -> np.ndarray:
    return np.asarray(pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False))


def _any(mask: pa.BooleanArray) -> bool:
    return bool(pc.any(mask).as_py())


def _numpy(mask: pa.BooleanArray) -> np.ndarray:
    return np.array(mask.to_numpy(zero_copy_only=False))
