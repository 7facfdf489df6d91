"""The command line: ``normcore``, and a command.

Tables are for ``fit``, ``transform``, ``fit-transform`` and ``report``, a saved scaler for
``inspect`` and ``export``; ``backends``, ``scalers``, ``engines``, ``exporters`` and ``plugins``
list what there is. They are in :mod:`normcore.cli.app`, ``report`` and ``export`` beside it; what
they do is in :mod:`normcore.io.pipeline`.
"""

import os
import sys
import threading

from normcore.cli.streams import open_closed_streams
from normcore.package.requirements import check_libraries

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    open_closed_streams()
    if not os.environ.get("NORMCORE_TRACEBACK"):
        # What fails in a thread is raised again where it is waited for; what fails in a destructor
        # has been reported before.
        threading.excepthook = lambda what: None
        sys.unraisablehook = lambda what: None
    try:
        check_libraries()
        from normcore.cli.app import cli

        if hasattr(sys.stdout, "reconfigure"):  # names may hold what its encoding does not
            sys.stdout.reconfigure(errors="backslashreplace")
        # Patterns are for normcore: on Windows click would make several arguments of one.
        cli(prog_name="normcore", windows_expand_args=False)
    except ImportError as error:
        library = (error.name or "").partition(".")[0]
        if error.name in ("numpy", "pluggy"):
            sys.exit(f"normcore: error: {error}")
        if library not in ("click", "rich"):
            raise
        sys.exit(
            f'normcore: error: the command line needs {library}: pip install "normcore-arrays[cli]"'
        )
    except KeyboardInterrupt:  # before there was anything to tidy up, or after
        sys.exit(130)
