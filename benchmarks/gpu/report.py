"""What was measured: as a table, next to the targets, and as a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np

__all__ = ["SHARE", "Row", "Target", "drawn", "show", "show_targets", "targets"]

#: Target as a share of the copy's bandwidth.
SHARE = 0.85
#: Targets hold for arrays of so many bytes and more.
LEAST_BYTES = 1_000_000


class Row(NamedTuple):
    """One measurement."""

    job: str
    shape: tuple[int, ...]
    dtype: str
    library: str
    milliseconds: float
    gigabytes_per_second: float
    share_of_copy: float


class Target(NamedTuple):
    """A target, and the range of what was measured; ``met`` is None where nothing was."""

    job: str
    target: str
    least: float | None
    most: float | None
    comparisons: int
    met: bool | None


def targets(rows: Sequence[Row]) -> list[Target]:
    """Return each target of arrays that are large enough, with what was measured."""
    large = [
        row
        for row in rows
        if math.prod(row.shape) * np.dtype(row.dtype.split()[0]).itemsize >= LEAST_BYTES
    ]
    ours = [row for row in large if row.library == "normcore"]
    found = []
    for job in ("moments", "extrema", "rescale"):
        shares = [row.share_of_copy for row in ours if row.job == job]
        found.append(_target(job, f"{SHARE:.0%} of a copy's bandwidth", shares, SHARE))
    peers = ("forward", "torch", 1), ("backward", "torch", 1), ("quartiles", "cupy", 10)
    for job, peer, factor in peers:
        ratios = [
            theirs.milliseconds / row.milliseconds
            for row in ours
            for theirs in large
            if row.job == job and row[:3] == theirs[:3] and theirs.library.startswith(peer)
        ]
        words = f"{factor} times as fast as {peer}" if factor > 1 else f"no slower than {peer}"
        found.append(_target(job, words, ratios, factor))
    return found


def _target(job: str, words: str, figures: list[float], least: float) -> Target:
    if not figures:
        return Target(job, words, None, None, 0, None)
    low, high = min(figures), max(figures)
    return Target(job, words, low, high, len(figures), low >= least)


def show(rows: Sequence[Row]) -> None:
    """Print every measurement."""
    for row in rows:
        shape = "x".join(map(str, row.shape))
        print(
            f"{row.job:18} {shape:>16} {row.dtype:22} {row.library:13} "
            f"{row.milliseconds:9.3f} ms {row.gigabytes_per_second:8.0f} GB/s "
            f"{row.share_of_copy:6.0%} of a copy"
        )


def show_targets(found: Sequence[Target], launches: dict[str, int]) -> None:
    """Print the short table: each job with its target, the range measured, and its launches."""
    print(f"\n{'job':10} {'target':30} {'measured':>18} {'met':>5} {'launches':>9}")
    for each in found:
        measured, met = "not measured", "-"
        if each.least is not None:
            unit = ".0%" if each.target.endswith("bandwidth") else ".2f"
            measured = f"{each.least:{unit}} to {each.most:{unit}}"
            met = "yes" if each.met else "no"
        print(
            f"{each.job:10} {each.target:30} {measured:>18} {met:>5} "
            f"{launches.get(each.job, '-'):>9}"
        )


def drawn(report: dict[str, Any], path: Path) -> bool:
    """Draw the share of a copy's bandwidth by job; False without matplotlib."""
    if common.optional("matplotlib") is None:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in report["rows"] if row["job"] != "copy"]
    libraries = sorted({row["library"] for row in rows})
    labels = sorted({(row["job"], row["shape"], row["dtype"]) for row in rows})
    figure, axes = pyplot.subplots(figsize=(10, 0.32 * len(labels) + 1.5), layout="constrained")
    for library in libraries:
        points = [
            (row["share_of_copy"], labels.index((row["job"], row["shape"], row["dtype"])))
            for row in rows
            if row["library"] == library
        ]
        axes.scatter(*zip(*points, strict=True), label=library, s=22)
    axes.axvline(report["target_share_of_copy"], color="gray", linewidth=0.8)
    axes.set_yticks(
        range(len(labels)),
        [f"{job}  {'x'.join(map(str, shape))}  {dtype}" for job, shape, dtype in labels],
        fontsize=7,
    )
    axes.set_xlabel("share of the bandwidth of a copy (bytes that the job must move)")
    axes.set_title(report["machine"]["device"])
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return True
