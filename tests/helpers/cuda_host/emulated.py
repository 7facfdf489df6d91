"""A device without hardware: the protocol of normcore_cupy.device, its kernels run on the CPU."""

from __future__ import annotations

import itertools
import math
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from normcore_cupy import device
from normcore_cupy.host import DeviceBackend

from cuda_host.arrays import DeviceArray, namespace, unwrap
from cuda_host.build import build
from cuda_host.launch import ORDERS, KernelError, Order, launch
from cuda_host.memory import Memory

__all__ = ["EmulatedBackend", "EmulatedDevice"]


class EmulatedDevice:
    """Memory, copies and launches of a device that is the host.

    Fresh memory is poisoned and has fences, which every launch checks. The launches of a
    kernel take turns with the orders in which threads run, and with what shared memory holds.

    Parameters
    ----------
    source : function of a kernel's name
        Returns the text that the kernel is compiled from.
    orders : sequence of Order
    resident : int
        Blocks that are on the device at once, where they are launched together.
    """

    xp = namespace

    def __init__(
        self,
        source: Callable[[str], str] = device.source,
        orders: tuple[Order, ...] = ORDERS,
        resident: int = 5,
    ) -> None:
        self._source = source
        self._orders = defaultdict(lambda: itertools.cycle(orders))
        self._memory = Memory()
        self.resident, self.num_cache_bytes = resident, 1 << 24
        self._counters = np.zeros(0, np.int32)
        self._one_at_a_time = threading.Lock()
        #: The kernels launched so far, with their dtypes.
        self.launched: set[tuple[str, tuple[str, str]]] = set()

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        return DeviceArray(self._memory.empty(shape, dtype))

    def zeros(self, shape: Any, dtype: Any) -> DeviceArray:
        array = self._memory.empty(shape, dtype)
        array[...] = 0
        return DeviceArray(array)

    def counters(self, count: int) -> DeviceArray:
        if self._counters.size < count:
            self._counters = self._memory.empty(count, np.int32)
            self._counters[...] = 0
        return DeviceArray(self._counters)

    def place(self) -> str:
        return "emulated"

    def kept(self, made: Any) -> Any:
        return made.get("emulated")

    def asarray(self, array: Any) -> DeviceArray:
        if isinstance(array, DeviceArray):
            return array
        return DeviceArray(self._memory.copy(np.asarray(array)))

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(array) if isinstance(array, np.ndarray) else array.get()

    def pointer(self, array: Any) -> int:
        address: int = unwrap(array).__array_interface__["data"][0]
        return address

    def resident_blocks(self, kernel: str, dtypes: tuple[str, str], num_threads: int) -> int:
        return self.resident

    def cache_bytes(self) -> int:
        return self.num_cache_bytes

    def load(self, kernel: str, dtypes: tuple[str, str], together: bool = False) -> None:
        build(self._source(kernel), _defines(dtypes))

    def launch(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        grid: Any,
        block: Any,
        args: tuple[Any, ...],
        together: bool = False,
    ) -> None:
        self.launched.add((kernel, dtypes))
        self.run(self._source(kernel), _defines(dtypes), kernel, grid, block, args, together)

    def run(
        self,
        text: str,
        defines: tuple[str, ...],
        kernel: str,
        grid: Any,
        block: Any,
        args: Any,
        together: bool = False,
    ) -> None:
        """Launch a kernel of a text, and look at every fence afterwards."""
        if together and math.prod(grid) > self.resident:
            raise KernelError(f"{kernel}: of {math.prod(grid)} blocks {self.resident} are resident")
        library = build(text, defines)
        with self._one_at_a_time:
            order = next(self._orders[kernel])
            launch(library, kernel, grid, block, args, order=order, together=together)
            counted = self._counters.any()
        self._memory.check()
        if counted:
            raise KernelError(f"{kernel} left counters that are not 0")


def _defines(dtypes: tuple[str, str]) -> tuple[str, ...]:
    macros = zip(("NC_T", "NC_OUT"), dtypes, strict=True)
    return tuple(f"{name}={device.C_TYPES[dtype]}" for name, dtype in macros)


class EmulatedBackend(DeviceBackend):
    """The host logic on an emulated device; copies NumPy arrays with their strides."""

    name = "emulated"

    def __init__(self, device: EmulatedDevice | None = None) -> None:
        super().__init__(EmulatedDevice() if device is None else device)

    def adopt(self, array: Any) -> Any:
        if not isinstance(array, np.ndarray | DeviceArray):
            raise TypeError("the emulated device takes NumPy's arrays and its own")
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise TypeError(f"cannot normalize an array of dtype {array.dtype}; use real numbers")
        return self.device.asarray(array)

    def release(self, array: Any, like: Any) -> Any:
        return self.device.to_host(array) if isinstance(like, np.ndarray) else self.adopt(array)
