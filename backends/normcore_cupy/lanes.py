"""Lanes on CuPy: a stream each, and pinned buffers that copies overlap with kernels from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from normcore.statistics import Statistic

__all__ = ["CupyLane", "lanes"]

_LANES = 2


def lanes(xp: Any, idle: dict[int, list[CupyLane]]) -> list[CupyLane]:
    """Return the lanes of one run on the current device.

    Those in ``idle``, by device, are used first: what a stream has freed, CuPy's pool keeps for
    that stream, so that a new one for every run would pile memory up.
    """
    ours = idle.setdefault(xp.cuda.runtime.getDevice(), [])
    taken = []
    for _ in range(_LANES):
        try:
            taken.append(ours.pop())
        except IndexError:  # all are at work, in this thread or another
            taken.append(CupyLane(xp, ours))
    for lane in taken:
        lane.start()
    return taken


class CupyLane:
    """A stream of its own; ``idle`` is where it waits for its next use."""

    def __init__(self, xp: Any, idle: list[CupyLane]) -> None:
        self._xp, self._idle = xp, idle
        self._stream = xp.cuda.Stream(non_blocking=True)
        self._pinned: dict[tuple[str, int], tuple[int, Any]] = {}
        self._results: tuple[Any, ...] = ()

    def start(self) -> None:
        """Begin where the caller's current stream is."""
        self._stream.wait_event(self._xp.cuda.get_current_stream().record())

    def submit(self, kernel: Callable[..., Any], arrays: list[np.ndarray]) -> None:
        """Start to copy ``arrays`` to the device and run ``kernel(*copies)`` on them."""
        staged = []
        for number, array in enumerate(arrays):
            buffer = self._buffer("in", number, array.shape, array.dtype)
            np.copyto(buffer, array)
            staged.append(buffer)
        with self._stream:
            copies = [self._xp.empty(each.shape, each.dtype) for each in staged]
            for copy, buffer in zip(copies, staged, strict=True):
                copy.set(buffer, stream=self._stream)
            self._results = tuple(
                each if isinstance(each, Statistic) else self._fetched(number, each)
                for number, each in enumerate(kernel(*copies))
            )

    def collect(self) -> tuple[Any, ...]:
        """Wait for the kernel, and return its results on the host."""
        with self._stream:
            results = tuple(
                each.to_host() if isinstance(each, Statistic) else each for each in self._results
            )
        self._stream.synchronize()
        self._results = ()
        return results

    def close(self) -> None:
        """Wait for whatever is under way, and be idle; pinned memory goes back to CuPy's pool."""
        self._stream.synchronize()
        self._results = ()
        self._pinned.clear()
        self._idle.append(self)

    def _fetched(self, number: int, array: Any) -> np.ndarray:
        """Return the pinned buffer that a copy of ``array`` is on its way to."""
        host = self._buffer("out", number, array.shape, array.dtype)
        array.get(stream=self._stream, out=host, blocking=False)
        return host

    def _buffer(self, use: str, number: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return pinned memory; it is kept, and grows with the arrays that it is used for."""
        count = math.prod(shape)
        num_bytes = max(1, count * dtype.itemsize)
        size, memory = self._pinned.get((use, number), (0, None))
        if size < num_bytes:
            memory = self._xp.cuda.alloc_pinned_memory(num_bytes)
            self._pinned[use, number] = num_bytes, memory
        return np.frombuffer(memory, dtype, count).reshape(shape)
