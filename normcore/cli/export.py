"""The command that writes a saved scaler in another form."""

from __future__ import annotations

import click

from normcore.cli.errors import data_named
from normcore.cli.options import PATH
from normcore.cli.params import check_registered, parse_params
from normcore.cli.running import check_file_name
from normcore.cli.streams import check_standard_output, standard_output_named
from normcore.cli.tables import print_lines
from normcore.registration.exporting import Exporter, UnknownOption
from normcore.saving.atomic_output import atomic_output, check_paths
from normcore.saving.scaler_file import load_scaler

__all__ = ["export"]


@click.command()
@click.argument("file", type=PATH)
@click.option("--to", "format", required=True, metavar="FORMAT", help="As 'exporters' lists them.")
@click.option("-o", "--output", type=PATH, metavar="OUT", help="Text goes to stdout without it.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the format, as table=t; repeatable.",
)
def export(file: str, format: str, output: str | None, params: tuple[str, ...]) -> None:
    """Write the saved scaler in FILE as FORMAT: SQL, C, ONNX and others."""
    check_file_name("FILE", file)
    check_registered("exporter", format)
    exporter = Exporter.named(format)
    options = parse_params(params, exporter.flags())
    path = None if output == "-" else output
    if path is None:
        check_standard_output()
    with data_named(file, output):
        check_paths(file, output)
        scaler = load_scaler(file)
        try:
            exported = exporter.export(scaler, options)
        except UnknownOption as error:
            raise click.UsageError(str(error)) from error
        data = exporter.to_bytes(exported)
        if output is None and not isinstance(exported, str):
            raise click.UsageError(f"{format!r} is no text: say where it goes, with --output FILE")
        if path is not None:
            with atomic_output(path) as temporary:
                temporary.write_bytes(data)
    with standard_output_named():
        if path is None:
            click.echo(data, nl=False)
        else:
            print_lines(f"written: {path}")
