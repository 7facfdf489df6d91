"""What a run found: the rows, as a table for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .jobs import Job
from .measure import Effort, Measured, Spread
from .peers import OURS, PEERS

__all__ = ["Report", "Row", "chosen", "duration", "markdown", "show"]

Cells = list[str]

#: Words that mark a row.
AMISS = {"FAILED", "FASTER", "MISSED", "NO"}
#: Columns that the full table takes at most.
WIDTH = 220


@dataclass
class Row:
    """One job and what every contestant took for it."""

    job: str
    array: str
    floor: str | None
    target: float | None
    in_chart: bool
    measured: Measured

    @property
    def label(self) -> str:
        """That of the job."""
        return f"{self.job} {self.array}"

    @property
    def ours(self) -> Spread | None:
        """What normcore took; None if it failed."""
        return self.measured.seconds.get(OURS)

    @property
    def cost(self) -> float | None:
        """What a target speaks of: floors, or seconds where there is no floor."""
        if self.ours is None:
            return None
        return self.ours.median / (
            self.measured.seconds[self.floor].median if self.floor is not None else 1.0
        )

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.cost is not None and self.cost <= self.target

    @property
    def peers(self) -> dict[str, float]:
        """How many times our time each peer takes; below 1 it is faster."""
        if self.ours is None:
            return {}
        seconds = self.measured.seconds
        return {name: seconds[name].median / self.ours.median for name in PEERS if name in seconds}

    @property
    def fastest(self) -> float:
        """The least of the peers' ratios."""
        return min(self.peers.values(), default=float("inf"))


@dataclass
class Report:
    """A run: the machine, the command, and the rows; `linear` and `threads` if asked for."""

    machine: dict[str, Any]
    command: str
    effort: Effort
    rows: list[Row] = field(default_factory=list)
    linear: list[dict[str, Any]] = field(default_factory=list)
    threads: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)

    def add(self, job: Job, measured: Measured) -> Row:
        """Add what was measured for a job, and return its row."""
        row = Row(job.name, job.case.label, job.floor, job.target, job.in_chart, measured)
        self.rows.append(row)
        return row

    @property
    def beaten(self) -> list[Row]:
        """Rows in which a peer is faster, the worst first."""
        return sorted((row for row in self.rows if row.fastest < 1), key=lambda row: row.fastest)

    @property
    def missed(self) -> list[Row]:
        """Rows that miss their target, the worst first; failures before all."""
        rows = [row for row in self.rows if row.met is False]
        return sorted(rows, key=lambda row: -(row.cost or float("inf")) / (row.target or 1.0))


# -- cells -------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Write a time with three digits."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} us"


def _header(report: Report) -> Cells:
    return ["job", "array", OURS, "floors", "target", "extra MB", *_compared(report)]


def _compared(report: Report) -> list[str]:
    """Return the peers that have a column: those that took part."""
    return [
        name
        for name in PEERS
        if any(name in {**row.measured.seconds, **row.measured.failed} for row in report.rows)
    ]


def _cells(row: Row, names: Iterable[str]) -> Cells:
    ours = row.ours
    if ours is None:
        return [row.job, row.array, "FAILED", *[""] * 3, *(_peer(row, each) for each in names)]
    extra = row.measured.extra_bytes.get(OURS)
    return [
        row.job,
        row.array,
        f"{duration(ours.median)} {_spread(ours)}",
        "" if row.floor is None else f"{row.cost:.2f} {row.floor}",
        _target(row),
        "" if extra is None else f"{extra / 1e6:.1f}",
        *(_peer(row, each) for each in names),
    ]


def _spread(ours: Spread) -> str:
    """Write half of what lies between the quartiles, as a part of the median."""
    return "once" if ours.rounds == 1 else f"± {(ours.q3 - ours.q1) / 2 / ours.median:.0%}"


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    wanted = f"{row.target:g}" if row.floor is not None else duration(row.target)
    return f"{wanted} {'met' if row.met else 'MISSED'}"


def _peer(row: Row, name: str) -> str:
    if name in row.measured.failed:
        return "fails"
    ratio = row.peers.get(name)
    if ratio is None:
        return ""
    return f"{ratio:.3g}x" if ratio >= 1 else f"FASTER {ratio:.2f}x"


def _linear_cells(each: dict[str, Any]) -> Cells:
    return [
        each["job"],
        *(f"{1e9 * each[name]['seconds_per_element']:.3f}" for name in ("small", "large")),
        f"{each['ratio']:.2f}",
        "" if each["linear"] is None else "yes" if each["linear"] else "NO",
    ]


