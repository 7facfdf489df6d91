"""How the command line ends: one line for an error, no traces of an interrupted run."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from normcore.cli.streams import discard, flush_standard_output

__all__ = ["CommandGroup", "data_named"]

DATA_ERROR = 1
# click 8.1 prints the help itself.
_NO_ARGUMENTS: type[click.UsageError] | tuple[()] = getattr(
    click.exceptions, "NoArgsIsHelpError", ()
)


class Terminated(SystemExit):
    """A signal asked the process to end; output in progress is being removed."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class CommandGroup(click.Group):
    """A group of commands whose errors are one line on stderr.

    The exit status is 2 where the command line was wrong, 1 where the data or a file was, and 128
    plus its number after a signal.
    """

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command and exit."""
        extra.pop("standalone_mode", None)
        try:
            with _signals_raise(), _warnings_in_one_line():
                status = super().main(args, prog_name, standalone_mode=False, **extra)
                flush_standard_output()
        except Terminated as error:
            message, status = _line(f"stopped by {error.signal.name}"), 128 + error.signal
        except SystemExit:
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            if os.environ.get("NORMCORE_TRACEBACK"):
                traceback.print_exception(error)
            message, status = _outcome(error)
        else:
            sys.exit(status if isinstance(status, int) else 0)
        discard(sys.stdout)
        if message:
            with suppress(OSError, ValueError):
                click.echo(message, err=True)
        discard(sys.stderr)
        sys.exit(status)


def _outcome(error: BaseException) -> tuple[str, int]:
    """Return what to say of an error, which may be nothing, and the exit status."""
    if isinstance(error, _NO_ARGUMENTS):
        return error.format_message(), error.exit_code
    if isinstance(error, click.ClickException):
        message = error.format_message()
        if "unexpected extra argument" in message:
            message += " Several files are a directory, or quote a pattern of theirs: 'part-*.csv'."
        return _line(f"{message}{_help_hint(error)}"), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return _line("interrupted"), 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError):
        return "", DATA_ERROR  # the reader of our output has left
    return _line(_reason(error)), DATA_ERROR


def _reason(error: BaseException) -> str:
    return "; ".join([_said(error), *getattr(error, "__notes__", ())])


def _said(error: BaseException) -> str:
    if isinstance(error, OSError):
        if error.filename is None:
            return error.strerror or str(error)
        return f"{error.filename}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "not enough memory; smaller batches may help (--batch-rows)"
    if isinstance(error, ValueError | TypeError | ImportError | RuntimeError):
        return str(error) or type(error).__name__
    return (
        f"{type(error).__name__}: {error}; this was not expected, and NORMCORE_TRACEBACK=1 in the "
        "environment shows where it comes from"
    )


@contextmanager
def data_named(data: str, *others: str | None) -> Iterator[None]:
    """Name the data in errors that name neither it nor another file of the run."""
    try:
        yield
    except (click.ClickException, click.Abort, OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        said = str(error)
        name = "standard input" if data == "-" else str(Path(data))
        named = [name, *(str(Path(path)) for path in others if path is not None)]
        if any(re.search(rf"(?<!\w){re.escape(path)}(?!\w)", said) for path in named):
            raise
        raise ValueError(f"{name}: {_reason(error)}") from error


def _line(message: str) -> str:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    # What a name brings must not steer the terminal.
    line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    return f"normcore: error: {line}"


def _help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return "" if context is None else f" (see '{context.command_path} --help')"


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let signals that end a process raise, once, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: list[tuple[signal.Signals, Any]] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        for each, _ in before:  # the clean-up must not be interrupted
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is None:
            continue
        handler = signal.getsignal(number)
        # A signal that the parent had ignored (nohup) stays ignored.
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            before.append((number, handler))
            signal.signal(number, terminate)
    try:
        yield
    finally:
        for number, handler in before:
            with suppress(ValueError):
                signal.signal(number, handler)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *args: object, **more: object) -> None:
        click.echo(f"normcore: warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
