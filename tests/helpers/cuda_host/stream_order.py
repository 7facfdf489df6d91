"""Which work of streams happens before which, and when: vector clocks, and a timeline.

The fake CuPy runs everything at once. What a device would be free to do in another order is found
by comparing clocks: two pieces of work on one block of memory, at least one of them a write, of
which neither happens before the other; and memory that its pool may give out again, in the order
of the stream that it was allocated on, while another stream is not done with it.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Event", "Interval", "StreamOrder", "root"]

_HOST = "host"
_CONCURRENT = {"to device", "kernel", "to host"}  # engines, each of which does one thing at a time


class Event(NamedTuple):
    """A point of a stream: its number, what happens before it, and when it is reached."""

    ptr: int
    before: dict[Any, int]
    time: float


class Interval(NamedTuple):
    """What an engine of the device did, and when."""

    engine: str
    stream: int
    start: float
    stop: float


class _Block:
    """Memory, the stream of its allocation, and its latest uses by each stream."""

    def __init__(self, array: np.ndarray, stream: int) -> None:
        self.start = array.__array_interface__["data"][0]
        self.stop = self.start + array.nbytes
        self.stream = stream
        self.written: tuple[int, int] | None = None
        self.read: dict[int, int] = {}
        self.recorded: set[int] = set()  # streams that the pool waits for
        self.array = weakref.ref(array)


class StreamOrder:
    """The clocks of all streams and of the host, and the blocks of memory that they use."""

    def __init__(self) -> None:
        self.races: list[str] = []
        self.timeline: list[Interval] = []
        self._clocks: dict[Any, dict[Any, int]] = defaultdict(dict)
        self._times: dict[Any, float] = defaultdict(float)
        self._engines: dict[str, float] = defaultdict(float)
        self._blocks: dict[int, _Block] = {}
        self._lock = threading.RLock()

    # -- order -----------------------------------------------------------------------------

    def work(self, stream: int, engine: str = "kernel", seconds: float = 1e-5) -> None:
        """Put work on a stream, after all that the host knows of."""
        clock = self._clocks[stream]
        _merge(clock, self._clocks[_HOST])
        clock[stream] = clock.get(stream, 0) + 1
        start = max(self._times[stream], self._times[_HOST], self._engines[engine])
        self._times[stream] = self._engines[engine] = start + seconds
        self.timeline.append(Interval(engine, stream, start, start + seconds))

    def record(self, stream: int) -> Event:
        """Return the point that a stream has come to."""
        clock = dict(self._clocks[stream])
        _merge(clock, self._clocks[_HOST])
        return Event(stream, clock, max(self._times[stream], self._times[_HOST]))

    def wait(self, stream: int, event: Event) -> None:
        """Have a stream wait for a point of another."""
        _merge(self._clocks[stream], event.before)
        self._times[stream] = max(self._times[stream], event.time)

    def synchronize(self, stream: int) -> None:
        """Have the host wait for a stream."""
        _merge(self._clocks[_HOST], self._clocks[stream])
        self._times[_HOST] = max(self._times[_HOST], self._times[stream])

    def host_works(self, seconds: float) -> None:
        """Let time go by on the host."""
        self._times[_HOST] += seconds

    def _happened(self, stream: int, count: int, before: int) -> bool:
        clock = self._clocks[before]
        return max(clock.get(stream, 0), self._clocks[_HOST].get(stream, 0)) >= count

    # -- memory ----------------------------------------------------------------------------

    def allocated(self, memory: np.ndarray, stream: int) -> None:
        """Note that a block is of a stream from now on."""
        array = root(memory)
        block = _Block(array, stream)
        with self._lock:
            self._blocks[id(array)] = block
        weakref.finalize(array, self._freed, id(array), block)

    def _freed(self, key: int, block: _Block) -> None:
        with self._lock:
            if self._blocks.get(key) is block:
                del self._blocks[key]
            uses = dict(block.read)
            if block.written is not None:
                uses[block.written[0]] = max(uses.get(block.written[0], 0), block.written[1])
            self.races.extend(
                f"memory of stream {block.stream} is free for it again, but stream {stream} may "
                "still use it"
                for stream, count in uses.items()
                if stream != block.stream
                and stream not in block.recorded
                and not self._happened(stream, count, block.stream)
            )

    def use(self, memory: np.ndarray, stream: int, *, writes: bool) -> None:
        """Note that the latest work of a stream reads or writes an array."""
        array = root(memory)
        block = self._blocks.get(id(array))
        if block is None:
            self.allocated(memory, stream)
            block = self._blocks[id(array)]
        self._use(block, stream, writes)

    def at(self, addresses: list[int]) -> list[_Block]:
        """Return the blocks that hold one of these addresses."""
        with self._lock:
            blocks = list(self._blocks.values())
        return [b for b in blocks if any(b.start <= each < b.stop for each in addresses)]

    def owner(self, address: int) -> np.ndarray | None:
        """Return the array that an address lies in."""
        found = self.at([address])
        return found[0].array() if found else None

    def keep_for(self, address: int, stream: int) -> None:
        """Have the pool wait for a stream before it gives a block out again."""
        for block in self.at([address]):
            block.recorded.add(stream)

    def _use(self, block: _Block, stream: int, writes: bool) -> None:
        count = self._clocks[stream].get(stream, 0)
        others = [] if block.written is None else [("writes", *block.written)]
        if writes:
            others += [("reads", *each) for each in block.read.items()]
        for what, other, their_count in others:
            if other != stream and not self._happened(other, their_count, stream):
                how = "writes" if writes else "reads"
                self.races.append(f"stream {stream} {how} what stream {other} {what}, unordered")
        if writes:
            block.written, block.read = (stream, count), {}
        else:
            block.read[stream] = count

    def launched(self, blocks: list[_Block], before: list[bytes], stream: int) -> None:
        """Note the uses of a kernel: it wrote the blocks that are no longer as they were."""
        for block, old in zip(blocks, before, strict=True):
            self._use(block, stream, writes=contents(block) != old)


def contents(block: _Block) -> bytes:
    """Return the bytes of a block."""
    array = block.array()
    return b"" if array is None else array.tobytes()


def root(memory: np.ndarray) -> np.ndarray:
    """Return the array that owns the memory of another, or the first one that looks at it."""
    while True:
        base = memory.base
        if base is not None and not isinstance(base, np.ndarray):
            base = getattr(base, "base", None)  # what as_strided puts between
        if not isinstance(base, np.ndarray):
            return memory
        memory = base


def _merge(clock: dict[Any, int], other: dict[Any, int]) -> None:
    for stream, count in other.items():
        clock[stream] = max(clock.get(stream, 0), count)
