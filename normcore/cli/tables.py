"""What the commands print: tables and a few lines on stdout.

On a terminal, tables are fitted to it and long ones are cut; elsewhere every row is one whole
line, for other programs to read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normcore.cli.histograms import histogram, levels_for
from normcore.io.pipeline import Report
from normcore.scaling.finite_maps import plain
from normcore.statistics.brackets import Quantiles

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler

__all__ = [
    "print_fields",
    "print_lines",
    "print_rows",
    "print_scaler",
    "print_summary",
    "visible",
]

# Rows of a table on a terminal; a longer one is cut.
MAX_ROWS = 40
# Names in a list; a longer one is cut too.
MAX_NAMES = 40
# Longer names may be wrapped on a terminal.
MAX_NAME_WIDTH = 24
# More quantiles than these are drawn and not listed.
MAX_QUANTILES = 5
HISTOGRAM_WIDTH = 16
# What rich puts between columns.
GAP = 3


class _Column(NamedTuple):
    header: str
    values: Sequence[str] | np.ndarray | range
    format: Callable[[Any], str]
    justify: Literal["left", "right"] = "right"


def _console() -> Console:
    return Console(highlight=False, markup=False)


def print_lines(*lines: str) -> None:
    """Print lines of text, unwrapped."""
    for line in lines:
        print(line)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and what they stand for."""
    print_lines(*(f"{name + ':':<17} {text}" for name, text in fields))


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of words."""
    columns = [
        _Column(name, [row[index] for row in rows], str, "left")
        for index, name in enumerate(header)
    ]
    _print_columns(columns[0], columns[1:])


def print_summary(report: Report, scaler: Scaler) -> None:
    """Print what each column held, how it was scaled and, if it was, what it holds now."""
    before, after = report.before, report.after
    name = _Column("column", report.columns, visible, "left")
    counts = [
        _Column("count", before.count, _whole),
        _Column("NaN", before.num_missing, _whole),
    ]
    affine = getattr(scaler, "_affine", None)
    if affine is not None:
        center, scale, _, _ = plain(affine).vectors(len(report.columns))
        counts += [_Column("center", center, _number), _Column("scale", scale, _number)]
    groups = [counts]
    for label, tally in (("before", before), ("after", after)):
        if tally is not None:
            prefix = f"{label}\n" if after is not None else ""
            groups.append(
                [
                    _Column(f"{prefix}min", tally.extrema.min, _number),
                    _Column(f"{prefix}mean", tally.moments.mean, _number),
                    _Column(f"{prefix}max", tally.extrema.max, _number),
                ]
            )
    _print_columns(name, *groups)
    num_rows, num_columns = before.num_rows, len(report.columns)
    print_lines(
        f"{num_rows:,} row{'s' * (num_rows != 1)}, {num_columns:,} column{'s' * (num_columns != 1)}"
        f" {'normalized with' if after is not None else 'seen by'} {type(scaler).__name__}"
    )
    if report.passed_through:
        others = report.passed_through
        more = f" and {len(others) - MAX_NAMES} more" if len(others) > MAX_NAMES else ""
        what = "passed through as they are" if after is not None else "left out"
        print_lines(f"{what}: {', '.join(map(visible, others[:MAX_NAMES]))}{more}")
    print_lines(*(f"note: {note}" for note in report.notes))


def print_scaler(scaler: Scaler) -> None:
    """Print the numbers that a fitted scaler holds for each column."""
    width = scaler.n_features_in_
    names = getattr(scaler, "feature_names_in_", None)
    names = [f"x{i}" for i in range(width)] if names is None else names
    groups = []
    statistic = scaler._statistic
    count = getattr(statistic, "count", ())
    if np.shape(count) == (width,):
        groups.append([_Column("count", count, _whole)])
    for attribute, value in sorted(vars(scaler).items()):
        public = attribute.endswith("_") and not attribute.startswith(("_", "n_samples_seen"))
        numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        if public and numeric and value.shape == (width,):
            groups.append([_Column(attribute, value, _number)])
    if isinstance(statistic, Quantiles):
        groups += _quantiles(statistic)
    _print_columns(_Column("column", names, visible, "left"), *groups)


def _quantiles(statistic: Quantiles) -> list[list[_Column]]:
    """Return columns of what an exact fit of quantiles remembers, in numbers and as histograms."""
    q, values = statistic.q, statistic.values
    order = np.argsort(q, kind="stable")
    numbers = [_Column(f"{100 * q[i]:.4g}%", values[i], _number) for i in order]
    if len(q) > MAX_QUANTILES:
        numbers = []
    levels = levels_for(getattr(sys.stdout, "encoding", None))

    def drawn(channel: int) -> str:
        return histogram(q, values[:, channel], HISTOGRAM_WIDTH, levels)

    ends = f"{100 * q.min():.4g}% to {100 * q.max():.4g}%"
    return [numbers, [_Column(ends, range(values.shape[1]), drawn, "left")]]


def _print_columns(name: _Column, *groups: list[_Column]) -> None:
    """Print a table, or several below each other where one is too wide for the terminal.

    Each has the column that names the rows, and as many groups of columns as fit.
    """
    console = _console()
    num_rows = len(name.values)
    if not console.is_terminal:
        # Not by rich, which takes minutes for the columns of a wide table.
        _print_plain([name, *(column for group in groups for column in group)], num_rows)
        return
    shown = min(num_rows, MAX_ROWS)
    name_width = min(_cell_width(name, shown), MAX_NAME_WIDTH) + GAP
    room = console.width - name_width
    table: list[_Column] = []
    for group in groups:
        if table and _width([*table, *group], shown) > room:
            console.print(_table([name, *table], shown))
            table = []
        table = [*table, *group]
    console.print(_table([name, *table], shown))
    if shown < num_rows:
        print_lines(f"... and {num_rows - shown:,} more columns; a pipe or file gets all")


def _cells(column: _Column, num_rows: int) -> list[str]:
    return [column.format(value) for value in column.values[:num_rows]]


def _cell_width(column: _Column, num_rows: int) -> int:
    return max(map(cell_len, [*column.header.split("\n"), *_cells(column, num_rows)]))


def _width(columns: list[_Column], num_rows: int) -> int:
    return sum(_cell_width(column, num_rows) + GAP for column in columns)


def _table(columns: list[_Column], num_rows: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        # Where a row is too long its name is wrapped, and never a number.
        width = _cell_width(column, num_rows) if column.justify == "right" and index else None
        table.add_column(column.header, justify=column.justify, overflow="fold", min_width=width)
    for row in zip(*(_cells(column, num_rows) for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def _print_plain(columns: list[_Column], num_rows: int) -> None:
    parts = []
    height = max(column.header.count("\n") for column in columns) + 1
    for column in columns:
        header = column.header.split("\n")
        cells = [""] * (height - len(header)) + header + _cells(column, num_rows)
        width = max(map(cell_len, cells))
        padding = [" " * (width - cell_len(cell)) for cell in cells]
        pairs = zip(cells, padding, strict=True)
        parts.append([c + pad if column.justify == "left" else pad + c for c, pad in pairs])
    for row in zip(*parts, strict=True):
        print("  ".join(row).rstrip())


def visible(name: str) -> str:
    """Return a name as one visible word, without what a terminal might obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name) or "''"


def _number(value: float) -> str:
    return f"{float(value):.5g}"


def _whole(value: float) -> str:
    return f"{float(value):.15g}"
