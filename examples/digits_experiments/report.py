"""What a run found, as JSON and as the page that quotes it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from .claims import Claim, Row, final, select
from .experiments import Effort

__all__ = ["NUMBERS", "PAGE", "load", "page", "save", "summary"]

NUMBERS, PAGE = "digits.json", "digits.md"
#: A look in the first few hundred steps, for the table of scalers.
EARLY = 100


def summary(
    effort: Effort, versions: dict[str, str], rows: Sequence[Row], claims: Sequence[Claim]
) -> dict[str, Any]:
    """Put together what is saved."""
    return {
        "effort": asdict(effort),
        "versions": versions,
        "claims": [each._asdict() for each in claims],
        "rows": list(rows),
    }


def save(found: dict[str, Any], path: Path) -> None:
    """Write JSON, a line for each claim and row."""
    lines = []
    for key, value in found.items():
        if isinstance(value, list):
            each = ",\n".join(json.dumps(item) for item in value)
            lines.append(f"{json.dumps(key)}: [\n{each}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    """Read it back."""
    return json.loads(path.read_text(encoding="utf-8"))


def page(found: dict[str, Any]) -> str:
    """Return the page, every number of which is of this run."""
    effort, versions, rows = found["effort"], found["versions"], found["rows"]
    usual = asdict(Effort.usual(quick=effort["quick"]))
    command = "python examples/digits.py" + " --quick" * effort["quick"]
    for key in ("steps", "seeds"):
        if effort[key] != usual[key]:
            command += f" --{key} {effort[key]}"
    some = (effort["seeds"] + 1) // 2
    return PAGE_TEXT.format(
        command=command,
        seeds=effort["seeds"],
        some=some,
        steps=effort["steps"],
        half=max(1, effort["steps"] // 2),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        verdicts=_table(
            ("claim", "here"), ((each["claim"], each["verdict"]) for each in found["claims"])
        ),
        claims="\n\n".join(_section(each) for each in found["claims"]),
        scalers=_scalers(rows),
        scaler_spread=_scaler_spread(rows),
        early=_early(rows)[0],
        depths=_depths(rows),
        dropout=_dropout(rows),
    )


def _section(claim: dict[str, str]) -> str:
    """Return a claim, when it counts as held, and what was found."""
    paragraphs = [
        f"It counts as held if {claim['criterion']}. Here it **{claim['verdict']}**.",
        claim["numbers"],
    ]
    wrapped = (textwrap.fill(each, 100, break_on_hyphens=False) for each in paragraphs)
    return "\n\n".join([f"### {claim['claim'].rstrip('.')}", *wrapped])


def _early(rows: Sequence[Row]) -> tuple[int, int]:
    """Return the last look until `EARLY`, and its place."""
    steps = [step for step in select(rows, experiment="scalers")[0]["steps"] if step <= EARLY]
    return steps[-1], len(steps) - 1


def _scalers(rows: Sequence[Row]) -> str:
    place = _early(rows)[1]
    body = []
    for plain in select(rows, experiment="scalers", batch_norm=False):
        (normed,) = select(rows, experiment="scalers", batch_norm=True, scaler=plain["scaler"])
        cells = [
            accuracy
            for row in (plain, normed)
            for accuracy in (median(each[place] for each in row["accuracy"]), final(row))
        ]
        body.append((plain["scaler"], *map(_percent, cells)))
    early, end = f"after {_early(rows)[0]}", "at the end"
    return _table(("input scaler", *(f"{when}, {kind}" for kind in ("without", "with")
                                     for when in (early, end))), body)  # fmt: skip


def _scaler_spread(rows: Sequence[Row]) -> str:
    """Say how far the scalers lie apart, early and at the end."""
    place = _early(rows)[1]
    told = []
    for kind in (False, True):
        chosen = select(rows, experiment="scalers", batch_norm=kind)
        early = [median(each[place] for each in row["accuracy"]) for row in chosen]
        told += [
            f"{100 * (max(each) - min(each)):.1f}" for each in (early, list(map(final, chosen)))
        ]
    return (
        f"From the best to the worst it is {told[0]} points without batch norm and {told[2]} with "
        f"after\n{_early(rows)[0]} steps, and {told[1]} and {told[3]} at the end."
    )


def _depths(rows: Sequence[Row]) -> str:
    rows = select(rows, experiment="depths")
    columns = sorted({(row["learning_rate"], row["std"]) for row in rows})
    kinds = {(row["activation"], row["hidden_layers"], row["batch_norm"]) for row in rows}
    body = []
    for activation, depth, batch_norm in sorted(kinds, key=lambda kind: (kind[0] == "relu", kind)):
        cells = {
            (row["learning_rate"], row["std"]): _percent(final(row))
            for row in select(
                rows, activation=activation, hidden_layers=depth, batch_norm=batch_norm
            )
        }
        kind = (activation, depth, "with" if batch_norm else "without")
        body.append((*kind, *(cells[column] for column in columns)))
    names = (f"rate {rate:g}, std {std:g}" for rate, std in columns)
    return _table(("nonlinearity", "hidden layers", "batch norm", *names), body)


def _dropout(rows: Sequence[Row]) -> str:
    body = []
    for plain in select(rows, experiment="dropout", batch_norm=False):
        (normed,) = select(rows, experiment="dropout", batch_norm=True, dropout=plain["dropout"])
        body.append((f"{plain['dropout']:g}", _percent(final(plain)), _percent(final(normed))))
    return _table(("dropout", "without batch norm", "with"), body)


def _percent(part: float) -> str:
    return f"{100 * part:.1f}%"


def _table(names: Sequence[str], body: Iterable[Sequence[Any]]) -> str:
    lines = [names, ["---"] * len(names), *body]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


PAGE_TEXT = """\
# Batch norm in a real network

