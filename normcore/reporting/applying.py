"""How what a report recommends is applied: an estimator, lines of Python, command lines."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator, Sequence
from csv import QUOTE_ALL, QUOTE_MINIMAL, writer
from pathlib import Path

from normcore.io.csv.options import CsvOptions
from normcore.reporting.column import ColumnReport
from normcore.reporting.column_scaler import ColumnScaler
from normcore.reporting.maps import new_scaler

__all__ = ["by_scaler", "column_scaler", "command_lines", "python_lines"]

_ORDER = ("standard", "minmax", "maxabs", "robust", "power", "quantile")

# How what was written of a file differs from it.
_OF_THE_FIRST = ("encoding", "skip_rows")


def by_scaler(columns: Sequence[ColumnReport]) -> dict[str, list[int]]:
    """Return for each scaler that is recommended where its columns are."""
    found: dict[str, list[int]] = {}
    for number, column in enumerate(columns):
        if column.recommendation.scaler is not None:
            found.setdefault(column.recommendation.scaler, []).append(number)
    return {name: found[name] for name in _ORDER if name in found}


def column_scaler(columns: Sequence[ColumnReport], has_names: bool) -> ColumnScaler:
    """Return the estimator; columns go by their names, or by place where they have none."""
    return ColumnScaler(
        [
            (name, new_scaler(name), _chosen([columns[number] for number in numbers], has_names))
            for name, numbers in by_scaler(columns).items()
        ]
    )


def _chosen(columns: Sequence[ColumnReport], has_names: bool) -> list[str] | list[int]:
    if has_names:
        return [column.name for column in columns]
    return [column.place for column in columns]


def python_lines() -> str:
    """Return lines of Python that scale ``X`` as is recommended."""
    return (
        "import normcore as nc\nscaler = nc.recommend(X).fit(X)\nX_scaled = scaler.transform(X)\n"
    )


def command_lines(
    columns: Sequence[ColumnReport], source: str, csv: CsvOptions | None = None
) -> Iterator[str]:
    """Yield commands that scale a file as is recommended, each what the one before has written.

    Parameters
    ----------
    csv : CsvOptions, optional
        How the file was read.
    """
    path = Path(source)
    scalers = by_scaler(columns)
    suffix = "".join(path.suffixes[-2:]) if path.suffix in (".gz", ".zst", ".bz2") else path.suffix
    # A directory and a pattern of files are no name of one.
    one = suffix and not set("*?[") & set(path.name)
    stem = path.name.removesuffix(suffix) if one else "data"
    # What begins with a hyphen would be an option.
    stem, read = (f"./{name}" if name.startswith("-") else name for name in (stem, source))
    for step, (name, places) in enumerate(scalers.items(), 1):
        last = step == len(scalers)
        written = f"{stem}-scaled{'' if last else f'-{step}'}{suffix or '.parquet'}"
        words = ["normcore", "fit-transform", read, "--output", written, "--scaler", name]
        for key, value in columns[places[0]].recommendation.params.items():
            words += ["--param", f"{key}={value}"]
        words += ["--columns", _listed([columns[place].name for place in places])]
        words += ["--save", f"{stem}-{name}.json", *_reading(csv, step > 1)]
        yield shlex.join(words)
        read = written


def _reading(csv: CsvOptions | None, again: bool) -> Iterator[str]:
    """Yield the options that read such a file, or what was written of it: in UTF-8, with names."""
    if csv is None:
        return
    if csv.header:
        yield "--header"
    elif csv.header is not None and not again:
        yield "--no-header"
    usual = CsvOptions()
    for name in ("delimiter", "quote", "decimal", "thousands", "encoding", "skip_rows", "comment"):
        value = getattr(csv, name)
        if value != getattr(usual, name) and not (again and name in _OF_THE_FIRST):
            yield from (f"--{name.replace('_', '-')}", "tab" if value == "\t" else str(value))
    if csv.na_values is not None:
        yield from ("--na", ",".join(csv.na_values))


def _listed(names: Sequence[str]) -> str:
    """Return names as ``--columns`` takes them."""
    text = io.StringIO()
    # Of what is quoted, spaces and line breaks stay.
    plain = all(name == name.strip() for name in names)
    writer(text, quoting=QUOTE_MINIMAL if plain else QUOTE_ALL).writerow(names)
    return text.getvalue().removesuffix("\r\n")
