"""CUDA streams that work on chunks, with the pinned buffers that copies overlap kernels from."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics import Statistic
from normcore_cupy.chunks import Kernel, Steps

__all__ = ["CupyStream", "take_streams"]

_STREAMS = 2  # of a run


def take_streams(xp: ModuleType, idle: dict[int, list[CupyStream]]) -> list[CupyStream]:
    """Return the streams of one run on the current device.

    Those in ``idle``, by device, are used first: what a stream has freed, CuPy's pool keeps for
    that stream, so that a new one for every run would pile memory up.
    """
    ours = idle.setdefault(xp.cuda.runtime.getDevice(), [])
    taken: list[CupyStream] = []
    try:
        for _ in range(_STREAMS):
            try:
                stream = ours.pop()
            except IndexError:  # all are at work, in this thread or another
                stream = CupyStream(xp, ours)
            taken.append(stream)
        for stream in taken:
            stream.start()
    except BaseException:
        ours.extend(taken)
        raise
    return taken


class CupyStream:
    """One of CuPy's streams and its buffers; ``idle`` is where it waits for its next use."""

    def __init__(self, xp: ModuleType, idle: list[CupyStream]) -> None:
        self._xp, self._idle = xp, idle
        self._stream = xp.cuda.Stream(non_blocking=True)
        self._pinned: dict[tuple[str, int], tuple[int, Array]] = {}
        self._steps: Steps | None = None
        self._coming: tuple[Array, ...] = ()  # what the next step waits for
        self._num_out = 0
        self._result: Array = None

    def start(self) -> None:
        """Begin where the caller's current stream is."""
        self._stream.wait_event(self._xp.cuda.get_current_stream().record())

    def submit(self, kernel: Kernel, arrays: list[np.ndarray]) -> None:
        """Start to copy ``arrays`` to the device and run ``kernel(*copies)`` up to its first yield.

        Returns once the arrays have been read.
        """
        staged = []
        for number, array in enumerate(arrays):
            buffer = self._buffer("in", number, array.shape, array.dtype)
            np.copyto(buffer, array)
            staged.append(buffer)
        self._num_out = 0
        with self._stream:
            copies = [self._xp.empty(each.shape, each.dtype) for each in staged]
            for copy, buffer in zip(copies, staged, strict=True):
                copy.set(buffer, stream=self._stream)
            self._steps = kernel(*copies)
            self._resume(None)

    def collect(self) -> Array:
        """Wait for the kernel, step by step, and return its result."""
        with self._stream:
            while self._steps is not None:
                there = tuple(
                    each.to_host() if isinstance(each, Statistic) else each for each in self._coming
                )
                self._stream.synchronize()
                self._resume(there)
        result, self._result = self._result, None
        return result

    def close(self) -> None:
        """Wait for whatever is under way, and be idle; pinned memory goes back to CuPy's pool."""
        self._stream.synchronize()
        self._steps, self._coming, self._result = None, (), None
        self._pinned.clear()
        self._idle.append(self)

    def _resume(self, there: tuple[Array, ...] | None) -> None:
        """Run the kernel to its next yield, and fetch what it yields; or to its end."""
        assert self._steps is not None
        try:
            wanted = next(self._steps) if there is None else self._steps.send(there)
        except StopIteration as end:
            self._steps, self._coming, self._result = None, (), end.value
        else:
            self._coming = tuple(
                each if isinstance(each, Statistic) else self._fetched(each) for each in wanted
            )

    def _fetched(self, array: Array) -> np.ndarray:
        """Return the pinned buffer that a copy of ``array`` is on its way to."""
        host = self._buffer("out", self._num_out, array.shape, array.dtype)
        self._num_out += 1
        array.get(stream=self._stream, out=host, blocking=False)
        return host

    def _buffer(self, use: str, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return pinned memory; it is kept, and grows with the arrays that it is used for."""
        count = math.prod(shape)
        num_bytes = max(1, count * dtype.itemsize)
        size, memory = self._pinned.get((use, number), (0, None))
        if size < num_bytes:
            memory = self._xp.cuda.alloc_pinned_memory(num_bytes)
            self._pinned[use, number] = num_bytes, memory
        return np.frombuffer(memory, dtype, count).reshape(shape)
