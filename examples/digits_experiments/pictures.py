"""Three pictures: training, what it is sensitive to, and what scaling does to data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import normcore as nc

from .claims import GOOD, Row, select
from .training import PERCENTILES

__all__ = ["NAMES", "draw"]

matplotlib.use("Agg")
from matplotlib import pyplot

NAMES = ("digits-training.png", "digits-sensitivity.png", "digits-scaling.png")
TUMOURS = Path(__file__).resolve().parent.parent / "data" / "breast_cancer.csv"
#: Colours that differ for the colour-blind too (Okabe and Ito), and marks that differ in print.
STYLES = {
    True: {"label": "with batch norm", "color": "#D55E00", "marker": "D", "linestyle": "-"},
    False: {"label": "without batch norm", "color": "#0072B2", "marker": "o", "linestyle": "--"},
}
GRID = "#DDDDDD"


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Draw all three from the rows of a run."""
    for name, function in zip(NAMES, (_training, _sensitivity, _scaling), strict=True):
        figure = function(rows)
        figure.savefig(folder / name, dpi=110)
        pyplot.close(figure)


def _panels(count: int, **options: Any) -> tuple[Any, Any]:
    figure, axes = pyplot.subplots(1, count, layout="constrained", **options)
    for each in axes:
        each.grid(color=GRID, linewidth=0.6)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _training(rows: Sequence[Row]) -> Any:
    """Draw accuracy over steps, and the percentiles of the inputs of a unit (Figure 1 a, b, c)."""
    figure, axes = _panels(3, figsize=(12, 3.9))
    extent = []  # the same for both, so that they compare
    for row in select(rows, experiment="scalers", scaler="standard"):
        style = {**STYLES[row["batch_norm"]], "marker": None}
        steps, accuracy = np.array(row["steps"]), np.array(row["accuracy"])
        axes[0].plot(steps, np.median(accuracy, axis=0), **style)
        axes[0].fill_between(
            steps, accuracy.min(axis=0), accuracy.max(axis=0),
            color=style["color"], alpha=0.2, linewidth=0,
        )  # fmt: skip
        percentiles = np.array(row["percentiles"])
        panel = axes[2 if row["batch_norm"] else 1]
        low, middle, high = percentiles.T
        panel.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
        for each, percentile in zip((low, middle, high), PERCENTILES, strict=True):
            width = 2.0 if percentile == 50 else 1.0
            panel.plot(steps, each, color=style["color"], linewidth=width)
            panel.annotate(
                f"{percentile}%", (steps[-1], each[-1]), xytext=(4, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        extent += [percentiles.min(), percentiles.max()]
        panel.set_title(f"a typical sigmoid, {style['label']}", fontsize=10)
        panel.set_ylabel("percentiles of its input")
    seeds = len(row["accuracy"])
    axes[0].set_title(f"median and range of {seeds} seeds", fontsize=10)
    axes[0].set_ylabel("accuracy of held-out digits")
    axes[0].set_ylim(0, 1)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    margin = 0.05 * (max(extent) - min(extent))
    for each in axes[1:]:
        each.set_ylim(min(extent) - margin, max(extent) + margin)
    for each in axes:
        each.set_xscale("symlog", linthresh=100, linscale=1)
        each.set_xlim(0, steps[-1])
        ticks = [tick for tick in (0, 50, 100, 200, 500, 2000, 5000) if tick <= steps[-1]]
        each.set_xticks(ticks, [f"{tick}" for tick in ticks])
        each.minorticks_off()
        each.set_xlabel("step (logarithmic from 100 on)")
    return figure


def _sensitivity(rows: Sequence[Row]) -> Any:
    """Draw the last accuracy against learning rate and initial weights."""
    figure, axes = _panels(2, figsize=(10, 4), sharey=True)
    for panel, experiment, key, name in (
        (axes[0], "rates", "learning_rate", "learning rate"),
        (axes[1], "stds", "std", "standard deviation of the initial weights"),
    ):
        for batch_norm, style in STYLES.items():
            chosen = select(rows, experiment=experiment, batch_norm=batch_norm)
            x = [row[key] for row in chosen]
            last = np.array([[each[-1] for each in row["accuracy"]] for row in chosen])
            panel.plot(x, np.median(last, axis=1), markersize=6, **style)
            panel.fill_between(
                x, last.min(axis=1), last.max(axis=1),
                color=style["color"], alpha=0.2, linewidth=0,
            )  # fmt: skip
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel(name)
        panel.axhline(GOOD, color="#666666", linewidth=0.8, linestyle=":")
        panel.axhline(0.1, color="#666666", linewidth=0.8, linestyle=":")
    steps, seeds = chosen[0]["steps"][-1], len(chosen[0]["accuracy"])
    axes[0].set_ylabel(f"accuracy after {steps} steps\n(median and range of {seeds} seeds)")
    axes[0].set_ylim(0, 1.02)
    for height, name in ((GOOD, f"{GOOD:.0%}"), (0.1, "chance")):
        axes[1].annotate(
            name, (1, height), xycoords=axes[1].get_yaxis_transform(), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=9, color="#444444",
        )  # fmt: skip
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _scaling(rows: Sequence[Row]) -> Any:
    """Draw two columns of a real table: as they are, centred, and standardized."""
    table = np.genfromtxt(TUMOURS, delimiter=",", names=True, dtype=None, encoding="utf-8")
    names = ("mean_perimeter", "mean_texture")
    raw = np.column_stack([table[name] for name in names])
    stages = (
        ("as they are", raw),
        ("centred: StandardScaler(with_std=False)", _fitted(raw, with_std=False)),
        ("centred and scaled: StandardScaler()", _fitted(raw)),
    )
    malignant = table["diagnosis"] == "malignant"
    figure, axes = _panels(3, figsize=(12, 4.2))
    for panel, (title, values) in zip(axes, stages, strict=True):
        for which, label, color, marker in (
            (~malignant, "benign", "#0072B2", "o"),
            (malignant, "malignant", "#D55E00", "^"),
        ):
            panel.scatter(
                *values[which].T, s=16, c=color, marker=marker, alpha=0.6, linewidth=0, label=label
            )
        panel.axhline(0, color="black", linewidth=0.8)
        panel.axvline(0, color="black", linewidth=0.8)
        # The first two alike, so that centring is seen to move the cloud and no more.
        shown = values if values is stages[-1][1] else np.vstack([raw, stages[1][1]])
        margin = 0.05 * np.ptp(shown)
        limits = shown.min() - margin, shown.max() + margin
        panel.set(xlim=limits, ylim=limits, aspect="equal")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(names[0].replace("_", " "))
        panel.set_ylabel(names[1].replace("_", " "))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False)
    return figure


def _fitted(values: np.ndarray, **parameters: Any) -> np.ndarray:
    return nc.StandardScaler(**parameters).fit_transform(values)
