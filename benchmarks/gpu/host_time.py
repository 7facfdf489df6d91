"""The host's part of a call: Python of normcore, without what the device's library does itself."""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from benchmarks.gpu import common

__all__ = ["HostTime", "python_calls"]

CALLS, ROUNDS = 50, 9
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
    """Measures calls on a fake CuPy whose own part takes next to nothing.

    Its arrays keep what they were asked once, as attributes; what it allocates is there already,
    and kernels and streams do nothing. Times are those of the processor, so that what else a
    machine does counts little.

    Parameters
    ----------
    fake : module
    patch : MonkeyPatch
        Undoes what this does to the fake.
    """

    def __init__(self, fake: ModuleType, patch: Any) -> None:
        from cuda_host.arrays import DeviceArray
        from cuda_host.fake_memory import Pointer

        ask, allocate, there = DeviceArray.__getattr__, fake.empty, {}
        stream = fake.cuda.get_current_stream()

        def empty(shape: Any, dtype: Any = float) -> Any:
            key = shape if type(shape) is int else tuple(shape), dtype
            return there[key] if key in there else there.setdefault(key, allocate(shape, dtype))

        def remembering(array: Any, name: str) -> Any:
            value = array.__dict__[name] = Pointer(array) if name == "data" else ask(array, name)
            return value

        patch.delattr(DeviceArray, "data")
        patch.setattr(DeviceArray, "__getattr__", remembering)
        patch.setattr(fake, "empty", empty)
        patch.setattr(fake.cuda, "get_current_stream", lambda: stream)
        kernels = common.backend().device._kernels
        for each in kernels:
            patch.setitem(kernels, each, lambda grid, block, arguments: None)

    def microseconds(self, call: Callable[[], object]) -> float:
        """Return what a call takes, the least of several rounds."""
        for _ in range(3):
            call()
        rounds = []
        gc.disable()
        for _ in range(ROUNDS):
            start = time.thread_time()
            for _ in range(CALLS):
                call()
            rounds.append((time.thread_time() - start) / CALLS * 1e6)
        gc.enable()
        return min(rounds)
