"""The standard streams of a process, any of which may be closed, full or without a reader."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = [
    "check_standard_output",
    "discard",
    "flush_standard_output",
    "open_closed_streams",
    "standard_output_named",
]

_closed: set[int] = set()


def open_closed_streams() -> None:
    """Put the null device in the place of the standard streams that were closed (``2>&-``).

    Otherwise the next file that is opened, an output say, would get the number of one, and whatever
    a library writes to that stream.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(number)
            os.open(os.devnull, os.O_RDWR)  # which gets the lowest number that is free
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            stream = open(number, mode, closefd=False, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)


def check_standard_output() -> None:
    """Find out before any work whether data can be written to standard output.

    Raises
    ------
    OSError
        If it is closed.
    """
    if 1 in _closed:
        raise OSError(errno.EBADF, "cannot write: it is closed", "standard output")


@contextmanager
def standard_output_named() -> Iterator[None]:
    """Name standard output in errors of writing to it, as a full disk."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = "standard output"
        raise


def flush_standard_output() -> None:
    """Write what is still to be written."""
    with standard_output_named():
        if sys.stdout is not None:
            sys.stdout.flush()


def discard(stream: TextIO | None) -> None:
    """Let the null device have what a stream could not write, so that exiting does not fail too."""
    with suppress(OSError, ValueError, AttributeError):
        stream.flush()  # type: ignore[union-attr]
        return
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)
