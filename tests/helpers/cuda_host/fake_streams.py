"""What the fake CuPy has of streams, events and devices: they write down who waits for whom."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cuda_host.fake_memory import CUDARuntimeError
from cuda_host.stream_order import Event

if TYPE_CHECKING:
    from cuda_host.fake_cupy import FakeCupy

__all__ = ["Device", "Stream", "TimingEvent"]


class Stream:
    """A stream that writes down who waits for whom."""

    def __init__(self, cupy: FakeCupy, ptr: int) -> None:
        self._cupy, self.ptr = cupy, ptr

    def record(self, event: Any = None) -> Event:
        self._cupy.refuse_in_graph(self.ptr)
        return self._cupy.order.record(self.ptr)

    def wait_event(self, event: Event) -> None:
        self._cupy.refuse_in_graph(self.ptr)
        self._cupy.log.append(f"{self.ptr} waits for {event.ptr}")
        self._cupy.order.wait(self.ptr, event)

    def synchronize(self) -> None:
        self._cupy.refuse_in_graph()
        self._cupy.log.append(f"host waits for {self.ptr}")
        self._cupy.order.synchronize(self.ptr)

    def begin_capture(self, mode: Any = None) -> None:
        self._cupy.capturing.add(self.ptr)

    def end_capture(self) -> None:
        self._cupy.capturing.remove(self.ptr)
        if self.ptr in self._cupy.invalidated:
            self._cupy.invalidated.remove(self.ptr)
            raise CUDARuntimeError(901)

    def is_capturing(self) -> bool:
        return self.ptr in self._cupy.capturing

    def __enter__(self) -> Stream:
        self._cupy.streams.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        self._cupy.streams.pop()


class Device:
    compute_capability = "90"

    def __init__(self, cupy: FakeCupy, number: int) -> None:
        self._cupy, self.id = cupy, number

    @property
    def attributes(self) -> dict[str, int]:
        emulated = self._cupy.emulated
        return {
            "CooperativeLaunch": int(emulated.resident > 0),
            "L2CacheSize": emulated.num_cache_bytes,
            "MultiProcessorCount": emulated.resident,
        }

    def synchronize(self) -> None:
        pass

    def __enter__(self) -> None:
        self._before, self._cupy.device = self._cupy.device, self.id

    def __exit__(self, *_: Any) -> None:
        self._cupy.device = self._before


class TimingEvent:
    def __init__(self) -> None:
        self.time = 0.0

    def record(self) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass
