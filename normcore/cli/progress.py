"""The progress bar: rows, bytes, speeds and the time left, on stderr, and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from normcore.io.pipeline import Progress, ProgressCallback

__all__ = ["progress_bar"]

# A narrower terminal gets a short bar.
_WIDE = 110
_LENGTHS = (8, 32)


@contextmanager
def progress_bar(enabled: bool) -> Iterator[ProgressCallback | None]:
    """Yield a callback that draws a bar for each step; None if there is nobody to see it.

    Where the total is not known, a spinner turns in front of the counts.
    """
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich import progress  # slow to import
    from rich.console import Console
    from rich.text import Text

    class Words(progress.ProgressColumn):
        """A column of text that is made anew whenever the bar is drawn."""

        def __init__(self, words: Callable[[Progress, float, float | None], str]) -> None:
            super().__init__()
            self._words = words

        def render(self, task: progress.Task) -> Text:
            state: Progress | None = task.fields["state"]
            if state is None:
                return Text()
            left = None if task.stop_time else task.time_remaining
            words = self._words(state, task.elapsed or 0.0, left)
            return Text(words, justify="right", no_wrap=True)

    console = Console(stderr=True)
    bar = progress.Progress(
        progress.SpinnerColumn("line"),
        progress.TextColumn("{task.description:<9}"),
        progress.BarColumn(_LENGTHS[console.width >= _WIDE]),
        Words(_size),
        Words(_rows),
        Words(_row_speed),
        Words(_byte_speed),
        Words(_time_left),
        console=console,
        transient=True,
    )
    tasks: dict[str, progress.TaskID] = {}

    def show(state: Progress) -> None:
        if state.step not in tasks:
            for number in tasks.values():
                bar.stop_task(number)
            tasks[state.step] = bar.add_task(state.step, total=None, state=None)
        total, done = _whole_and_part(state)
        bar.update(tasks[state.step], total=total, completed=done, state=state)

    with bar:
        yield show


def _whole_and_part(state: Progress) -> tuple[int | None, int]:
    """Return what there is to do and what of it is done, in bytes or else in rows."""
    if state.total_bytes:
        return state.total_bytes, state.bytes
    return state.total_rows, state.rows


def _size(state: Progress, seconds: float, left: float | None) -> str:
    largest = max(state.bytes, state.total_bytes or 0)
    if not largest:
        return ""
    unit, name = next(
        (1 << shift, name)
        for shift, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "bytes"))
        if largest >= 1 << shift
    )
    digits = 0 if unit == 1 else 1
    whole = f"/{state.total_bytes / unit:.{digits}f}" if state.total_bytes else ""
    return f"{state.bytes / unit:.{digits}f}{whole} {name}"


def _rows(state: Progress, seconds: float, left: float | None) -> str:
    return f"{state.rows:,} rows" if state.rows or not state.bytes else ""


def _row_speed(state: Progress, seconds: float, left: float | None) -> str:
    return f"{_short(state.rows / seconds)} rows/s" if seconds and state.rows else ""


def _byte_speed(state: Progress, seconds: float, left: float | None) -> str:
    return f"{_short(state.bytes / seconds / 1e6)} MB/s" if seconds and state.bytes else ""


def _time_left(state: Progress, seconds: float, left: float | None) -> str:
    if left is None:
        return ""
    minutes, rest = divmod(round(left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


def _short(number: float) -> str:
    """Return a number in two digits or more, and a letter for the thousands."""
    for letter in ("", "k", "M", "G"):
        if number < 999.5 or letter == "G":
            break
        number /= 1000
    return f"{number:.1f}{letter}" if number < 9.95 else f"{number:,.0f}{letter}"
