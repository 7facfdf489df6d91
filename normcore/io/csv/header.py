"""How a CSV file begins: its delimiter, the names of its columns, whether these are names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from normcore.io.csv.errors import shown, slow_rows
from normcore.io.csv.options import MISSING
from normcore.io.csv.rows import Dialect

__all__ = ["find_delimiter", "is_index", "looks_like_data"]

_DELIMITERS = b",;\t|"
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|nan|NaN|NAN")
_TIME = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T]\d.*)?"
    r"|\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?"
)
_DATA = {
    "numbers": _NUMBER,
    "dates": _TIME,
    "missing values": re.compile("|".join(map(re.escape, filter(None, MISSING)))),
    "truth values": re.compile("true|false", re.IGNORECASE),
}
_INDEX = re.compile(r"Unnamed: 0(\.\d+|_level_\d+)*")


def find_delimiter(sample: bytes, dialect: Dialect, decimal: str) -> bytes:
    """Find out the delimiter of some whole rows.

    Parameters
    ----------
    sample : bytes
    dialect : Dialect
        The quote and what begins comments count.
    decimal : str
        The decimal point, which is no delimiter but where nothing else can be one.

    Raises
    ------
    ValueError
        If several ones would do, or one is there and does not.
    """
    widths: dict[bytes, set[int]] = {}
    for code in _DELIMITERS:
        delimiter = bytes([code])
        rows = slow_rows(sample, dialect._replace(delimiter=delimiter))
        widths[delimiter] = {len(cells) for _, cells in rows}
    found = [each for each, seen in widths.items() if len(seen) == 1 and max(seen) > 1]
    if len(found) > 1:
        found = [each for each in found if each != decimal.encode()]
    if len(found) == 1:
        return found[0]
    if not found and not any(max(seen, default=1) > 1 for seen in widths.values()):
        return b","  # one column
    if found:
        what = f"{' and '.join(repr(each.decode()) for each in found)} would all do"
    else:
        what = "none of comma, semicolon, tab and | gives all rows as many cells"
    raise ValueError(f"the delimiter is not to be found out: {what}; say it (--delimiter)")


def looks_like_data(names: Sequence[str]) -> str | None:
    """Return why names of columns may be a row of data, None if they look like names."""
    for what, pattern in _DATA.items():
        found = next((name for name in names if pattern.fullmatch(name.strip())), None)
        if found is not None:
            return f"{what} stand where the names of the columns should be, as {shown(found)}"
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if first.setdefault(name, number) != number:
            return f"columns {first[name]} and {number} are both named {shown(name)}"
    return None


def is_index(number: int, name: str) -> bool:
    """Whether a column is the index that pandas' to_csv writes."""
    return (number == 0 and not name.strip()) or bool(_INDEX.fullmatch(name))
