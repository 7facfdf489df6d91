"""How the command line ends: one line for an error, no traces of an interrupted run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import click

__all__ = ["CommandGroup"]

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
            if sys.stdout is not None:
                sys.stdout.flush()
            sys.exit(status if isinstance(status, int) else 0)
        except _NO_ARGUMENTS as error:
            click.echo(error.format_message(), err=True)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _fail(f"{error.format_message()}{_help_hint(error)}", error.exit_code)
        except Terminated as error:
            _fail(f"stopped by {error.signal.name}", 128 + error.signal)
        except (KeyboardInterrupt, click.Abort):
            _fail("interrupted", 128 + signal.SIGINT)
        except BrokenPipeError:
            # The reader of our output has left; Python must not complain at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(DATA_ERROR)
        except OSError as error:
            _fail(_os_reason(error), DATA_ERROR)
        except MemoryError:
            _fail("not enough memory; smaller batches may help (--batch-rows)", DATA_ERROR)
        except (ValueError, TypeError, ImportError, RuntimeError) as error:
            _fail(str(error) or type(error).__name__, DATA_ERROR)


def _fail(message: str, status: int) -> NoReturn:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    click.echo(f"normcore: error: {line}", err=True)
    sys.exit(status)


def _help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return "" if context is None else f" (see '{context.command_path} --help')"


def _os_reason(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror or error}"


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise as SIGINT does, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        for each in handled:  # once is enough: the clean-up must not be interrupted
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A signal that the parent had ignored (nohup) stays ignored.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            handled.append(number)
            signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in handled:
            with suppress(ValueError):
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *args: object, **more: object) -> None:
        click.echo(f"normcore: warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
