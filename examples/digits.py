"""Batch norm in the network of Ioffe and Szegedy (2015), Figure 1, on real handwritten digits.

python examples/digits.py            everything that docs/digits.md quotes, some minutes
python examples/digits.py --quick    a taste of it, in seconds
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from digits_experiments import report
from digits_experiments.claims import examine, identity_errors
from digits_experiments.data import load_digits
from digits_experiments.experiments import Effort, plan, rows, run

import normcore as nc

ROOT = Path(__file__).resolve().parent.parent


@click.command()
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Steps of training.")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds to repeat it with.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for pictures, page and numbers; docs, or build/digits with --quick.",
)
@click.option("--quick", is_flag=True, help="A few points of each experiment, 200 steps, 2 seeds.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes; one a processor.")
@click.option(
    "--load",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="JSON",
    help="Report on an earlier run, train nothing.",
)
@click.option("--no-progress", is_flag=True, help="Draw no progress bar.")
def main(
    steps: int | None,
    seeds: int | None,
    output: Path | None,
    quick: bool,
    jobs: int | None,
    load: Path | None,
    no_progress: bool,
) -> None:
    """Train, judge the claims about batch norm, and draw what happened."""
    output = output or ROOT / ("build/digits" if quick else "docs")
    output.mkdir(parents=True, exist_ok=True)
    if load is not None:
        found = report.load(load)
    else:
        usual = Effort.usual(quick=quick)
        effort = Effort(steps or usual.steps, seeds or usual.seeds, quick)
        found = experiment(effort, jobs or processors(), progress=not no_progress)
    report.save(found, output / report.NUMBERS)
    (output / report.PAGE).write_text(report.page(found), encoding="utf-8")
    from digits_experiments.pictures import draw  # takes a second to import

    draw(found["rows"], output)
    for each in found["claims"]:
        click.secho(f"{each['claim']} It {each['verdict']}.", bold=True)
        click.echo(f"{each['numbers']}\n")
    click.echo(f"written to {output}")


def experiment(effort: Effort, jobs: int, *, progress: bool) -> dict[str, Any]:
    """Train everything, and return what is saved."""
    digits, stacks = load_digits(), plan(effort)
    with progress_bar(progress, sum(each.cost for each in stacks)) as advance:
        curves = run(stacks, digits, jobs, advance)
    found = rows(stacks, curves)
    return report.summary(effort, versions(), found, examine(found, identity_errors(digits)))


@contextmanager
def progress_bar(enabled: bool, total: int) -> Iterator[Callable[[int], None]]:
    """Yield what advances a bar on stderr, if that is a terminal."""
    if not enabled or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("training", total=total)
        yield lambda done: bar.advance(task, done)


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return of what the numbers may depend on."""
    return {
        "normcore": nc.__version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
