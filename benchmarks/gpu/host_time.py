"""The host's part of a call: Python of normcore, without what the device's library does itself."""

from __future__ import annotations

import functools
import gc
import re
import sys
import time
from collections.abc import Callable
from types import FrameType, FunctionType, ModuleType
from typing import Any

__all__ = ["HostTime", "python_calls"]

CALLS, ROUNDS = 50, 7
#: Files of the library and of the backend, but not of the benchmarks.
_OURS = re.compile(r"[/\\\\](normcore|normcore_cupy)[/\\\\]")


def python_calls(call: Callable[[], object]) -> int:
    """Return how many functions the Python code of normcore calls or is called by, in one call.

    Code that is compiled is not seen.
    """
    seen = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal seen
        if event in ("call", "c_call") and _OURS.search(frame.f_code.co_filename):
            seen += 1

    for _ in range(3):
        call()  # what is made once, is made
    gc.collect()
    gc.disable()  # finalizers run when they will, and call too
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return seen


class HostTime:
    """Measures calls on a fake CuPy, whose own time does not count.

    Every function of the fake, its arrays and its streams is timed from outside; the time of the
    calls that normcore makes of them is taken off, and so is that of taking it. Times are those of
    the processor, so that what else a machine does counts little.

    Parameters
    ----------
    fake : module
    patch : MonkeyPatch
        Undoes what this does to the fake.
    """

    def __init__(self, fake: ModuleType, patch: Any) -> None:
        from cuda_host import arrays

        self._inside, self._spent, self._calls = False, 0.0, 0
        for owner in (arrays.DeviceArray, type(fake.order), type(fake.streams[0])):
            for name, value in list(vars(owner).items()):
                if isinstance(value, FunctionType) and name not in ("__init__", "__bool__"):
                    patch.setattr(owner, name, self._outside(value))
        for name in ("empty", "empty_like", "zeros", "asarray", "from_dlpack", "RawModule"):
            patch.setattr(fake, name, self._outside(getattr(fake, name)), raising=False)
        self._overhead = self._of_taking_it()

    def microseconds(self, call: Callable[[], object]) -> float:
        """Return what a call takes, the least of several rounds."""
        for _ in range(3):
            call()
        rounds = []
        for _ in range(ROUNDS):
            self._spent, self._calls = 0.0, 0
            start = time.thread_time()
            for _ in range(CALLS):
                call()
            whole = time.thread_time() - start
            rounds.append((whole - self._spent - self._calls * self._overhead) / CALLS * 1e6)
        return min(rounds)

    def _outside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose time, called by normcore, is summed; called inside, it is not."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return function(*arguments, **options)
            self._inside = True
            start = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self._spent += time.thread_time() - start
                self._calls += 1
                self._inside = False

        return timed

    def _of_taking_it(self) -> float:
        """Return the seconds that timing a function adds and does not see."""
        nothing = self._outside(lambda: None)
        times = []
        for _ in range(5):
            self._spent = 0.0
            start = time.thread_time()
            for _ in range(1000):
                nothing()
            times.append((time.thread_time() - start - self._spent) / 1000)
        return min(times)
