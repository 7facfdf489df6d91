"""A run in a file: one line for the run, then one for each job as soon as it is measured.

Each line is JSON, ``{"run": ...}`` first, then ``{"row": ...}`` for each job and, if asked for,
``{"linear": [...]}`` and ``{"threads": [...]}``, each once, and ``{"tables": [...]}`` of
:mod:`benchmarks.tables`. Lines are only ever added, so a run that ends early leaves all that it
found; a last line that is cut off does not count. A new run replaces the file; a resumed one goes
on with it and measures the jobs that it lacks.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .measure import Effort, Measured, Spread
from .report import Report, Row

__all__ = ["append", "begin", "load", "resume", "save"]


def begin(report: Report, path: Path) -> None:
    """Write the line of a run, in place of what the file had."""
    path.write_text("", encoding="utf-8")
    run = {"machine": report.machine, "command": report.command, "effort": asdict(report.effort)}
    append(path, "run", run)


def append(path: Path, kind: str, value: Any) -> None:
    """Add a line; the rows of a report with what follows from them."""
    if isinstance(value, Row):
        derived = {"cost": value.cost, "met": value.met, "peers": value.peers}
        value = {**asdict(value), "derived": derived}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({kind: value}) + "\n")


def save(report: Report, path: Path) -> None:
    """Write a whole report."""
    begin(report, path)
    for row in report.rows:
        append(path, "row", row)
    for kind in ("linear", "threads"):
        if getattr(report, kind):
            append(path, kind, getattr(report, kind))
    if report.tables:
        append(path, "tables", report.tables)


def load(path: Path) -> Report:
    """Read what was written, of a run that may have ended early.

    Raises
    ------
    ValueError
        If a line is none of such a file, naming it.
    """
    report = None
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            ((kind, value),) = json.loads(line).items()
            if (kind == "run") != (report is None):
                raise ValueError("a file has one run, in its first line")
            if report is None:
                report = Report(**{**value, "effort": Effort(**value["effort"])})
            elif kind == "row":
                report.rows.append(_row(value))
            elif kind in ("linear", "threads") and not getattr(report, kind):
                setattr(report, kind, value)
            elif kind == "tables":  # of benchmarks.tables, which reports itself
                report.tables.extend(value)
            else:
                raise ValueError(f"unexpected {kind!r}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    if report is None:
        raise ValueError(f"{path} has no line of a run")
    return report


def resume(report: Report, path: Path) -> Report:
    """Return the run that a file holds, to go on with; `report` is the same one without rows.

    Raises
    ------
    ValueError
        If the command, the machine or the effort are not those of the file.
    """
    found = load(path)
    now, then = _identity(report), _identity(found)
    differing = [name for name in now.keys() | then if now.get(name) != then.get(name)]
    if differing:
        told = (f"{name} was {then.get(name)}, is {now.get(name)}" for name in sorted(differing))
        raise ValueError(f"{path} is of another run: {'; '.join(told)}")
    path.write_text("".join(_whole_lines(path)), encoding="utf-8")  # without a line cut off
    return found


def _whole_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return lines[:-1] if lines and not lines[-1].endswith("\n") else lines


def _row(stored: dict[str, Any]) -> Row:
    del stored["derived"]
    measured = stored["measured"]
    seconds = {name: Spread(**each) for name, each in measured.pop("seconds").items()}
    return Row(**{**stored, "measured": Measured(seconds=seconds, **measured)})


def _identity(report: Report) -> dict[str, Any]:
    """Return what two parts of a run have in common."""
    machine = {name: each for name, each in report.machine.items() if "load_average" not in name}
    return {**machine, "command": report.command, **asdict(report.effort)}
