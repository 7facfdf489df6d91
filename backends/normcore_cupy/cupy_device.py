"""The device protocol on CuPy: memory from its pool, work on its current stream."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy import compiler
from normcore_cupy.device import Scalar, source

if TYPE_CHECKING:
    import cupy
    from numpy.typing import DTypeLike

__all__ = ["CupyDevice", "capture_error", "is_capturing"]

#: Device, dtypes, the name or the text of a kernel, and whether its blocks are all there at once.
_Key: TypeAlias = tuple[int, tuple[str, str], str, bool]
_MIN_COUNTERS = 1024
_LAST_BUILTIN_STREAM = 2  # the legacy one is 0 or 1, that of each thread 2
_OF_EACH_THREAD = 2


class CupyDevice:
    """Memory, copies and launches on CuPy's current device and stream."""

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        self._modules: dict[_Key, cupy.RawModule] = {}
        self._kernels: dict[_Key, cupy.RawKernel] = {}
        self._counters: dict[tuple[object, ...], Array] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._shared_handles = {_OF_EACH_THREAD}
        if int(os.environ.get("CUPY_CUDA_PER_THREAD_DEFAULT_STREAM", "0")):
            self._shared_handles.add(0)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self.xp.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        return self.xp.zeros(shape, dtype)

    def counters(self, count: int) -> Array:
        place, captured = self.place(), is_capturing(self.xp.cuda.get_current_stream())
        found = None if captured else self._counters.get(place)
        if found is not None and found.size >= count:
            return found
        made = self.xp.zeros(max(count, _MIN_COUNTERS), np.int32)
        if not captured:
            self._counters[place] = made
        return made

    def place(self) -> tuple[object, ...]:
        device, stream = self.xp.cuda.runtime.getDevice(), self.xp.cuda.get_current_stream().ptr
        if stream not in self._shared_handles:
            return device, stream
        thread = self._thread.__dict__  # whose number another has when it has ended
        return device, stream, thread.setdefault("itself", object())

    def kept(self, made: Mapping[Hashable, Array]) -> Array:
        place = self.place()
        found = made.get(place)
        if found is None and is_capturing(self.xp.cuda.get_current_stream()):
            of_device = (each for key, each in made.items() if key[:1] == place[:1])  # type: ignore[index]
            return next(of_device, None)
        return found

    def asarray(self, array: Array) -> Array:
        if isinstance(array, self.xp.ndarray):
            return array
        if is_capturing(self.xp.cuda.get_current_stream()):
            raise capture_error("it copies numbers from the host, which a replay would read again")
        return self.xp.asarray(array)

    def to_host(self, array: Array) -> np.ndarray:
        host: np.ndarray = array.get()
        return host

    def pointer(self, array: Array) -> int:
        return int(array.data.ptr)

    def load(self, kernel: str, dtypes: tuple[str, str], together: bool = False) -> None:
        self._loaded((self.xp.cuda.runtime.getDevice(), dtypes, kernel, together))

    def launch(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Scalar, ...],
        together: bool = False,
    ) -> None:
        key = self.xp.cuda.runtime.getDevice(), dtypes, kernel, together
        function = self._kernels.get(key)
        if function is None:
            function = self._kernel(key)
        function(grid, block, args)

    def resident_blocks(self, kernel: str, dtypes: tuple[str, str], num_threads: int) -> int:
        device = self.xp.cuda.runtime.getDevice()
        attributes = self.xp.cuda.Device(device).attributes
        if not attributes["CooperativeLaunch"]:
            return 0
        function = self._loaded((device, dtypes, kernel, True))
        count = self.xp.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
        return int(count(function.ptr, num_threads, 0) * attributes["MultiProcessorCount"])

    def cache_bytes(self) -> int:
        device = self.xp.cuda.Device(self.xp.cuda.runtime.getDevice())
        return int(device.attributes["L2CacheSize"])

    def _loaded(self, key: _Key) -> cupy.cuda.Function:
        """Return what CuPy makes of a kernel when it is first launched."""
        return (self._kernels.get(key) or self._kernel(key)).kernel

    def _kernel(self, key: _Key) -> cupy.RawKernel:
        """Return a kernel, loaded where that has not been done."""
        device, dtypes, kernel, together = key
        module = self._module((device, dtypes, source(kernel), together))
        function = self._kernels[key] = module.get_function(kernel)
        return function

    def _module(self, key: _Key) -> cupy.RawModule:
        """Return the loaded kernels of a text."""
        with self._lock:
            module = self._modules.get(key)
            if module is None:
                device, dtypes, text, together = key
                capability = self.xp.cuda.Device(device).compute_capability
                path = compiler.machine_code(text, capability, compiler.defines(*dtypes))
                module = self.xp.RawModule(path=str(path), enable_cooperative_groups=together)
                self._modules[key] = module
            return module


def capture_error(reason: object) -> RuntimeError:
    """Return the error of what a CUDA graph cannot hold."""
    return RuntimeError(
        f"this cannot be captured into a CUDA graph: {reason}. Call it once before capturing, pass "
        "out= and arrays of the device alone; what needs memory of its own, as statistics do, is "
        "captured with tensors, by torch.cuda.graph"
    )


def is_capturing(stream: cupy.cuda.Stream) -> bool:
    """Whether a CUDA graph is being captured on a stream that someone has made."""
    return bool(stream.ptr > _LAST_BUILTIN_STREAM and stream.is_capturing())
