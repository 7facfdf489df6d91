"""What is trained: stacks of networks, and a row of results for each kind of network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from .data import SCALERS, Digits
from .training import Architecture, Curves, Setting, train

__all__ = ["Effort", "Stack", "plan", "rows", "run"]

#: Networks that are trained side by side: enough to be fast, few enough for a processor's cache.
WIDTH = 10


@dataclass(frozen=True)
class Effort:
    """How much to train."""

    steps: int = 2000
    seeds: int = 10
    quick: bool = False  # a few points of each experiment

    @classmethod
    def usual(cls, *, quick: bool) -> Effort:
        """Return what is trained unless asked otherwise."""
        return cls(200, 2, quick=True) if quick else cls()


class Grid(NamedTuple):
    """What each experiment varies."""

    scalers: tuple[str, ...] = tuple(SCALERS)
    rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    stds: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    depths: tuple[int, ...] = (1, 3, 6, 12)
    deep_rates: tuple[float, ...] = (0.1, 1.0)
    # Gradients keep their size, nearly, through a layer of ReLUs, and through one of sigmoids,
    # whose slope is at most 1/4: 1 / sqrt(units) and 4 / sqrt(units).
    deep_stds: tuple[float, ...] = (0.1, 0.4)
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5)


QUICK = Grid(
    scalers=("none", "standard"),
    rates=(0.1, 1.0, 10.0),
    stds=(0.01, 0.1, 1.0),
    depths=(3, 6),
    deep_stds=(0.4,),
    dropouts=(0.0, 0.25),
)


class Stack(NamedTuple):
    """Networks that are trained together, of one experiment."""

    experiment: str
    architecture: Architecture
    settings: tuple[Setting, ...]
    looks: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Steps of a fully connected hidden layer."""
        return len(self.settings) * self.looks[-1] * self.architecture.hidden_layers


def plan(effort: Effort) -> list[Stack]:
    """Return all that is to be trained, the same stacks whoever trains them."""
    grid = QUICK if effort.quick else Grid()
    steps, seeds, some_seeds = effort.steps, range(effort.seeds), range((effort.seeds + 1) // 2)
    often = [*range(0, 200, 10), *range(200, 500, 50), *range(500, steps, 100)]
    seldom = [0, *range(20, 200, 20), *range(200, 500, 50), *range(500, steps, 500)]
    found = [
        *_stacks("scalers", _settings(seeds, scaler=grid.scalers), often, steps),
        *_stacks("rates", _settings(some_seeds, learning_rate=grid.rates), seldom, steps),
        *_stacks("stds", _settings(some_seeds, std=grid.stds), seldom, steps),
    ]
    settings = _settings(some_seeds, learning_rate=grid.deep_rates, std=grid.deep_stds)
    for depth, activation in product(grid.depths, ("sigmoid", "relu")):
        layers = {"hidden_layers": depth, "activation": activation}
        found += _stacks("depths", settings, seldom, max(1, steps // 2), **layers)
    settings = _settings(seeds, std=grid.deep_stds[-1:])
    for dropout in grid.dropouts:
        found += _stacks("dropout", settings, [0], steps, dropout=dropout, num_train=300)
    return found


def _stacks(
    experiment: str, settings: list[Setting], looks: Iterable[int], last: int, **architecture: Any
) -> Iterator[Stack]:
    """Yield the settings, `WIDTH` at a time, without batch norm and with."""
    looks = (*(each for each in looks if each < last), last)
    for batch_norm, start in product((False, True), range(0, len(settings), WIDTH)):
        kind = Architecture(batch_norm, **architecture)
        yield Stack(experiment, kind, tuple(settings[start : start + WIDTH]), looks)


def _settings(seeds: Iterable[int], **values: Iterable[Any]) -> list[Setting]:
    """Return a setting for each combination of values, and among them for each seed."""
    return [
        Setting(seed, **dict(zip(values, combination, strict=True)))
        for *combination, seed in product(*values.values(), seeds)
    ]


def run(
    stacks: Sequence[Stack], digits: Digits, jobs: int, advance: Callable[[int], None]
) -> list[Curves]:
    """Train all stacks in that many processes; results do not depend on how many."""
    found: list[Curves | None] = [None] * len(stacks)
    with closing(_outcomes(stacks, digits, jobs)) as outcomes:
        for place, curves in outcomes:
            found[place] = curves
            advance(stacks[place].cost)
    return [each for each in found if each is not None]


def _outcomes(stacks: Sequence[Stack], digits: Digits, jobs: int) -> Iterator[tuple[int, Curves]]:
    if jobs == 1:
        yield from ((place, _train(digits, stack)) for place, stack in enumerate(stacks))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        longest_first = sorted(range(len(stacks)), key=lambda place: -stacks[place].cost)
        places = {pool.submit(_train, digits, stacks[place]): place for place in longest_first}
        try:
            for each in as_completed(places):
                yield places[each], each.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _train(digits: Digits, stack: Stack) -> Curves:
    """Train on one thread: matrices are small, and threads would change how BLAS sums."""
    with threadpool_limits(1):
        return train(digits, stack.architecture, stack.settings, stack.looks)


def rows(stacks: Sequence[Stack], curves: Sequence[Curves]) -> list[dict[str, Any]]:
    """Return what was found for each kind of network: a list over seeds for each number."""
    found: dict[tuple[str, Architecture, Setting], dict[str, Any]] = {}
    for stack, curve in zip(stacks, curves, strict=True):
        for place, setting in enumerate(stack.settings):
            kind = replace(setting, seed=0)
            row = found.setdefault(
                (stack.experiment, stack.architecture, kind),
                {
                    "experiment": stack.experiment,
                    **asdict(stack.architecture),
                    **{key: value for key, value in asdict(kind).items() if key != "seed"},
                    "steps": curve.steps.tolist(),
                    "accuracy": [],
                    "train_accuracy": [],
                    "saturated": [],
                },
            )
            row["accuracy"].append(_rounded(curve.accuracy[:, place]))
            row["train_accuracy"].append(_rounded(curve.train_accuracy[-1, place]))
            row["saturated"].append(_rounded(curve.saturated[-1, place]))
            if stack.experiment == "scalers" and setting.scaler == "standard":
                percentiles = curve.percentiles[:, :, place]
                row.setdefault("drift", []).append(_rounded(np.median(_drift(percentiles))))
                row.setdefault("percentiles", _typical(percentiles))
    return list(found.values())


def _drift(percentiles: np.ndarray) -> np.ndarray:
    """How far the median of each unit's input moves in training, in spreads of that input.

    The spread is the average distance from the 15th percentile to the 85th; of what moves, the
    looks before training has begun do not count.
    """
    low, median, high = percentiles[1:].swapaxes(0, 1)
    return np.ptp(median, axis=0) / (high - low).mean(axis=0)


def _typical(percentiles: np.ndarray) -> list[list[float]]:
    """Return the percentiles of the unit whose drift is the median of all."""
    drift = _drift(percentiles)
    return _rounded(percentiles[:, :, np.argsort(drift)[len(drift) // 2]])


def _rounded(values: Any) -> Any:
    return np.round(np.asarray(values, np.float64), 4).tolist()
