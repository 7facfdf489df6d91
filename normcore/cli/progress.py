"""The progress bar: rows and bytes, on stderr, and only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from normcore.io.pipeline import Progress, ProgressCallback

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(enabled: bool) -> Iterator[ProgressCallback | None]:
    """Yield a callback that draws a bar for each step; None if there is nobody to see it."""
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich import progress  # slow to import
    from rich.console import Console

    bar = progress.Progress(
        progress.TextColumn("{task.description:<9}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TextColumn("{task.fields[rows]} rows"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, progress.TaskID] = {}

    def show(state: Progress) -> None:
        if state.step not in tasks:
            tasks[state.step] = bar.add_task(state.step, total=state.total_bytes, rows="0")
        bar.update(tasks[state.step], completed=state.bytes, rows=f"{state.rows:,}")

    with bar:
        yield show
