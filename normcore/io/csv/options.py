"""How a CSV file is to be read."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

__all__ = ["MISSING", "CsvOptions"]

#: The words that pandas takes for a missing value. Those that are spelt like NaN are numbers too.
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CsvOptions:
    """How a CSV file is to be read.

    Attributes
    ----------
    header : bool or None
        Whether the first line holds the names of the columns, which are else f0, f1, ... None:
        it does, and a line that looks like data is an error.
    delimiter : str or None
        One character, or "auto" to find it out; None takes that of the format.
    quote : str
        The character around cells that hold a delimiter; empty if there is none.
    decimal : str
        The decimal point.
    thousands : str or None
        The character between groups of three digits.
    na_values : tuple of str or None
        Cells of numeric columns that are missing values, besides empty ones; None takes the words
        that pandas does.
    encoding : str
        Of the text, as Python calls it. A byte order mark is left out.
    skip_rows : int
        Lines before the header to leave out.
    comment : str or None
        Lines that begin with it are left out.

    Raises
    ------
    ValueError
        If two of them contradict each other, or there is no such encoding.

    Examples
    --------
    >>> import os, tempfile
    >>> from normcore import io
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "prices.csv")
    ...     with open(path, "w") as file:
    ...         _ = file.write("a;b" + os.linesep + "1,5;2" + os.linesep)
    ...     options = io.CsvOptions(delimiter=";", decimal=",")
    ...     [field.name for field in io.open_table(path, csv=options).fields]
    ['a', 'b']
    """

    header: bool | None = None
    delimiter: str | None = None
    quote: str = '"'
    decimal: str = "."
    thousands: str | None = None
    na_values: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    skip_rows: int = 0
    comment: str | None = None

    def __post_init__(self) -> None:
        delimiter = None if self.delimiter == "auto" else self.delimiter
        pairs = [
            ("quote", self.quote or None, "delimiter", delimiter),
            ("quote", self.quote or None, "decimal", self.decimal),
            ("thousands", self.thousands, "decimal", self.decimal),
            ("thousands", self.thousands, "quote", self.quote or None),
        ]
        for name, value in {"delimiter": delimiter, **{pair[0]: pair[1] for pair in pairs}}.items():
            self._check_character(name, value)
        self._check_character("decimal", self.decimal)
        for name, value, other, taken in pairs:
            if value is not None and value == taken:
                raise ValueError(f"{name} and {other} are both {value!r}")
        if self.comment is not None and (
            not self.comment
            or self.comment[0] in (self.delimiter, self.quote)
            or set(self.comment) & set("\r\n")
        ):
            raise ValueError(f"comment: {self.comment!r} cannot begin lines to leave out")
        if self.skip_rows < 0:
            raise ValueError(f"skip_rows must not be negative, not {self.skip_rows}")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(
                f"there is no encoding {self.encoding!r}; common ones are utf-8, utf-16, latin-1 "
                "and cp1252"
            ) from None

    @staticmethod
    def _check_character(name: str, value: str | None) -> None:
        if value is not None and (
            len(value) != 1 or not value.isascii() or value in "\r\n\0" or value.isalnum()
        ):
            raise ValueError(
                f"{name}: {value!r} must be one ASCII character, not a letter, a digit or the end "
                "of a line"
            )

    @property
    def missing(self) -> tuple[str, ...]:
        """All cells of numeric columns that are missing values."""
        return MISSING if self.na_values is None else ("", *self.na_values)
