"""How databases spell names, and numbers of 64 bits."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["DIALECTS", "Dialect"]


class Dialect(NamedTuple):
    """What differs between databases in a select list of arithmetic."""

    #: Encloses a name, in which it is doubled.
    quote: str
    double: str
    #: The type of 32 bits, "" where there is none.
    real: str
    #: Functions of the larger and of the smaller of two numbers.
    larger: str
    smaller: str
    #: Whether a number with an exponent is one of 64 bits; others are decimals.
    has_literals: bool
    #: Whether there is NaN: a number that compares as larger than all others, and equals itself.
    has_nan: bool
    #: Whether names that differ in case alone are the same column.
    folds_case: bool
    #: Bytes of the longest name, 0 where there is no limit; of longer ones the rest is dropped.
    longest: int = 0

    def name(self, name: object) -> str:
        """Return a name in quotes, so that nothing in it is taken for SQL.

        Raises
        ------
        TypeError
            If it is no string.
        ValueError
            If there is no way to write it.
        """
        if not isinstance(name, str):
            raise TypeError(f"a name in SQL is a string, not {name!r}")
        if not name or "\0" in name:
            raise ValueError(f"{name!r} cannot be a name in SQL: give others by columns= or table=")
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name!r} is no Unicode text, as names in SQL are") from None
        if self.longest and size > self.longest:
            raise ValueError(
                f"the name {name[:40]!r}... has {size} bytes, of which the database keeps "
                f"{self.longest}: give shorter ones by columns= or table="
            )
        return f"{self.quote}{name.replace(self.quote, self.quote * 2)}{self.quote}"

    def number(self, value: float) -> str:
        """Return a number of 64 bits that reads back as it is."""
        if math.isfinite(value) and self.has_literals:
            text = repr(value)
            return text if "e" in text else f"{text}e0"
        if math.isnan(value):
            return self.cast("'NaN'") if self.has_nan else "NULL"
        if math.isinf(value):
            return self.cast("'Infinity'" if value > 0 else "'-Infinity'")
        return self.cast(f"'{value!r}'")

    def cast(self, expression: str) -> str:
        """Return an expression as a number of 64 bits."""
        return f"CAST({expression} AS {self.double})"


#: The databases that are known, by name.
DIALECTS = {
    "duckdb": Dialect(
        '"', "DOUBLE", "REAL", "GREATEST", "LEAST",
        has_literals=True, has_nan=True, folds_case=True,
    ),
    "postgresql": Dialect(
        '"', "DOUBLE PRECISION", "REAL", "GREATEST", "LEAST",
        has_literals=False, has_nan=True, folds_case=False, longest=63,
    ),
    # In double quotes a name that is no column would be text; in backquotes it is an error.
    "sqlite": Dialect(
        "`", "REAL", "", "max", "min",
        has_literals=True, has_nan=False, folds_case=True,
    ),
}  # fmt: skip