What Ioffe and Szegedy, [*Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift*](https://arxiv.org/abs/1502.03167) (2015), claim for batch norm, tried on
real digits with the network of their Figure 1, in NumPy and normcore alone. This page and its
pictures are made by

```
{command}
```

which takes several minutes on two processors and needs the extras `cli`, `report` and `sklearn`;
`--quick` is a taste of it. The numbers are in [digits.json](digits.json), and
`--load docs/digits.json` makes page and pictures of them without training.

## What is trained

Three fully connected layers of 100 sigmoids, then ten classes: stochastic gradient descent on the
cross entropy, batches of 60, Gaussian initial weights of standard deviation 0.1, learning rate 1,
{steps} steps, in float32, unless an experiment varies one of these. Batch norm, where there is one,
stands before each nonlinearity, and then the layer has no bias of its own. Accuracies are taken
with population statistics (Algorithm 2: means and unbiased variances averaged over mini-batches of
one size), and the inputs are scaled by `StandardScaler`.

The data are 1797 images of 8 x 8 pixels. Each seed has a split of its own, 1297 to train and 500
held out, and its own initial weights and batches, the same with batch norm and without. Numbers are
medians over {seeds} seeds, and over {some} for learning rates, initial weights and depths. It is a
small data set: 500 images resolve 0.2%, and the standard error of one accuracy near 97% is 0.8%.
Differences of less than a percent say little.

Versions: {versions}.

## What came of the claims

{verdicts}

"With" and "without" mean batch norm. A network is looked at every 10 or 20 steps at first, and less
often later; it counts as trained from the first look with 90% on.

{claims}

## Accuracy and the inputs of a sigmoid

![Accuracy over steps, and percentiles of the inputs of a sigmoid](digits-training.png)

## Learning rate and initial weights

![Accuracy against learning rate and against the initial weights](digits-sensitivity.png)

## The input scaler

Accuracy of the held-out images after {early} steps and at the end:

{scalers}

{scaler_spread}

![Two columns of a table as they are, centred, and standardized](digits-scaling.png)

What a scaler does, on two columns of the [table of tumours](../examples/data/README.md): centring
moves the cloud to the origin, scaling gives both columns the same spread.

## Depth and saturation

Accuracy after {half} steps, at two learning rates and with two standard deviations of the initial
weights, one that suits ReLUs and one that suits sigmoids:

{depths}

## Dropout

Trained on 300 images, with initial weights of standard deviation 0.4, so that networks without
batch norm are through with learning, too; accuracy of the other 1497:

{dropout}

## The images

scikit-learn's [`load_digits`](https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html)
is a copy of the test set of E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*,
UCI Machine Learning Repository, 1998, <https://doi.org/10.24432/C50P49>, licensed under [CC BY
4.0](https://creativecommons.org/licenses/by/4.0/). They come with scikit-learn, are downloaded by
nobody, and are not part of this repository.
"""
