"""How a job is measured: contestants in turn, round after round, in one process.

First every contestant does the job on a few elements, where its result is checked and what
compiles lazily compiles. Then comes one call of each on the array itself, which gives the memory
that it takes. Then the rounds: in each, every contestant once in an order of its own, the floors
among them, so that whatever else the machine does hits all alike. A call too short for the clock
is repeated within its sample; one that would exceed the budget takes part in fewer rounds, or,
where a single call does, in none: then the time of its first call is all there is.
"""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from timeit import Timer
from typing import Any, NamedTuple

import numpy as np

from . import floors
from .cases import Arrays
from .jobs import Job
from .modules import reused_memory
from .peers import Contestant

__all__ = ["Effort", "Measured", "Spread", "check", "extra_memory", "measure", "rounds"]

#: Seconds that one sample should take at least.
SAMPLE = 2e-3
#: Seconds over which the process is to be idle before a sample, and that this may take at most:
#: the threads of some libraries spin for 10 ms after their work, where others' would work next.
PAUSE = 1e-3
MOST_PAUSE = 0.1
#: Seconds of calls that wake what sleeps and fill the caches, before a sample of short ones.
WARM = 5e-3
#: Seconds that free memory stays with the machine, at least.
KEPT = 0.25


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    repeat: int = 7
    #: Seconds that one contestant may spend on one job, unless a single call takes longer.
    budget: float = 3.0


@dataclass(frozen=True)
class Spread:
    """Seconds for one call: the median over rounds, and how far they are apart."""

    median: float
    q1: float
    q3: float
    min: float
    max: float
    rounds: int

    @classmethod
    def of(cls, samples: list[float]) -> Spread:
        """Summarize the samples of one contestant."""
        q1, median, q3 = np.quantile(samples, [0.25, 0.5, 0.75]).tolist()
        return cls(median, q1, q3, min(samples), max(samples), len(samples))


class Pages:
    """Free memory for what calls allocate, kept at hand.

    A virtual machine gives pages that lie free for a second or two back to its host, and taking
    them again costs ten times what a page costs otherwise: whoever allocates after a slow
    neighbour would pay for the pause.
    """

    def __init__(self, nbytes: int = 0) -> None:
        self.nbytes, self.touched = nbytes, -KEPT

    def touch(self) -> None:
        """Take pages and leave them, unless that has just been done."""
        if self.nbytes and time.monotonic() - self.touched > KEPT:
            np.empty(self.nbytes, np.uint8)[::4096] = 1
            self.touched = time.monotonic()


