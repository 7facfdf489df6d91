"""What was measured: as a table, next to the targets, and as a chart.

    python -m benchmarks.gpu.report RESULTS.jsonl [--page]

makes gpu.json and gpu.png beside the rows, of a run that came to its end or of one that did not;
``--page`` writes the figures into docs/gpu.md, and draws docs/gpu.png.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu import common, page
from benchmarks.gpu.rows import Row, read

__all__ = ["Target", "drawn", "show", "show_targets", "targets", "write"]

#: Targets hold for arrays of so many bytes and more.
LEAST_BYTES = 64_000_000
#: Targets as shares of the copy's bandwidth.
SHARES = {"rescale": 0.95, "moments": 0.95, "extrema": 0.95, "layer norm": 0.9}
#: Job, library, and how many times as fast normcore has to be, on arrays of which size.
PEERS = (
    ("forward", "torch eager", 1, 0),
    ("backward", "torch eager", 1, 0),
    ("forward", "torch cuDNN", 1, 0),
    ("backward", "torch cuDNN", 1, 0),
    ("layer norm backward", "torch eager", 1, 0),
    ("quartiles", "cupy", 10, LEAST_BYTES),
)


class Target(NamedTuple):
    """A target, and the range of what was measured; ``met`` is None where nothing was."""

    job: str
    target: str
    least: float | None
    most: float | None
    comparisons: int
    met: bool | None


def targets(rows: Sequence[Row]) -> list[Target]:
    """Return each target with what was measured on arrays that are large enough."""
    good = [row for row in rows if row.error is None]
    found = []
    for job, share in SHARES.items():
        shares = [
            row.share_of_copy
            for row in good
            if (row.job, row.library) == (job, "normcore") and _num_bytes(row) >= LEAST_BYTES
        ]
        found.append(_target(job, f"{share:.0%} of a copy's bandwidth", shares, share))
    by_key = {row.key: row for row in good}
    for job, peer, factor, least in PEERS:
        ratios = [
            theirs.best / row.best
            for row in good
            if (row.job, row.library) == (job, "normcore") and _num_bytes(row) >= least
            if (theirs := by_key.get((*row.key[:3], peer))) is not None
        ]
        words = f"{factor} times as fast as {peer}" if factor > 1 else f"faster than {peer}"
        found.append(_target(job, words, ratios, factor))
    return found


def _num_bytes(row: Row) -> int:
    return math.prod(row.shape) * np.dtype(row.dtype.split()[0]).itemsize


def _target(job: str, words: str, figures: list[float], least: float) -> Target:
    if not figures:
        return Target(job, words, None, None, 0, None)
    low, high = min(figures), max(figures)
    return Target(job, words, low, high, len(figures), low >= least)


def show(rows: Sequence[Row]) -> None:
    """Print every measurement."""
    for row in rows:
        shape = "x".join(map(str, row.shape))
        words = f"{row.job:20} {shape:>15} {row.dtype:21} {row.library:22} "
        if row.error is not None:
            print(f"{words}FAILED: {row.error}", flush=True)
            continue
        graph = row.graph_milliseconds
        replayed = "   no graph" if graph is None else f"{graph:8.4f} ms"
        print(
            f"{words}{row.milliseconds:9.4f} ms  graph {replayed}  host "
            f"{row.host_microseconds:7.0f} us {row.gigabytes_per_second:6.0f} GB/s "
            f"{row.share_of_copy:5.0%} of a copy",
            flush=True,
        )


def show_targets(found: Sequence[Target], launches: dict[str, int]) -> None:
    """Print the short table: each job with its target, the range measured, and its launches."""
    print(f"\n{'job':20} {'target':30} {'measured':>18} {'met':>5} {'launches':>9}")
    for each in found:
        measured, met = _range(each) or "not measured", "-"
        if each.met is not None:
            met = "yes" if each.met else "no"
        print(
            f"{each.job:20} {each.target:30} {measured:>18} {met:>5} "
            f"{launches.get(each.job, '-'):>9}"
        )


def write(path: Path, to_page: bool = False) -> None:
    """Make the summary and the chart beside a file of rows, and put both on the page."""
    rows, rest = read(path)
    summary = rest | {
        "targets": [each._asdict() for each in targets(rows)],
        "rows": [row._asdict() for row in rows],
    }
    path.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    chart = path.with_suffix(".png")
    title = rest.get("machine", {}).get("device", "")
    print("chart:", chart if drawn(rows, title, chart) else "not drawn, matplotlib is missing")
    show_targets(targets(rows), rest.get("launches", {}))
    if to_page:
        date = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC).date().isoformat()
        text = for_page(rows, rest["machine"], date)
        if drawn(rows, title, page.PAGE.with_name("gpu.png")):
            text += "\n\n![Shares of the bandwidth of a copy](gpu.png)"
        page.put("measured", text)
        page.put("status", "Figures are [measured](#measured), where there are any.")


def for_page(rows: Sequence[Row], machine: dict[str, Any], date: str) -> str:
    """Return the figures as the page shows them: targets, then each job beside its peers."""
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("python", "cupy", "torch", "numpy") if machine[name]
    )
    lines = [
        f"Measured {date} on one {machine['device']} (compute capability "
        f"{machine['compute_capability']}), CUDA {machine['runtime'] / 1000:.1f}, {versions}.",
        "",
        "| job | asked, of arrays that are large enough | measured | comparisons | met |",
        "|---|---|---|---|---|",
    ]
    for each in targets(rows):
        words = "yes" if each.met else "not measured" if each.met is None else "no"
        lines.append(
            f"| {each.job} | {each.target} | {_range(each)} | {each.comparisons} | {words} |"
        )
    lines += [
        "",
        "| job | array | library | back to back, ms | graph, ms | host, us | of a copy "
        "| normcore's time / its |",
        "|---|---|---|---|---|---|---|---|",
    ]
    good = {row.key: row for row in rows if row.error is None and row.job != "copy"}
    for key, row in sorted(good.items()):
        ours = good.get((*key[:3], "normcore"))
        ratio = f"{ours.best / row.best:.2f}" if ours is not None and ours is not row else ""
        graph = "" if row.graph_milliseconds is None else f"{row.graph_milliseconds:.4f}"
        shape = "x".join(map(str, row.shape))
        lines.append(
            f"| {row.job} | {shape} {row.dtype} | {row.library} | {row.milliseconds:.4f} | {graph} "
            f"| {row.host_microseconds:.0f} | {row.share_of_copy:.0%} | {ratio} |"
        )
    failed = [row for row in rows if row.error is not None]
    if failed:
        lines += ["", "What failed:", ""]
    for row in failed:
        shape = "x".join(map(str, row.shape))
        lines.append(f"- {row.job}, {shape} {row.dtype}, {row.library}: {row.error}")
    return "\n".join(lines)


def _range(target: Target) -> str:
    if target.least is None:
        return ""
    unit = ".0%" if target.target.endswith("bandwidth") else ".2f"
    return f"{target.least:{unit}} to {target.most:{unit}}"


def drawn(rows: Sequence[Row], title: str, path: Path) -> bool:
    """Draw the share of a copy's bandwidth by job; False without matplotlib."""
    if common.optional("matplotlib") is None:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if row.job != "copy" and row.error is None]
    libraries = sorted({row.library for row in rows})
    labels = sorted({row.key[:3] for row in rows})
    figure, axes = pyplot.subplots(figsize=(10, 0.32 * len(labels) + 1.5), layout="constrained")
    for library in libraries:
        points = [
            (row.share_of_copy, labels.index(row.key[:3])) for row in rows if row.library == library
        ]
        axes.scatter(*zip(*points, strict=True), label=library, s=22)
    axes.set_xlim(0.0, 1.3)  # what the L2 serves may be more
    axes.axvline(min(SHARES.values()), color="gray", linewidth=0.8)
    axes.set_yticks(
        range(len(labels)),
        [f"{job}  {'x'.join(map(str, shape))}  {dtype}" for job, shape, dtype in labels],
        fontsize=7,
    )
    axes.set_xlabel("share of the bandwidth of a copy (bytes that the job must move)")
    axes.set_title(title)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    write(options.results, options.page)
