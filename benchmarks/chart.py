"""The chart: jobs that have a target, each contestant's time in floors, on a logarithmic axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .peers import OURS, PEERS
from .report import Report, Row

__all__ = ["draw"]

#: Colours that differ for the colour-blind too (Okabe and Ito), and marks that differ in print.
STYLES = {
    OURS: ("#D55E00", "D", 64),
    "scikit-learn": ("#0072B2", "o", 36),
    "scikit-learn-intelex": ("#56B4E9", "v", 36),
    "polars": ("#CC79A7", "s", 32),
    "numbagg": ("#009E73", "^", 38),
    "NumPy": ("#999999", "X", 38),
    "PyTorch": ("#000000", "P", 42),
}
GRID = "#DDDDDD"


def draw(report: Report, path: Path) -> bool:
    """Draw the rows that are meant for the chart; False without matplotlib or without rows."""
    with_floor = [row for row in report.rows if row.in_chart and row.ours and row.floor]
    without = [row for row in report.rows if row.in_chart and row.ours and not row.floor]
    panels = [(rows, unit) for rows, unit in ((with_floor, 1.0), (without, 1e-6)) if rows]
    if not panels:
        return False
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [len(rows) + 0.2 for rows, _ in panels]
    figure, axes = pyplot.subplots(
        len(panels),
        squeeze=False,
        figsize=(10, 0.36 * sum(heights) + 0.7 * len(panels) + 0.9),
        height_ratios=heights,
        layout="constrained",
    )
    for (rows, unit), each in zip(panels, axes[:, 0], strict=True):
        _panel(each, rows, unit)
    axes[0, 0].set_xlabel(
        "time over that of a parallel read (fit), a parallel copy (out=) or X.copy() of the array"
    )
    if with_floor and without:
        axes[1, 0].set_xlabel("microseconds a call")
    elif without:
        axes[0, 0].set_xlabel("microseconds a call")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    about = report.machine
    figure.supxlabel(
        f"{about['processor']}, {about['threads']['all contestants']} threads, "
        f"{about['instruction_set'] or 'instruction set not told'}",
        fontsize=8,
        color="#666666",
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return True


def _panel(axes: Any, rows: list[Row], unit: float) -> None:
    """Draw one row of marks for each job, the first job on top."""
    places = range(len(rows))
    axes.set_xscale("log")
    axes.hlines(places, 0, 1, transform=axes.get_yaxis_transform(), color=GRID, linewidth=0.8)
    for name in [*PEERS, OURS]:  # ours last: on top
        points = [
            (row.measured.seconds[name].median / _one(row, unit), place)
            for row, place in zip(rows, places, strict=True)
            if name in row.measured.seconds
        ]
        if points:
            color, marker, size = STYLES[name]
            axes.scatter(
                *zip(*points, strict=True), label=name, c=color, marker=marker, s=size, zorder=3
            )
    for row, place in zip(rows, places, strict=True):
        assert row.target is not None
        target = row.target if row.floor else row.target / unit
        axes.vlines(
            target,
            place - 0.36,
            place + 0.36,
            color="#D55E00",
            linewidth=1.6,
            label=None if place else "target",
        )
    axes.set_yticks(places, [f"{row.job}  {row.array}" for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _one(row: Row, unit: float) -> float:
    """Return the seconds that stand at 1 on the axis."""
    return row.measured.seconds[row.floor].median if row.floor else unit
