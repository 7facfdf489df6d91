"""The commands. What they do is in :mod:`normcore.io.pipeline`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypedDict, Unpack

import click

import normcore
from normcore import registration
from normcore.array_backend import selection
from normcore.array_backend.abstract import BackendStatus
from normcore.cli.errors import CommandGroup
from normcore.cli.params import check_backend, make_scaler, parse_columns
from normcore.cli.progress import progress_bar
from normcore.cli.tables import print_fields, print_lines, print_rows, print_scaler, print_summary
from normcore.io.columns import UnknownColumn
from normcore.io.pipeline import ReadOptions, fit_file, fit_transform_file, transform_file
from normcore.registration.registry import PluginError
from normcore.saving.atomic_output import check_paths
from normcore.saving.scaler_file import load_scaler

__all__ = ["cli"]

Command = Callable[..., Any]
# Whether a file can be read or written is for what opens it to say.
PATH = click.Path(readable=False)

FIT_OPTIONS = [
    click.option("--scaler", "name", required=True, metavar="NAME", help="See 'scalers'."),
    click.option(
        "--columns", metavar="A,B", help="Columns to normalize; all numeric ones by default."
    ),
    click.option(
        "--param",
        "params",
        multiple=True,
        metavar="KEY=VALUE",
        help="A parameter of the scaler, as feature_range=0,1. Repeatable.",
    ),
]
RUN_OPTIONS = [
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first line of a CSV file names its columns; without, they are f0, f1, "
        "... By default it does, and must hold no number.",
    ),
    click.option("--backend", metavar="NAME", help="See 'backends'; the best one by default."),
    click.option(
        "--batch-rows",
        type=click.IntRange(min=1),
        metavar="N",
        help="Rows to hold in memory at a time.",
    ),
    click.option("--no-progress", is_flag=True, help="Draw no progress bar."),
    click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
]


class RunOptions(TypedDict):
    """The values of ``RUN_OPTIONS``."""

    header: bool | None
    backend: str | None
    batch_rows: int | None
    no_progress: bool
    quiet: bool


def options(*lists: list[Command]) -> Callable[[Command], Command]:
    """Give a command options that several have."""

    def decorate(command: Command) -> Command:
        for each in reversed([option for options in lists for option in options]):
            command = each(command)
        return command

    return decorate


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(normcore.__version__, prog_name="normcore")
def cli() -> None:
    """Normalize the numeric columns of CSV, Parquet, Arrow and .npy files.

    Files are read and written in batches. An existing output is replaced when the new one is
    complete, and not before.
    """


@cli.command()
@click.argument("data", type=PATH)
@click.option("--save", required=True, type=PATH, metavar="FILE", help="Fitted scaler.")
@options(FIT_OPTIONS, RUN_OPTIONS)
def fit(
    data: str,
    save: str,
    name: str,
    columns: str | None,
    params: tuple[str, ...],
    **run: Unpack[RunOptions],
) -> None:
    """Fit a scaler to the columns of DATA and save it."""
    scaler, names = make_scaler(name, params), parse_columns(columns)
    with _running(run) as reading:
        check_paths(data, save)
        with _columns_are_usage(names):
            report = fit_file(data, scaler, columns=names, **reading)
        scaler.save(save)
    if not run["quiet"]:
        print_summary(report, scaler)
        print_lines(f"saved: {save}")


@cli.command()
@click.argument("data", type=PATH)
@click.option("--load", required=True, type=PATH, metavar="FILE", help="Fitted scaler, from 'fit'.")
@click.option("-o", "--output", required=True, type=PATH, metavar="OUT", help="Result.")
@click.option("--inverse", is_flag=True, help="Undo the transform instead.")
@options(RUN_OPTIONS)
def transform(data: str, load: str, output: str, inverse: bool, **run: Unpack[RunOptions]) -> None:
    """Transform the columns of DATA with a fitted scaler."""
    check_paths(data, output)
    check_paths(load, output)
    scaler = load_scaler(load)
    if run["backend"] is not None:
        scaler.backend = None  # the command line comes before what was saved
    with _running(run) as reading:
        report = transform_file(data, output, scaler, inverse=inverse, **reading)
    if not run["quiet"]:
        print_summary(report, scaler)
        print_lines(f"written: {output}")


@cli.command("fit-transform")
@click.argument("data", type=PATH)
@click.option("-o", "--output", required=True, type=PATH, metavar="OUT", help="Result.")
@click.option("--save", type=PATH, metavar="FILE", help="Keep the fitted scaler too.")
@options(FIT_OPTIONS, RUN_OPTIONS)
def fit_transform(
    data: str,
    output: str,
    save: str | None,
    name: str,
    columns: str | None,
    params: tuple[str, ...],
    **run: Unpack[RunOptions],
) -> None:
    """Fit a scaler to the columns of DATA and transform them."""
    scaler, names = make_scaler(name, params), parse_columns(columns)
    with _running(run) as reading, _columns_are_usage(names):
        report = fit_transform_file(data, output, scaler, columns=names, save=save, **reading)
    if not run["quiet"]:
        print_summary(report, scaler)
        print_lines(f"written: {output}", *([f"saved: {save}"] if save else []))


@cli.command()
@click.argument("file", type=PATH)
def inspect(file: str) -> None:
    """Show what the saved scaler in FILE has learned."""
    scaler = load_scaler(file)
    params = scaler.get_params(deep=False)
    print_fields(
        [
            ("scaler", type(scaler).__name__),
            ("parameters", ", ".join(f"{key}={value!r}" for key, value in params.items())),
            ("samples seen", f"{scaler._num_rows:,}"),
            ("features", f"{scaler.n_features_in_:,}"),
        ]
    )
    print_scaler(scaler)


@cli.command()
def backends() -> None:
    """List the array backends, and why some cannot be used here."""
    statuses = selection.backends()
    print_rows(
        ["name", "status", "distribution", "target"],
        [
            [row.name, _status(statuses.get(row.name)), _distribution(row), row.target]
            for row in registration.registrations()
            if row.kind == "backend"
        ],
    )


@cli.command()
def scalers() -> None:
    """List the scalers."""
    print_rows(
        ["name", "status", "distribution", "target"],
        [
            [row.name, _scaler_status(row.name), _distribution(row), row.target]
            for row in registration.registrations()
            if row.kind == "scaler"
        ],
    )


def _status(status: BackendStatus | None) -> str:
    if status is None:
        return "not ready"
    words = [word for word in (status.reason, status.detail) if word]
    return ": ".join(["ready" if status.ready else "not ready", *words])


def _scaler_status(name: str) -> str:
    try:
        registration.scaler(name)
    except PluginError as error:
        return f"not ready: {error.__cause__ or error}"
    return "ready"


def _distribution(row: registration.Row) -> str:
    return f"{row.distribution} {row.version}".strip() or "(this program)"


@contextmanager
def _running(run: RunOptions) -> Iterator[ReadOptions]:
    """Set up what every run has, its backend and its progress bar, and yield how to read."""
    backend = run["backend"]
    if backend is not None:
        check_backend(backend)
    chosen = nullcontext() if backend is None else selection.use_backend(backend)
    with chosen, progress_bar(not (run["no_progress"] or run["quiet"])) as progress:
        yield {"header": run["header"], "batch_rows": run["batch_rows"], "progress": progress}


@contextmanager
def _columns_are_usage(names: list[str] | None) -> Iterator[None]:
    """Turn a wrong column into an error of the command line, where it was named there."""
    try:
        yield
    except UnknownColumn as error:
        if names is None:
            raise
        raise click.UsageError(str(error)) from error
