"""How cost grows with size, and how it falls with threads; the floors beside both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import normcore as nc

from . import floors
from .batches import batch_contestants
from .cases import Arrays, Case
from .measure import Effort, Spread, rounds
from .peers import Contestant, scaler_contestants

__all__ = ["linear", "threads"]

SIZES = (1_000_000, 64), (16_000_000, 64)
QUICK_SIZES = (400_000, 64), (3_200_000, 64)
IMAGES = (256, 64, 56, 56)
#: How far the time per element may be apart.
LINEAR = 1.15
TABLE_JOBS = {
    ("StandardScaler", "fit"): "read",
    ("MinMaxScaler", "fit"): "read",
    ("RobustScaler", "fit"): "read",
    ("StandardScaler", "transform out="): "copy",
}
BATCH_JOBS = ("training out=", "inference out=", "backward out=")


def linear(number: int, effort: Effort, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the time per element of each job and floor at two sizes, measured in turn."""
    cases = [Case(shape) for shape in (QUICK_SIZES if quick else SIZES)]
    both = [Arrays(case) for case in cases]
    calls: dict[str, list[Contestant]] = {
        "read": [Contestant("", floors.read(each.x, number)) for each in both],
        "copy": [Contestant("", floors.copy(each.x, each.out, number)) for each in both],
    }
    for scaler, verb in TABLE_JOBS:
        ours = [next(iter(scaler_contestants(scaler, verb, each))) for each in both]
        calls[f"{scaler}.{verb}"] = ours
    for job, (small, large) in calls.items():
        pair = [small._replace(name="small"), large._replace(name="large")]
        samples = rounds(pair, effort)
        found: dict[str, Any] = {"job": job}
        for (name, seconds), case, each in zip(samples.items(), cases, both, strict=True):
            median = Spread.of(seconds).median
            found[name] = {"array": case.label, "seconds_per_element": median / each.x.size}
        ratio = found["large"]["seconds_per_element"] / found["small"]["seconds_per_element"]
        is_floor = job in ("read", "copy")
        yield {
            **found,
            "ratio": ratio,
            "linear": None if is_floor else 1 / LINEAR <= ratio <= LINEAR,
        }


def threads(number: int, effort: Effort, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the time of each job and floor with one thread and with all, measured in turn."""
    table = Arrays(Case((QUICK_SIZES if quick else SIZES)[0]))
    yield from _threads(
        table,
        number,
        effort,
        {
            f"{scaler}.{verb}": (partial(scaler_contestants, scaler, verb), floor)
            for (scaler, verb), floor in TABLE_JOBS.items()
        },
    )
    del table
    shape = (IMAGES[0] // 4, *IMAGES[1:]) if quick else IMAGES
    yield from _threads(
        Arrays(Case(shape, layout="NCHW")),
        number,
        effort,
        {f"BatchNorm.{verb}": (partial(batch_contestants, verb), "copy") for verb in BATCH_JOBS},
    )


def _threads(
    arrays: Arrays, number: int, effort: Effort, jobs: dict[str, tuple[Any, str]]
) -> Iterator[dict[str, Any]]:
    speedups: dict[str, float] = {}
    x, out, label = arrays.x, arrays.out, arrays.case.label
    for name, make in {
        "read": lambda n: floors.read(x, n),
        "copy": lambda n: floors.copy(x, out, n),
    }.items():
        pair = [Contestant(key, make(n)) for key, n in (("one", 1), ("all", number))]
        found = _compared(f"{name} {label}", pair, effort)
        speedups[name] = found["speedup"]
        yield found
    for job, (contestants, floor) in jobs.items():
        ours = next(iter(contestants(arrays)))

        def ready(count: int, call: Any = ours.call) -> None:
            nc.set_num_threads(count)
            call()  # the pool is made anew

        pair = [
            ours._replace(name=key, before=partial(ready, n))
            for key, n in (("one", 1), ("all", number))
        ]
        try:
            yield _compared(f"{job} {label}", pair, effort, speedups[floor])
        finally:
            nc.set_num_threads(number)


def _compared(
    job: str, pair: list[Contestant], effort: Effort, floor_speedup: float | None = None
) -> dict[str, Any]:
    one, every = (Spread.of(seconds) for seconds in rounds(pair, effort).values())
    return {
        "job": job,
        "one": asdict(one),
        "all": asdict(every),
        "speedup": one.median / every.median,
        "floor_speedup": floor_speedup,
    }
