"""How what a report recommends is applied: an estimator, lines of Python, command lines."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from normcore.reporting.column import ColumnReport
from normcore.reporting.column_scaler import ColumnScaler
from normcore.reporting.maps import new_scaler

__all__ = ["by_scaler", "column_scaler", "command_lines", "python_lines"]

_ORDER = ("standard", "minmax", "maxabs", "robust", "power", "quantile")


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


def command_lines(columns: Sequence[ColumnReport], source: str) -> Iterator[str]:
    """Yield commands that scale a file as is recommended, each what the one before has written."""
    path = Path(source)
    scalers = by_scaler(columns)
    suffix = "".join(path.suffixes[-2:]) if path.suffix in (".gz", ".zst", ".bz2") else path.suffix
    # A directory and a pattern of files are no name of one.
    one = suffix and not set("*?[") & set(path.name)
    stem = path.name.removesuffix(suffix) if one else "data"
    read = source
    for step, (name, places) in enumerate(scalers.items(), 1):
        last = step == len(scalers)
        written = f"{stem}-scaled{'' if last else f'-{step}'}{suffix or '.parquet'}"
        words = ["normcore", "fit-transform", read, "--output", written, "--scaler", name]
        for key, value in columns[places[0]].recommendation.params.items():
            words += ["--param", f"{key}={value}"]
        words += ["--columns", _listed([columns[place].name for place in places])]
        words += ["--save", f"{stem}-{name}.json"]
        yield shlex.join(words)
        read = written


def _listed(names: Sequence[str]) -> str:
    """Return names as ``--columns`` takes them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()
