"""The commands. What they do is in :mod:`normcore.io.pipeline`."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, Unpack

import click

import normcore
from normcore import registration
from normcore.array_backend import selection
from normcore.array_backend.status import BackendStatus
from normcore.cli.errors import CommandGroup, data_named
from normcore.cli.export import export
from normcore.cli.options import (
    CSV_OPTIONS,
    ENGINE_OPTIONS,
    FIT_OPTIONS,
    OUTPUT_OPTIONS,
    PATH,
    QUANTILE_OPTIONS,
    RUN_OPTIONS,
    OutputWords,
    RunWords,
    options,
    output_options,
)
from normcore.cli.params import make_engine, make_scaler, parse_columns
from normcore.cli.report import report
from normcore.cli.running import check_file_name, columns_are_usage, running
from normcore.cli.streams import standard_output_named
from normcore.cli.tables import print_fields, print_lines, print_rows, print_scaler, print_summary
from normcore.io.pipeline import (
    Report,
    fit_source,
    fit_transform_source,
    transform_source,
)
from normcore.registration.registry import PluginError
from normcore.saving.atomic_output import check_paths
from normcore.saving.scaler_file import load_scaler
from normcore.scaling.scaler import Scaler

if TYPE_CHECKING:
    from normcore.engines.engine import Engine

__all__ = ["cli"]


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(normcore.__version__, prog_name="normcore")
def cli() -> None:
    """Normalize the numeric columns of tables: CSV, Parquet, Arrow, ORC, .npy, HDF5 and Zarr.

    DATA is a file, a directory of files, a quoted pattern as 'part-*.parquet', or '-' for CSV or an
    Arrow stream on standard input. Memory stays bounded. An existing output is replaced when the
    new one is complete, and not before.
    """


@cli.command()
@click.argument("data", type=PATH)
@click.option("--save", required=True, type=PATH, metavar="FILE", help="Fitted scaler.")
@options(FIT_OPTIONS, QUANTILE_OPTIONS, ENGINE_OPTIONS, CSV_OPTIONS, RUN_OPTIONS)
def fit(
    data: str,
    save: str,
    name: str,
    columns: str | None,
    exclude: str | None,
    params: tuple[str, ...],
    quantiles: str | None,
    error: float | None,
    engine: str | None,
    scheduler: str | None,
    **words: Unpack[RunWords],
) -> None:
    """Fit a scaler to the columns of DATA and save it."""
    check_file_name("--save", save)
    scaler = make_scaler(name, params, quantiles, error)
    reader = _engine(engine, scheduler, words)
    chosen, without = parse_columns(columns), parse_columns(exclude, "--exclude")
    with (
        running(words, data) as reading,
        columns_are_usage(chosen, without),
        data_named(data, save),
    ):
        check_paths(data, save)
        if reader is None:
            report = fit_source(data, scaler, columns=chosen, exclude=without, **reading)
        else:
            from normcore.engines.files import fit_files  # slow to import

            with reader:
                report = fit_files(data, scaler, reader, columns=chosen, exclude=without, **reading)
        scaler.save(save)
    if not words["quiet"]:
        _show(report, scaler, save=save)


@cli.command()
@click.argument("data", type=PATH)
@click.option("--load", required=True, type=PATH, metavar="FILE", help="Fitted scaler, from 'fit'.")
@click.option("--inverse", is_flag=True, help="Undo the transform instead.")
@options(OUTPUT_OPTIONS, CSV_OPTIONS, RUN_OPTIONS)
def transform(
    data: str, load: str, output: str, inverse: bool, **words: Unpack[OutputWords]
) -> None:
    """Transform the columns of DATA with a fitted scaler."""
    check_file_name("--load", load)
    writing = output_options(words)
    with running(words, data, output) as reading, data_named(data, load, output):
        check_paths(load, output)
        scaler = load_scaler(load)
        if words["backend"] is not None:
            scaler.backend = None  # the command line comes before what was saved
        report = transform_source(data, output, scaler, inverse=inverse, output=writing, **reading)
    if not words["quiet"]:
        _show(report, scaler, output=output)


@cli.command("fit-transform")
@click.argument("data", type=PATH)
@click.option("--save", type=PATH, metavar="FILE", help="Keep the fitted scaler too.")
@options(OUTPUT_OPTIONS, FIT_OPTIONS, QUANTILE_OPTIONS, CSV_OPTIONS, RUN_OPTIONS)
def fit_transform(
    data: str,
    output: str,
    save: str | None,
    name: str,
    columns: str | None,
    exclude: str | None,
    params: tuple[str, ...],
    quantiles: str | None,
    error: float | None,
    **words: Unpack[OutputWords],
) -> None:
    """Fit a scaler to the columns of DATA and transform them."""
    check_file_name("--save", save)
    scaler, writing = make_scaler(name, params, quantiles, error), output_options(words)
    chosen, without = parse_columns(columns), parse_columns(exclude, "--exclude")
    with (
        running(words, data, output) as reading,
        columns_are_usage(chosen, without),
        data_named(data, output, save),
    ):
        report = fit_transform_source(
            data,
            output,
            scaler,
            columns=chosen,
            exclude=without,
            save=save,
            output=writing,
            **reading,
        )
    if not words["quiet"]:
        _show(report, scaler, output=output, save=save)


cli.add_command(report)
cli.add_command(export)


@cli.command()
@click.argument("file", type=PATH)
def inspect(file: str) -> None:
    """Show what the saved scaler in FILE has learned."""
    with data_named(file):
        scaler = load_scaler(file)
    params, num_rows = scaler.get_params(deep=False), scaler._num_rows
    fields = [
        ("scaler", type(scaler).__name__),
        ("parameters", ", ".join(f"{key}={value!r}" for key, value in params.items())),
        ("samples seen", "unknown" if num_rows is None else f"{num_rows:,}"),
        ("features", f"{scaler.n_features_in_:,}"),
    ]
    rank_error = getattr(scaler, "quantile_error_", 0)
    if rank_error:
        fields.append(("quantiles within", f"{rank_error:.2%} of the ranks"))
    with standard_output_named():
        print_fields(fields)
        print_scaler(scaler)


@cli.command()
def backends() -> None:
    """List the array backends, and why some cannot be used here."""
    _print_registered("backend")


@cli.command()
def scalers() -> None:
    """List the scalers."""
    _print_registered("scaler")


@cli.command()
def engines() -> None:
    """List the engines, which read DATA elsewhere than in this process."""
    _print_registered("engine")


@cli.command()
def exporters() -> None:
    """List the formats that 'export' writes."""
    _print_registered("exporter")


@cli.command()
@click.argument("distribution", required=False)
def plugins(distribution: str | None) -> None:
    """List all that plugins register, of one DISTRIBUTION or all, and what is wrong with it."""
    checked = registration.checked(distribution=distribution)
    found = [[row.kind, *_cells(row, error)] for row, error in checked]
    if not found:
        raise click.UsageError(f"no distribution {distribution!r} registers anything")
    print_rows(["kind", "name", "status", "distribution", "target"], found)


def _print_registered(kind: str) -> None:
    print_rows(
        ["name", "status", "distribution", "target"],
        [_cells(row, error) for row, error in registration.checked(kind)],
    )


def _cells(row: registration.Row, error: PluginError | None) -> list[str]:
    if row.kind == "backend":
        status = _status(selection.backends().get(row.name))
    else:
        status = "ready" if error is None else f"not ready: {error.__cause__ or error}"
    return [row.name, status, _distribution(row), row.target]


def _engine(name: str | None, scheduler: str | None, words: RunWords) -> Engine[Any] | None:
    """Return the engine that the command line names, if it does."""
    if name is None:
        if scheduler is not None:
            raise click.UsageError("--scheduler is that of an engine: add --engine dask")
        return None
    if words["backend"] is not None:
        raise click.UsageError("--backend is for this process; an engine uses that of its workers")
    return make_engine(name, scheduler)


def _status(status: BackendStatus | None) -> str:
    if status is None:
        return "not ready"
    words = [word for word in (status.reason, status.detail) if word]
    return ": ".join(["ready" if status.ready else "not ready", *words])


def _distribution(row: registration.Row) -> str:
    return f"{row.distribution} {row.version}".strip() or "(this program)"


def _show(
    report: Report, scaler: Scaler, *, output: str | None = None, save: str | None = None
) -> None:
    """Print what a run has done; not where its data goes."""
    elsewhere = redirect_stdout(sys.stderr) if output == "-" else nullcontext()
    with elsewhere, standard_output_named():
        print_summary(report, scaler)
        if output is not None:
            print_lines(f"written: {'standard output' if output == '-' else output}")
        if save is not None:
            print_lines(f"saved: {save}")
