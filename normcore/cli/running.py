"""What every run of a command over a table has: how it reads, its backend, its progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TypedDict

import click

from normcore.array_backend import selection
from normcore.cli.options import RunWords, csv_options
from normcore.cli.params import check_backend
from normcore.cli.progress import progress_bar
from normcore.cli.streams import check_standard_output, standard_output_named
from normcore.io.columns import UnknownColumn
from normcore.io.csv.options import CsvOptions
from normcore.io.report import ProgressCallback

__all__ = ["ReadOptions", "check_file_name", "columns_are_usage", "running"]


class ReadOptions(TypedDict):
    """What the functions of the pipeline all take."""

    csv: CsvOptions | None
    memory_limit: int
    batch_rows: int | None
    progress: ProgressCallback | None


def check_file_name(option: str, path: str | None) -> None:
    """Refuse standard input or output where only a file will do.

    Raises
    ------
    click.UsageError
        Naming the option.
    """
    if path == "-":
        raise click.UsageError(f"{option} takes the name of a file; - is for tables alone")


@contextmanager
def running(words: RunWords, data: str, output: str | None = None) -> Iterator[ReadOptions]:
    """Set up what every run has, its backend and its progress bar, and yield how to read."""
    backend = words["backend"]
    if backend is not None:
        check_backend(backend)
    if output == "-":
        check_standard_output()
    csv = csv_options(words, data)
    naming = standard_output_named() if output == "-" else nullcontext()
    chosen = nullcontext() if backend is None else selection.use_backend(backend)
    with naming, chosen, progress_bar(words["progress"] and not words["quiet"]) as progress:
        yield {
            "csv": csv,
            "memory_limit": words["memory_limit"],
            "batch_rows": words["batch_rows"],
            "progress": progress,
        }


@contextmanager
def columns_are_usage(*named: list[str] | None) -> Iterator[None]:
    """Turn a wrong column into an error of the command line, where it was named there."""
    try:
        yield
    except UnknownColumn as error:
        if named == (None, None):
            raise
        raise click.UsageError(str(error)) from error
