"""As much of CuPy as the backend and its benchmarks ask for, on the emulated device.

Kernels go the whole way: NVRTC "compiles" a text into a file, a module loads it, and a launch runs
it on the CPU. Streams write down who waits for whom, and any allocation can be made to fail.
"""

from __future__ import annotations

import sys
import tempfile
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cuda_host.arrays import DeviceArray, namespace, unwrap
from cuda_host.emulated import EmulatedDevice
from cuda_host.fake_nvrtc import FakeNvrtc, unpacked

__all__ = ["FakeCupy", "Tensor", "installed"]


class OutOfMemoryError(MemoryError):
    """CuPy's."""


class CUDARuntimeError(RuntimeError):
    """CuPy's: an error of CUDA itself."""

    def __init__(self, status: int) -> None:
        super().__init__("cudaErrorMemoryAllocation: out of memory" if status == 2 else status)
        self.status = status


class CUDADriverError(RuntimeError):
    """CuPy's: an error of the driver."""

    def __init__(self, status: int) -> None:
        super().__init__("CUDA_ERROR_OUT_OF_MEMORY: out of memory" if status == 2 else status)
        self.status = status


class PooledMemory:
    """Memory of CuPy's pool."""


class DLPackMemory:
    """Memory of another library."""


class Stream:
    """A stream that writes down who waits for whom."""

    def __init__(self, cupy: FakeCupy, ptr: int) -> None:
        self._cupy, self.ptr = cupy, ptr

    def record(self, event: Any = None) -> int:
        return self.ptr

    def wait_event(self, event: int) -> None:
        self._cupy.log.append(f"{self.ptr} waits for {event}")

    def synchronize(self) -> None:
        self._cupy.log.append(f"host waits for {self.ptr}")

    def __enter__(self) -> Stream:
        self._cupy.streams.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        self._cupy.streams.pop()


