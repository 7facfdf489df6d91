"""The command line: ``normcore fit | transform | fit-transform | inspect | backends | scalers``.

The commands are in :mod:`normcore.cli.app`; what they do is in :mod:`normcore.io.pipeline`.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    try:
        from normcore.cli.app import cli
    except ImportError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("click", "rich"):
            raise
        sys.exit(
            f'normcore: error: the command line needs {library}: pip install "normcore-arrays[cli]"'
        )
    if hasattr(sys.stdout, "reconfigure"):  # names may hold what its encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    cli(prog_name="normcore")