@dataclass
class Measured:
    """What became of a job, by contestant; the floors are contestants too."""

    seconds: dict[str, Spread] = field(default_factory=dict)
    #: Peak memory beyond input and output, in bytes; None where the system does not tell.
    extra_bytes: dict[str, int | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def measure(job: Job, arrays: Arrays, threads: int, effort: Effort) -> Measured:
    """Measure a job on its arrays; a contestant that fails is told of, and the others go on."""
    failed = {name: f"wrong: {why}" for name, why in check(job.tiny()).items()}
    measured = Measured(failed=failed)
    arrays.out.fill(0)  # nothing is taken over from the job before, and its pages exist
    pages = Pages(3 * job.case.nbytes if job.is_fresh else 0)
    running = []
    samples: dict[str, list[float]] = {}
    for contestant in [*job.contestants(arrays), *_floors(job, arrays, threads)]:
        if contestant.name in failed:
            continue
        pages.touch()
        try:
            peak, seconds = extra_memory(contestant.call)
        except Exception as error:
            failed[contestant.name] = f"{type(error).__name__}: {error}"
            continue
        if peak is not None and job.is_fresh:
            peak = max(0, peak - job.case.nbytes)
        measured.extra_bytes[contestant.name] = peak
        # The first call had fresh results.
        if seconds < effort.budget or job.reuses:
            running.append(contestant)
        else:
            samples[contestant.name] = [seconds]
    with reused_memory(job.case.nbytes) if job.reuses else nullcontext():
        samples |= rounds(running, effort, Pages() if job.reuses else pages)
    measured.seconds = {name: Spread.of(each) for name, each in samples.items()}
    return measured


def check(job: Job, *, without: Iterable[str] = ()) -> dict[str, str]:
    """Compare every contestant's result with the oracle's; returns what is wrong, by contestant.

    Meant for small arrays: the oracle computes in float64, without regard to memory.
    """
    arrays = Arrays(job.case)
    expected = job.oracle(arrays)
    tolerance = 100 * np.finfo(job.case.dtype).eps
    wrong = {}
    for contestant in job.contestants(arrays):
        if contestant.name in without:
            continue
        try:
            for _ in range(2):  # as in a timing, on the same state
                found = contestant.read(contestant.call())
            for theirs, right in zip(found, expected, strict=True):
                np.testing.assert_allclose(theirs, right, rtol=tolerance, atol=tolerance)
        except Exception as error:
            wrong[contestant.name] = f"{type(error).__name__}: {error}"
    return wrong


def rounds(
    contestants: list[Contestant], effort: Effort, pages: Pages | None = None
) -> dict[str, list[float]]:
    """Return the seconds of one call, sample by sample, of contestants that take turns."""
    pages = pages or Pages()
    timers = [Timer(each.call) for each in contestants]  # it keeps the garbage collector out
    plans = [_plan(timer, effort) for timer in timers]
    samples: dict[str, list[float]] = {each.name: [] for each in contestants}
    order = random.Random(0)
    for turn in range(effort.repeat):
        for index in order.sample(range(len(contestants)), len(contestants)):
            calls, turns = plans[index].calls, plans[index].turns
            # A contestant with fewer turns has them spread over all rounds.
            if (turn + 1) * turns // effort.repeat == turn * turns // effort.repeat:
                continue
            contestant = contestants[index]
            if contestant.before is not None:
                contestant.before()
            pages.touch()
            _wait_until_idle()
            warm = time.perf_counter() + WARM
            while plans[index].seconds < WARM and time.perf_counter() < warm:
                contestant.call()
            samples[contestant.name].append(timers[index].timeit(calls) / calls)
    return samples


def _wait_until_idle() -> None:
    """Wait until no thread of this process is at work."""
    limit = time.perf_counter() + MOST_PAUSE
    idle = False
    while not idle and time.perf_counter() < limit:
        before = time.process_time()
        time.sleep(PAUSE)
        idle = time.process_time() - before < PAUSE / 4


class _Plan(NamedTuple):
    """How many calls make a sample, in how many rounds to take part, and seconds of a call."""

    calls: int
    turns: int
    seconds: float


def _plan(timer: Timer, effort: Effort) -> _Plan:
    seconds = min(timer.timeit(1), timer.timeit(1))  # the first one wakes what sleeps
    if seconds < SAMPLE:  # the first call of many is not like the others
        seconds = timer.timeit(5) / 5
    calls = max(1, round(SAMPLE / seconds))
    turns = int(effort.budget / (calls * seconds))
    return _Plan(calls, min(max(turns, 1), effort.repeat), seconds)


def _floors(job: Job, arrays: Arrays, threads: int) -> list[Contestant]:
    """Return the floors of a job's array as contestants."""
    if job.floor is None:
        return []
    x = arrays.x
    found = [Contestant("read", floors.read(x, threads))]
    if job.floor != "read":
        found.append(Contestant("copy", floors.copy(x, arrays.out, threads)))
    if job.floor == "X.copy()":
        found.append(Contestant("X.copy()", floors.fresh_copy(x)))
    return found


# -- memory ------------------------------------------------------------------------------

# The kernel's own high-water mark of resident memory, which nothing escapes: NumPy's arrays, the
# kernels' malloc, other libraries' allocators, the stacks of threads. What malloc holds free is
# given back first, so that it cannot be used without being seen.
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def extra_memory(call: Callable[[], Any]) -> tuple[int | None, float]:
    """Return by how many bytes resident memory rose at most during a call, and its seconds.

    The bytes are None where the system does not tell them: elsewhere than on Linux, or in a
    container that does not allow it.
    """
    try:
        _trim()
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
        before = _resident("VmRSS")
    except OSError:
        before = None
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    peak = None if before is None else max(0, _resident("VmHWM") - before)
    del result
    return peak, seconds


def _resident(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