class FakeCupy(types.ModuleType):
    """The module ``cupy``."""

    __version__ = "14.2.0"

    def __init__(self) -> None:
        super().__init__("cupy")
        self.emulated = EmulatedDevice()
        self.log: list[str] = []
        self.streams: list[Stream] = [Stream(self, 0)]
        self.device = 0
        self.free_bytes = 1 << 30
        #: Allocations that succeed before one fails; None: all do.
        self.allocations_left: int | None = None
        self.ndarray = DeviceArray
        self.float64, self.float32, self.bool = np.float64, np.float32, np.bool_
        self.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))
        self.random = SimpleNamespace(standard_normal=self._standard_normal)
        self.nvrtc = FakeNvrtc()
        self.cuda = types.ModuleType("cupy.cuda")
        self._made = 0
        self._fill_cuda()

    def __getattr__(self, name: str) -> Any:
        found = getattr(namespace, name)
        if not callable(found) or isinstance(found, type):
            return found

        def function(*arguments: Any, **options: Any) -> Any:
            self.allocate(0)
            return found(*arguments, **options)

        return function

    # -- memory ----------------------------------------------------------------------------

    def allocate(self, num_bytes: int, error: Exception | None = None) -> None:
        """Count an allocation; raise where memory is out."""
        if self.allocations_left is not None:
            self.allocations_left -= 1
        if num_bytes > self.free_bytes or self.allocations_left == -1:
            raise error or OutOfMemoryError(f"Out of memory allocating {num_bytes} bytes")

    def empty(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        self.allocate(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return self.emulated.empty(shape, dtype)

    def empty_like(self, array: Any, dtype: Any = None) -> DeviceArray:
        like = np.empty_like(unwrap(array), dtype=dtype)
        self.allocate(like.nbytes)
        return DeviceArray(like)

    def zeros(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        self.allocate(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return self.emulated.zeros(shape, dtype)

    def ones(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return self.asarray(np.ones(shape, dtype))

    def asarray(self, array: Any, dtype: Any = None) -> DeviceArray:
        if isinstance(array, DeviceArray):
            return array if dtype is None else array.astype(dtype)
        host = np.asarray(array, dtype)
        self.allocate(host.nbytes)
        return self.emulated.asarray(host)

    def asnumpy(self, array: Any) -> np.ndarray:
        host: np.ndarray = array.get()
        return host

    def from_dlpack(self, array: Any) -> DeviceArray:
        self.log.append(f"from_dlpack on {self.streams[-1].ptr}")
        lent = DeviceArray(array.memory)
        lent.owner = array
        return lent

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(free_all_blocks=lambda: None)

    def _standard_normal(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return self.asarray(np.random.default_rng(0).standard_normal(shape).astype(dtype))

    # -- cupy.cuda -------------------------------------------------------------------------

    def RawModule(self, *, path: str) -> Any:
        text, defines = unpacked(path)

        def get_function(name: str) -> Any:
            def launch(grid: Any, block: Any, args: tuple[Any, ...]) -> None:
                self.log.append(f"launch on {self.streams[-1].ptr}")
                self.emulated.run(text, defines, name, grid, block, args)

            return launch

        return SimpleNamespace(get_function=get_function)

    def _fill_cuda(self) -> None:
        def new_stream(non_blocking: bool = False) -> Stream:
            self._made += 1
            return Stream(self, 100 + self._made)

        def from_external(stream: Any) -> Stream:
            return Stream(self, stream.__cuda_stream__()[1])

        def alloc_pinned_memory(size: int) -> bytearray:
            self.allocate(0, CUDARuntimeError(2))
            return bytearray(size)

        new_stream.from_external = from_external  # type: ignore[attr-defined]
        cuda: Any = self.cuda
        cuda.Stream, cuda.Event = new_stream, _Event
        cuda.get_current_stream = lambda: self.streams[-1]
        cuda.get_elapsed_time = lambda start, end: (end.time - start.time) * 1e3
        cuda.get_cuda_path = lambda: None
        cuda.set_allocator = lambda allocator: None
        cuda.alloc_pinned_memory = alloc_pinned_memory
        cuda.nvrtc = self.nvrtc
        cuda.Device = lambda number=0: SimpleNamespace(
            id=number, compute_capability="90", synchronize=lambda: None
        )
        cuda.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError, PooledMemory=PooledMemory)
        cuda.driver = SimpleNamespace(CUDADriverError=CUDADriverError)
        cuda.runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: 13000,
            getDevice=lambda: self.device,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda number: {"name": b"emulated", "totalGlobalMem": 1 << 30},
            is_hip=False,
            runtimeGetVersion=lambda: 13000,
        )


def _as_strided(x: DeviceArray, shape: Any, strides: Any) -> DeviceArray:
    return DeviceArray(np.lib.stride_tricks.as_strided(unwrap(x), shape, strides))


class _Event:
    def __init__(self) -> None:
        self.time = 0.0

    def record(self) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass


class _Pointer:
    def __init__(self, array: DeviceArray) -> None:
        self._memory = unwrap(array)
        self.ptr = self._memory.__array_interface__["data"][0]
        lent = _lent.get(id(_root(self._memory)))
        self.mem = PooledMemory() if lent is None else DLPackMemory()
        self.device_id = 0 if lent is None else lent

    def copy_from_device_async(self, other: _Pointer, size: int) -> None:
        assert size == other._memory.nbytes == self._memory.nbytes
        self._memory[...] = other._memory


def _root(memory: np.ndarray) -> np.ndarray:
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    return memory


_lent: dict[int, int] = {}


class Tensor:
    """A tensor of another library, on a CUDA device."""

    __module__ = "faketorch"

    def __init__(self, memory: np.ndarray, device: int = 0) -> None:
        self.memory, self.device = memory, device
        self.dtype, self.shape, self.ndim = memory.dtype, memory.shape, memory.ndim
        _lent[id(_root(memory))] = device

    def detach(self) -> Tensor:
        return self

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("this fake is imported whole")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device


@contextmanager
def installed(monkeypatch: Any) -> Iterator[FakeCupy]:
    """Put the fake in CuPy's place, and let its arrays have what CuPy's have."""
    cupy = FakeCupy()
    arithmetic = DeviceArray.__array_ufunc__

    def get(self: Any, stream: Any = None, out: Any = None, blocking: bool = True) -> np.ndarray:
        if blocking:
            cupy.log.append(f"host waits for {cupy.streams[-1].ptr}")
        host = np.array(unwrap(self), order="C")
        if out is None:
            return host
        assert out.shape == host.shape, "CuPy refuses another shape"
        assert out.dtype == host.dtype, "CuPy refuses another dtype"
        out[...] = host
        return out

    def put(self: Any, array: np.ndarray, stream: Any = None) -> None:
        cupy.log.append(f"copy on {cupy.streams[-1].ptr}")
        unwrap(self)[...] = array

    def counted(self: Any, *inputs: Any, **options: Any) -> Any:
        cupy.allocate(0)
        return arithmetic(self, *inputs, **options)

    def reduction(name: str) -> Any:
        return lambda self, **options: getattr(cupy, name)(self, **options)

    fakes = {
        "get": get, "set": put, "data": property(_Pointer), "__array_ufunc__": counted,
        "__bool__": lambda self: bool(self.get()), "__float__": lambda self: float(self.get()),
        "__dlpack__": None, "__dlpack_device__": lambda self: (2, 0),
        "__array_namespace__": lambda self, *, api_version=None: cupy,
        "view": lambda self, dtype: DeviceArray(unwrap(self).view(dtype)),
        **{name: reduction(name) for name in ("max", "mean", "min", "var")},
    }  # fmt: skip
    for name, value in fakes.items():
        monkeypatch.setattr(DeviceArray, name, value, raising=False)
    faketorch: Any = types.ModuleType("faketorch")
    faketorch.from_dlpack = lambda array: Tensor(unwrap(array))
    modules = {"cupy": cupy, "cupy.cuda": cupy.cuda, "faketorch": faketorch}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    with tempfile.TemporaryDirectory() as cache:
        monkeypatch.setenv("NORMCORE_CACHE_DIR", str(Path(cache)))
        try:
            yield cupy
        finally:
            _lent.clear()