def _thread_cells(each: dict[str, Any]) -> Cells:
    return [
        each["job"],
        duration(each["one"]["median"]),
        duration(each["all"]["median"]),
        f"{each['speedup']:.2f}",
        "" if each["floor_speedup"] is None else f"{each['floor_speedup']:.2f}",
    ]


def _tables(report: Report) -> list[tuple[str, Cells, list[Cells]]]:
    """Return title, header and rows of every table, what is amiss first."""
    names = _compared(report)
    header = _header(report)
    targets = [row for row in report.rows if row.target is not None]
    parts = [
        (f"Jobs in which a peer is faster: {len(report.beaten)}", report.beaten),
        (f"Targets missed: {len(report.missed)} of {len(targets)}", report.missed),
        (f"All jobs: {len(report.rows)}", report.rows),
    ]
    tables = [(title, header, [_cells(row, names) for row in rows]) for title, rows in parts]
    if report.linear:
        arrays = [report.linear[0][name]["array"] for name in ("small", "large")]
        head = ["job", *(f"ns per element, {each}" for each in arrays), "ratio", "within 15%"]
        tables.append(("Cost against size", head, [_linear_cells(each) for each in report.linear]))
    if report.threads:
        number = report.machine["threads"]["all contestants"]
        head = ["job", "1 thread", f"{number} threads", "speed-up", "its floor's speed-up"]
        rows = [_thread_cells(each) for each in report.threads]
        tables.append(("Cost against threads", head, rows))
    return tables


def _explanation(report: Report) -> str:
    about = report.machine
    versions = ", ".join(f"{name} {each}" for name, each in about["versions"].items() if each)
    compiled = "" if about["core_is_compiled"] else "THE CORE WAS NOT COMPILED. "
    return (
        f"{compiled}{about['processor']}, {about['cpus']} CPUs, "
        f"{about['threads']['all contestants']} threads for every library, "
        f"instruction set {about['instruction_set'] or 'not told'}; "
        f"Python {about['python']}, {versions}; load average {about['load_average_at_start']} at "
        f"the start. Medians of up to {report.effort.repeat} "
        "interleaved rounds, ± half of what lies between the quartiles. Floors: our time over "
        "that of a parallel read sweep or copy of the same array, or of X.copy(). Extra: peak "
        "memory beyond input and output. A peer's figure is its time over ours; FASTER marks "
        "those below 1."
    )


def _failures(report: Report) -> list[str]:
    return [
        f"{name} fails at {row.job} {row.array}: {' '.join(why.split())[:300]}"
        for row in report.rows
        for name, why in row.measured.failed.items()
    ]


def chosen(report: Report) -> str:
    """Write the rows of the chart as a Markdown table, each with its fastest peer."""
    rows = []
    for row in report.rows:
        if row.in_chart and row.ours is not None:
            peer = min(row.peers, key=lambda name: row.peers[name], default=None)
            against = "" if peer is None else f"{peer} {_peer(row, peer)}"
            rows.append([row.job, row.array, *_cells(row, ())[2:5], against])
    return _markdown_table(["job", "array", OURS, "floors", "target", "fastest peer"], rows)


def _markdown_table(header: Cells, rows: list[Cells]) -> str:
    lines = [header, ["---" if i < 2 else "---:" for i in range(len(header))], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# -- writing -----------------------------------------------------------------------------


def show(report: Report) -> None:
    """Print the tables, with rich if it is installed; the full one first, what is amiss last."""
    amiss, missed, everything, *scaling = _tables(report)
    for title, header, rows in [everything, *scaling, missed, amiss]:
        if rows:
            _print_table(title, header, rows)
        else:
            print(title)
    print(*_failures(report), _explanation(report), sep="\n")


def _print_table(title: str, header: Cells, rows: list[Cells]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        print(f"\n{title}")
        for cells in [header, *rows]:
            print("  ".join(map(str.ljust, cells, widths)).rstrip())
        return
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < 2 else "right", no_wrap=True)
    for cells in rows:
        amiss = not AMISS.isdisjoint(" ".join(cells).split())
        table.add_row(*cells, style="red" if amiss else None)
    console = Console()
    console.width = max(console.width, WIDTH)  # a narrow terminal breaks lines, but drops nothing
    console.print(table)


def markdown(report: Report) -> str:
    """Write all tables as Markdown: faster peers first, then missed targets."""
    parts = ["# Every job measured", f"`{report.command}`", _explanation(report)]
    for title, header, rows in _tables(report):
        parts.append(f"### {title}" + (f"\n\n{_markdown_table(header, rows)}" if rows else ""))
    failures = _failures(report)
    if failures:
        parts.append("### Failures\n\n" + "\n".join(f"- {each}" for each in failures))
    return "\n\n".join(parts) + "\n"
