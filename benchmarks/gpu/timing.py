"""Times on a device: calls back to back over rotated buffers, and replays of a CUDA graph.

All work, of CuPy and of PyTorch, is on one stream, which is not the default one: a graph can be
captured there, and one clock is right for both.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import cupy

from benchmarks.gpu import common

__all__ = ["Lane", "Timing"]

#: Milliseconds that a batch of calls should take.
BATCH = 25.0
#: Milliseconds from which a call is slow, and is repeated less.
SLOW = 50.0
#: At least so many calls in a graph.
IN_GRAPH = 8


class Timing(NamedTuple):
    """What one job takes."""

    milliseconds: float
    graph_milliseconds: float | None
    host_microseconds: float
    calls: int
    no_graph: str | None


class _Stream:
    """A stream of PyTorch, as the CUDA stream protocol wants it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


class Lane:
    """The stream that is measured on; current, for both libraries, inside :meth:`current`.

    Parameters
    ----------
    batch : float
        Milliseconds that a batch of calls should take.
    """

    def __init__(self, batch: float = BATCH) -> None:
        self.batch = batch
        self.torch: ModuleType | None = common.cuda_torch()
        if self.torch is None:
            self.stream = cupy.cuda.Stream(non_blocking=True)
        else:
            self.theirs = self.torch.cuda.Stream()
            self.stream = cupy.cuda.Stream.from_external(_Stream(self.theirs.cuda_stream))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the stream the current one."""
        if self.torch is None:
            with self.stream:
                yield
        else:
            with self.torch.cuda.stream(self.theirs), self.stream:
                yield

    def measure(self, call: Callable[[int], object], buffers: int) -> Timing:
        """Time ``call(i)``, where ``i`` says which of the buffers to work on.

        The results of as many calls as there are buffers stay alive, so that what a call allocates
        rotates too.
        """
        held: list[object] = [None] * buffers

        def go(number: int) -> None:
            for i in range(number):
                held[i % buffers] = call(i % buffers)

        go(1)  # compiles
        first = self._elapsed(lambda: go(1))
        if first < SLOW:
            go(buffers)
            first = self._elapsed(lambda: go(buffers)) / buffers
        number = max(1, min(200, int(self.batch / max(first, 1e-4))))
        batches = 5 if first < SLOW else 2 if first < 10 * SLOW else 1
        times: list[float] = []
        host: list[float] = []
        for _ in range(batches):
            self.stream.synchronize()
            times.append(self._elapsed(lambda: go(number), host))
        median = statistics.median(times) / number
        graph, reason = None, "one call is slow enough"
        if first < SLOW:
            repeats = -(-max(buffers, min(number, IN_GRAPH)) // buffers) * buffers
            graph, reason = self._graph(go, repeats, held)
        calls = number * batches
        return Timing(median, graph, statistics.median(host) / number * 1e6, calls, reason)

    def _elapsed(self, call: Callable[[], object], on_host: list[float] | None = None) -> float:
        """Return the milliseconds between two events on the stream, and the host's seconds."""
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        begun = time.perf_counter()
        start.record()
        call()
        if on_host is not None:
            on_host.append(time.perf_counter() - begun)
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end))

    def _graph(
        self, go: Callable[[int], None], number: int, held: list[object]
    ) -> tuple[float | None, str | None]:
        """Return the time of a call in a replayed graph, or why there is none."""
        try:
            replay = self._captured(go, number, held)
            replay()
            first = self._elapsed(replay)
            rounds = max(1, min(50, int(self.batch / max(first, 1e-3))))
            times = [
                self._elapsed(lambda: [replay() for _ in range(rounds)]) / rounds / number
                for _ in range(5)
            ]
            return statistics.median(times), None
        except Exception as caught:
            error: BaseException = caught
            self.stream.synchronize()  # raises again where the device is lost
            while error.__context__ is not None:  # the capture's own error says less
                error = error.__context__
            return None, f"{type(error).__name__}: {error}"[:300]

    def _captured(
        self, go: Callable[[int], None], number: int, held: list[object]
    ) -> Callable[[], None]:
        """Capture so many calls; the pools have the memory by then that they ask for."""
        held[:] = [None] * len(held)
        go(number)
        self.stream.synchronize()
        held[:] = [None] * len(held)
        if self.torch is not None:
            graph = self.torch.cuda.CUDAGraph()
            mode = {"stream": self.theirs, "capture_error_mode": "relaxed"}
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with self.torch.cuda.graph(graph, **mode):
                    go(number)
            if any("Graph is empty" in str(each.message) for each in caught):
                raise RuntimeError("nothing was captured: the work is not the stream's")
            return lambda: graph.replay()
        self.stream.begin_capture()
        try:
            go(number)
        finally:
            recorded = self.stream.end_capture()
        return lambda: recorded.launch(self.stream)
