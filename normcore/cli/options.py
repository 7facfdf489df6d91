"""The options that several commands have, and what they become for :mod:`normcore.io`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypedDict

import click

from normcore.cli.option_values import character, encoding, file_format, size, word_list
from normcore.io.csv.options import CsvOptions
from normcore.io.opening import source_class
from normcore.io.output_options import OutputOptions
from normcore.statistics.mergeable_quantiles import METHODS

__all__ = [
    "COLUMN_OPTIONS",
    "CSV_OPTIONS",
    "ENGINE_OPTIONS",
    "FIT_OPTIONS",
    "OUTPUT_OPTIONS",
    "PATH",
    "QUANTILE_OPTIONS",
    "RUN_OPTIONS",
    "Command",
    "OutputWords",
    "RunWords",
    "csv_options",
    "options",
    "output_options",
]

Command = Callable[..., Any]


# Whether a file can be read or written is for what opens it to say.
PATH = click.Path(readable=False, allow_dash=True)

COLUMN_OPTIONS = [
    click.option(
        "--columns",
        metavar="A,B",
        help="The columns, names or patterns as 'x*'; all numeric ones by default.",
    ),
    click.option("--exclude", metavar="A,B", help="Columns to leave out, names or patterns."),
]
FIT_OPTIONS = [
    click.option("--scaler", "name", required=True, metavar="NAME", help="See 'scalers'."),
    *COLUMN_OPTIONS,
    click.option(
        "--param",
        "params",
        multiple=True,
        metavar="KEY=VALUE",
        help="A parameter of the scaler, as feature_range=0,1. Repeatable.",
    ),
]
QUANTILE_OPTIONS = [
    click.option(
        "--quantiles",
        type=click.Choice(METHODS),
        help="How a scaler that learns quantiles finds them; exact by default, which reads DATA "
        "again where memory does not hold it.",
    ),
    click.option(
        "--error",
        type=float,
        metavar="E",
        help="Rank error of a sketch of quantiles, as a fraction of the rows; 0.01 by default.",
    ),
]
ENGINE_OPTIONS = [
    click.option(
        "--engine",
        metavar="NAME",
        help="Who reads DATA, as dask; by default this process. See 'engines'.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Of the engine, as tcp://host:8786; by default workers are started here.",
    ),
]
CSV_OPTIONS = [
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first line of CSV names the columns; without, they are f0, f1, ... "
        "By default it does, and must not look like data.",
    ),
    click.option(
        "--delimiter",
        callback=character("auto"),
        metavar="CHAR",
        help="Between the cells of CSV: a character, 'tab', or 'auto' to find it out.",
    ),
    click.option(
        "--quote", callback=character(""), metavar="CHAR", help="Around cells of CSV; '' for none."
    ),
    click.option(
        "--decimal", callback=character(), metavar="CHAR", help="The decimal point of CSV, as ','."
    ),
    click.option(
        "--thousands", callback=character(), metavar="CHAR", help="Between groups of digits of CSV."
    ),
    click.option(
        "--na",
        "na_values",
        callback=word_list,
        metavar="A,B",
        help="Cells of CSV that are missing values, instead of NA, NaN, null and their like.",
    ),
    click.option("--encoding", callback=encoding, metavar="NAME", help="Of the text of CSV."),
    click.option(
        "--skip-rows",
        type=click.IntRange(min=0),
        metavar="N",
        help="Lines of CSV to leave out before the header.",
    ),
    click.option(
        "--comment",
        callback=character(),
        metavar="CHAR",
        help="Leave out lines of CSV that begin with it.",
    ),
]
RUN_OPTIONS = [
    click.option("--backend", metavar="NAME", help="See 'backends'; the best one by default."),
    click.option(
        "--memory-limit",
        callback=size,
        default="512MiB",
        show_default=True,
        metavar="SIZE",
        help="Memory to stay within, as 2GiB; each worker of an engine for itself.",
    ),
    click.option(
        "--batch-rows",
        type=click.IntRange(min=1),
        metavar="N",
        help="Rows to hold in memory at a time.",
    ),
    click.option(
        "--progress/--no-progress",
        default=True,
        help="Whether to draw a progress bar where there is a terminal.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
]
OUTPUT_OPTIONS = [
    click.option(
        "-o",
        "--output",
        required=True,
        type=PATH,
        metavar="OUT",
        help="Result; '-' is standard output.",
    ),
    click.option(
        "--output-format",
        "format_",
        callback=file_format,
        metavar="FORMAT",
        help="As csv or parquet; by default what the name of OUT says.",
    ),
    click.option(
        "--compression",
        metavar="NAME",
        help="As zstd, snappy or none; by default that of DATA, where it has one.",
    ),
    click.option(
        "--row-group-rows",
        type=click.IntRange(min=1),
        metavar="N",
        help="Rows of a row group of Parquet or a batch of Arrow; by default those of DATA.",
    ),
]


class CsvWords(TypedDict):
    """The values of ``CSV_OPTIONS``; None is what was not given."""

    header: bool | None
    delimiter: str | None
    quote: str | None
    decimal: str | None
    thousands: str | None
    na_values: tuple[str, ...] | None
    encoding: str | None
    skip_rows: int | None
    comment: str | None


class RunWords(CsvWords):
    """The values of ``CSV_OPTIONS`` and ``RUN_OPTIONS``."""

    backend: str | None
    memory_limit: int
    batch_rows: int | None
    progress: bool
    quiet: bool


class OutputWords(RunWords):
    """The values of ``OUTPUT_OPTIONS`` too, but for the output itself."""

    format_: str | None
    compression: str | None
    row_group_rows: int | None


def options(*lists: list[Command]) -> Callable[[Command], Command]:
    """Give a command options that several have."""

    def decorate(command: Command) -> Command:
        for each in reversed([option for options in lists for option in options]):
            command = each(command)
        return command

    return decorate


def csv_options(words: RunWords, data: str) -> CsvOptions | None:
    """Return how CSV is to be read, None if the command line does not say.

    Raises
    ------
    click.UsageError
        If it says so of a file of another format, or the options contradict each other.
    """
    names = CsvWords.__annotations__
    given = {name: words[name] for name in names if words[name] is not None}  # type: ignore[literal-required]
    if not given:
        return None
    if os.path.isfile(data) and not source_class(data).is_text:
        said = {"na_values": "--na", "header": "--header" if words["header"] else "--no-header"}
        name = next(iter(given))
        option = said.get(name, f"--{name.replace('_', '-')}")
        raise click.UsageError(f"{option} is for CSV files alone, and {data} is none")
    try:
        return CsvOptions(**given)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def output_options(words: OutputWords) -> OutputOptions | None:
    """Return how the output is to be written, None if the command line does not say."""
    try:
        options = OutputOptions(
            format=words["format_"],
            compression=words["compression"],
            row_group_rows=words["row_group_rows"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return None if options == OutputOptions() else options
