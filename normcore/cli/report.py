"""The command that looks at data and recommends scalers."""

from __future__ import annotations

from typing import Unpack

import click

from normcore.cli.errors import data_named
from normcore.cli.options import (
    COLUMN_OPTIONS,
    CSV_OPTIONS,
    PATH,
    RUN_OPTIONS,
    RunWords,
    options,
)
from normcore.cli.params import parse_columns
from normcore.cli.running import check_file_name, columns_are_usage, running
from normcore.cli.streams import standard_output_named
from normcore.cli.tables import print_lines, print_rows, visible
from normcore.reporting.data_report import DataReport
from normcore.reporting.data_report import report as report_on
from normcore.saving.atomic_output import check_paths

__all__ = ["report"]


@click.command()
@click.argument("data", type=PATH)
@click.option("-o", "--output", type=PATH, metavar="OUT", help="The page, as report.html.")
@click.option("--json", "json_", type=PATH, metavar="FILE", help="The same as JSON.")
@options(COLUMN_OPTIONS, CSV_OPTIONS, RUN_OPTIONS)
def report(
    data: str,
    output: str | None,
    json_: str | None,
    columns: str | None,
    exclude: str | None,
    **words: Unpack[RunWords],
) -> None:
    """Look at the columns of DATA and recommend a scaler for each."""
    if output is None and json_ is None:
        raise click.UsageError("say where the report goes: --output report.html, or --json FILE")
    check_file_name("--output", output)
    check_file_name("--json", json_)
    chosen, without = parse_columns(columns), parse_columns(exclude, "--exclude")
    with (
        running(words, data) as reading,
        columns_are_usage(chosen, without),
        data_named(data, output, json_),
    ):
        check_paths(data, output, json_)
        found = report_on(data, columns=chosen, exclude=without, **reading)
        if output is not None:
            found.save(output, format="html")
        if json_ is not None:
            found.save(json_, format="json")
    if not words["quiet"]:
        _show(found, [path for path in (output, json_) if path is not None])


def _show(found: DataReport, written: list[str]) -> None:
    """Print what is recommended."""
    with standard_output_named():
        print_rows(
            ["column", "scaler", "reason"],
            [
                [
                    visible(column.name),
                    column.recommendation.scaler or "-",
                    column.recommendation.reason,
                ]
                for column in found.columns
            ],
        )
        print_lines(f"{found.num_rows:,} rows, {len(found.columns):,} columns")
        print_lines(*(f"note: {note}" for note in found.notes))
        print_lines(*(f"written: {path}" for path in written))
