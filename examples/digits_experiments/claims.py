"""The claims about batch norm, and what the rows of results say about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import normcore as nc

from .data import Digits

__all__ = ["GOOD", "Claim", "Row", "examine", "final", "identity_errors", "select", "steps_to_good"]

Row = dict[str, Any]

#: The accuracy from which a network counts as trained.
GOOD = 0.9
NEVER = float("inf")
HELD, PARTLY, NOT_HELD = "held", "held in part", "did not hold"


class Claim(NamedTuple):
    """A claim, when it counts as held, whether it did, and by which numbers."""

    claim: str
    criterion: str
    verdict: str
    numbers: str


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Return the rows with these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def final(row: Row) -> float:
    """Return the median over seeds of the last accuracy."""
    return median(each[-1] for each in row["accuracy"])


def steps_to_good(row: Row) -> list[float]:
    """Return, for each seed, the first look at which the network counts as trained."""
    return [
        next((step for step, now in zip(row["steps"], each, strict=True) if now >= GOOD), NEVER)
        for each in row["accuracy"]
    ]


def examine(rows: Sequence[Row], identity: dict[str, float]) -> list[Claim]:
    """Judge every claim."""
    checks: list[Callable[[Sequence[Row]], Claim]] = [
        _faster,
        _steadier,
        _higher_rates,
        _initial_weights,
        _saturating,
        _deeper,
        _less_dropout,
    ]
    return [*(check(rows) for check in checks), _identity(identity)]


def _verdict(*held: bool) -> str:
    return HELD if all(held) else PARTLY if any(held) else NOT_HELD


def _both(rows: Iterable[Row], **wanted: Any) -> tuple[list[Row], list[Row]]:
    """Return the rows without and those with batch norm."""
    rows = select(rows, **wanted)
    return select(rows, batch_norm=False), select(rows, batch_norm=True)


def _faster(rows: Sequence[Row]) -> Claim:
    (plain,), (normed,) = _both(rows, experiment="scalers", scaler="standard")
    same = [steps_to_good(each) for each in (plain, normed)]
    tried = _both(row for row in rows if row["experiment"] in ("rates", "stds"))
    best = [min(each, key=lambda row: median(steps_to_good(row))) for each in tried]
    quickest = [median(steps_to_good(each)) for each in best]
    numbers = (
        f"At the same setting (learning rate {plain['learning_rate']:g}, initial weights of "
        f"standard deviation {plain['std']:g}) the median over {len(same[0])} seeds is "
        f"{_steps(median(same[0]))} without ({_steps(min(same[0]))} to {_steps(max(same[0]))}) and "
        f"{_steps(median(same[1]))} with ({_steps(min(same[1]))} to {_steps(max(same[1]))}). At "
        f"the best of all learning rates and standard deviations tried, each for itself, it is "
        f"{_steps(quickest[0])} without (at {_where(best[0])}) and {_steps(quickest[1])} with (at "
        f"{_where(best[1])}). After {plain['steps'][-1]} steps at the same setting the accuracy is "
        f"{_percent(final(plain))} without and {_percent(final(normed))} with."
    )
    return Claim(
        "Networks converge faster.",
        f"it takes fewer steps to {GOOD:.0%} of the held-out images, at the same setting and at "
        "the best",
        _verdict(median(same[1]) < median(same[0]), quickest[1] < quickest[0]),
        numbers,
    )


def _steadier(rows: Sequence[Row]) -> Claim:
    (plain,), (normed,) = _both(rows, experiment="scalers", scaler="standard")
    drift = [median(each["drift"]) for each in (plain, normed)]
    saturated = [median(each["saturated"]) for each in (plain, normed)]
    return Claim(
        "The distribution of what a nonlinearity gets is more stable (Figure 1 b, c).",
        "the median of the inputs of a unit of the last hidden layer moves less in training, in "
        "units of their mean spread from the 15th percentile to the 85th",
        _verdict(drift[1] < drift[0]),
        f"It moves by {drift[0]:.2f} spreads without and {drift[1]:.2f} with (median over units "
        f"and seeds). At the end {_percent(saturated[0])} of these inputs lie beyond +-4, where "
        f"the sigmoid is flat, without and {_percent(saturated[1])} with.",
    )


def _higher_rates(rows: Sequence[Row]) -> Claim:
    good = [_good(each, "learning_rate") for each in _both(rows, experiment="rates")]
    top = [max(each, default=0.0) for each in good]
    return Claim(
        "Higher learning rates are tolerated.",
        f"the highest rate with {GOOD:.0%} at the end is higher",
        _verdict(top[1] > top[0]),
        f"Without, these rates of those tried reach it: {_list(good[0])}. With: {_list(good[1])}.",
    )


def _initial_weights(rows: Sequence[Row]) -> Claim:
    kinds = _both(rows, experiment="stds")
    good = [_good(each, "std") for each in kinds]
    widths = [max(each) / min(each) if each else 0.0 for each in good]
    worst = [min(map(final, each)) for each in kinds]
    return Claim(
        "Training depends less on the initial weights.",
        f"the standard deviations with {GOOD:.0%} at the end span a wider range",
        _verdict(widths[1] > widths[0]),
        f"Without, these of those tried reach it: {_list(good[0])}. With: {_list(good[1])}. The "
        f"worst of all has {_percent(worst[0])} without and {_percent(worst[1])} with.",
    )


def _saturating(rows: Sequence[Row]) -> Claim:
    depths = sorted({row["hidden_layers"] for row in select(rows, experiment="depths")})
    told, gains = [], []
    for depth in depths:
        plain, normed = (
            _best(each)
            for each in _both(rows, experiment="depths", hidden_layers=depth, activation="sigmoid")
        )
        relu, _ = _both(rows, experiment="depths", hidden_layers=depth, activation="relu")
        told.append(
            f"{depth}: {_percent(plain)} without, {_percent(normed)} with ({_percent(_best(relu))} "
            "for ReLU without)"
        )
        gains.append(plain < GOOD <= normed)
    return Claim(
        "Saturating nonlinearities become usable.",
        f"at some depth, sigmoids miss {GOOD:.0%} at every learning rate and initial weights "
        "without, and reach it with",
        _verdict(any(gains)),
        "Sigmoids at the best learning rate and initial weights, by the number of hidden layers: "
        f"{'; '.join(told)}.",
    )


def _deeper(rows: Sequence[Row]) -> Claim:
    told, held = [], []
    for activation, name in (("sigmoid", "Sigmoids"), ("relu", "ReLUs")):
        plain, normed = (
            [row for row in each if final(row) >= GOOD]
            for each in _both(rows, experiment="depths", activation=activation)
        )
        deepest = [
            max((row["hidden_layers"] for row in each), default=0) for each in (plain, normed)
        ]
        count = len(select(rows, experiment="depths", activation=activation, batch_norm=True))
        told.append(
            f"{name} reach it with up to {deepest[0]} hidden layers without and {deepest[1]} with, "
            f"and at {len(plain)} and {len(normed)} of {count} combinations of depth, learning "
            "rate and initial weights"
        )
        held.append(deepest[1] > deepest[0])
    return Claim(
        "Deeper networks train.",
        f"the deepest network with {GOOD:.0%} at some learning rate and initial weights is "
        "deeper, of sigmoids and of ReLUs",
        _verdict(*held),
        f"{'. '.join(told)}.",
    )


def _less_dropout(rows: Sequence[Row]) -> Claim:
    told, gains = [], []
    for kind, name in zip(_both(rows, experiment="dropout"), ("Without", "With"), strict=True):
        (none,) = select(kind, dropout=0.0)
        best = max((row for row in kind if row["dropout"]), key=final)
        differences = [
            after[-1] - before[-1]
            for before, after in zip(none["accuracy"], best["accuracy"], strict=True)
        ]
        gains.append(median(differences))
        told.append(
            f"{name} batch norm, {_percent(final(none))} without dropout "
            f"({_percent(median(none['train_accuracy']))} of the training images) and "
            f"{_percent(final(best))} at the best rate, {best['dropout']:g}: the median over seeds "
            f"of the gain is {100 * gains[-1]:+.2f} points "
            f"({100 * min(differences):+.2f} to {100 * max(differences):+.2f})"
        )
    return Claim(
        "Less dropout is needed.",
        "dropout improves the accuracy without batch norm, and less with",
        _verdict(gains[0] > 0 and gains[1] < gains[0]),
        f"Trained on 300 images, so that there is something to regularize. {'. '.join(told)}.",
    )


def identity_errors(digits: Digits) -> dict[str, float]:
    """Return by how much the batch norm that represents the identity misses its input.

    In units of the dtype's epsilon times the largest value.
    """
    errors = {}
    for dtype in (np.float64, np.float32):
        x = digits.images.astype(dtype)
        bn = nc.BatchNorm(x.shape[1])
        moments = nc.functional.moments(x, channel_axis=1)
        bn.gamma, bn.beta = np.sqrt(moments.var() + bn.eps), moments.mean
        unit = np.finfo(dtype).eps * np.abs(x).max()
        errors[np.dtype(dtype).name] = float(np.abs(bn(x) - x).max() / unit)
    return errors


def _identity(errors: dict[str, float]) -> Claim:
    told = [f"{error:.2g} in {dtype}" for dtype, error in errors.items()]
    return Claim(
        "The identity is representable: gamma = sqrt(var + eps) and beta = mean give the input "
        "back.",
        "the largest error over all digits is at most 2 epsilons of the largest value",
        _verdict(all(error <= 2 for error in errors.values())),
        f"It is {' and '.join(told)} epsilons.",
    )


def _good(rows: Iterable[Row], key: str) -> list[float]:
    return [row[key] for row in rows if final(row) >= GOOD]


def _best(rows: Iterable[Row]) -> float:
    return max(map(final, rows))


def _percent(part: float) -> str:
    return f"{100 * part:.1f}%"


def _steps(number: float) -> str:
    return "never" if number == NEVER else f"{number:g} steps"


def _where(row: Row) -> str:
    return f"rate {row['learning_rate']:g}, standard deviation {row['std']:g}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{each:g}" for each in values) or "none"
