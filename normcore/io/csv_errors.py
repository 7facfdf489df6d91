"""Where a CSV file is malformed: a slow second look, taken only once reading has failed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from normcore.io.libraries import pa, pc

__all__ = ["MISSING", "explain", "find_unclosed_quote"]

# A quoted cell of this many characters is taken for a quote that lacks its end.
_LONGEST_CELL = 1 << 24

#: Cells of a numeric column that mean a missing value.
MISSING = ("", "NA", "N/A", "#N/A", "NULL", "null", "n/a", "<NA>", "None")

_HINT = "name the columns to normalize (--columns a,b); all others pass through untouched"


def _is_number(cell: str) -> bool:
    """Whether a cell is a number or missing, as pyarrow's CSV reader sees it."""
    if cell in MISSING:
        return True
    try:
        pc.cast(pa.scalar(cell.strip(" \t")), pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def explain(
    path: Path, delimiter: str, numeric: Sequence[str], has_header: bool = True
) -> str | None:
    """Return what is wrong with a CSV file and on which line, None if nothing is found.

    Parameters
    ----------
    path : Path
    delimiter : str
    numeric : sequence of str
        The columns that must hold numbers.
    has_header : bool
        Whether the first row names the columns; otherwise they are f0, f1, ...
    """
    previous = csv.field_size_limit(_LONGEST_CELL)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            return _explain(path, reader, set(numeric), has_header)
    except UnicodeDecodeError as error:
        line = _line_of_bad_text(path)
        return (
            f"{path}, line {line}: the text is not UTF-8 ({error.reason}); convert the file first, "
            "for instance with iconv"
        )
    finally:
        csv.field_size_limit(previous)


def _explain(
    path: Path, reader: Iterator[list[str]], numeric: set[str], has_header: bool
) -> str | None:
    header: list[str] = []
    watched: list[int] = []
    line = 1
    checked: set[str] = set()
    try:
        for row in reader:
            first, line = line, reader.line_num + 1  # type: ignore[attr-defined]
            if not row:
                continue
            if not header:
                header = row if has_header else [f"f{i}" for i in range(len(row))]
                watched = [i for i, name in enumerate(header) if name in numeric]
                if has_header:
                    continue
            if len(row) != len(header):
                return (
                    f"{path}, line {first}: {len(row)} field{'s' if len(row) != 1 else ''} where "
                    f"the {'header' if has_header else 'first row'} has {len(header)}"
                    + _unclosed(row)
                )
            for index in watched:
                cell = row[index]
                if cell not in checked and not _is_number(cell):
                    shown = cell if len(cell) <= 40 else cell[:37] + "..."
                    return (
                        f"{path}, line {first}: column {header[index]!r} is numeric up to here, "
                        f"but this cell is {shown!r}; correct it, or {_HINT}"
                    )
                if len(checked) < 100_000:
                    checked.add(cell)
    except csv.Error as error:
        if "field larger" in str(error):
            return f"{path}, line {line}: a quoted cell opens here and does not end"
        return f"{path}, line {line}: {error}"
    return None


def _unclosed(row: list[str]) -> str:
    return ": a quote that opens here may lack its end" if any("\n" in cell for cell in row) else ""


def find_unclosed_quote(path: Path, delimiter: str) -> int | None:
    """Return the line of the row whose quoted cell never ends, None if all end."""
    previous = csv.field_size_limit(_LONGEST_CELL)
    line = 1
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                try:
                    next(reader)
                except StopIteration:
                    return None
                except csv.Error as error:
                    if "unexpected end of data" in str(error) or "field larger" in str(error):
                        return line
                line = reader.line_num + 1
    finally:
        csv.field_size_limit(previous)


def _line_of_bad_text(path: Path) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 0
