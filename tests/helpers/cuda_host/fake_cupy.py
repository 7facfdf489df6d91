"""As much of CuPy as the backend and its benchmarks ask for, on the emulated device.

Kernels go the whole way: NVRTC "compiles" a text into a file, a module loads it, and a launch runs
it on the CPU. Streams write down who waits for whom, and what is in no order is an error at the
end; any allocation can be made to fail.
"""

from __future__ import annotations

import gc
import math
import sys
import tempfile
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cuda_host.arrays import DeviceArray, namespace, unwrap
from cuda_host.emulated import EmulatedDevice
from cuda_host.fake_memory import (
    CUDADriverError,
    CUDARuntimeError,
    MemoryPointer,
    OutOfMemoryError,
    Pointer,
    PooledMemory,
    Tensor,
    UnownedMemory,
    belongs,
    block_at,
    forget,
)
from cuda_host.fake_nvrtc import FakeNvrtc, unpacked
from cuda_host.fake_streams import Device, Stream, TimingEvent
from cuda_host.stream_order import StreamOrder, contents, root

__all__ = ["FakeCupy", "Tensor", "installed"]


class FakeCupy(types.ModuleType):
    """The module ``cupy``."""

    __version__ = "14.2.0"

    def __init__(self) -> None:
        super().__init__("cupy")
        self.emulated = EmulatedDevice()
        self.log: list[str] = []
        self.order = StreamOrder()
        #: Streams that a graph is being captured on.
        self.capturing: set[int] = set()
        #: Those of them whose capture is lost, by what a graph cannot hold.
        self.invalidated: set[int] = set()
        self.allocator = threading.local()
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
        #: Returns the memory of a tensor, where PyTorch poses beside this.
        self.lent_by: Any = None
        #: The kernels launched so far, whether their blocks were together, and how long each takes.
        self.launched: list[str] = []
        self.together: list[bool] = []
        self.kernel_seconds = 1e-5
        self._made = 0
        self._fill_cuda()

    def __getattr__(self, name: str) -> Any:
        found = getattr(namespace, name)
        if not callable(found) or isinstance(found, type):
            return found

        def function(*arguments: Any, **options: Any) -> Any:
            return self.computed(found(*arguments, **options), (arguments, options))

        return function

    # -- order -----------------------------------------------------------------------------

    @property
    def stream(self) -> int:
        """The current stream's number."""
        return self.streams[-1].ptr

    def refuse_in_graph(self, stream: int | None = None) -> None:
        """Raise where a graph is being captured: on any stream, or on this one but not another."""
        if self.capturing and (stream is None or stream not in self.capturing):
            self.invalidated |= self.capturing
            raise CUDARuntimeError(900)
        self.refuse_lost(stream)

    def refuse_lost(self, stream: int | None) -> None:
        """Raise where the capture on a stream is lost: whatever comes next on it fails."""
        if stream in self.invalidated & self.capturing:
            raise CUDARuntimeError(901)

    def exchange(self, theirs: int) -> None:
        """Have the current stream wait for another library's, as DLPack does where they differ.

        A stream that does not belong to a capture cannot wait for one that does.
        """
        if theirs == self.stream:
            return
        if (theirs in self.capturing) != (self.stream in self.capturing):
            self.invalidated |= {theirs, self.stream} & self.capturing
            raise CUDARuntimeError(906)
        self.order.wait(self.stream, self.order.record(theirs))

    def computed(self, result: Any, given: Any) -> Any:
        """Put what a function of arrays gives into memory of its own, as work of the stream."""
        if isinstance(result, tuple):
            return tuple(self.computed(each, given) for each in result)
        if not isinstance(result, DeviceArray):
            return result
        inputs = list(_arrays(given))
        owner = root(unwrap(result))
        if any(root(unwrap(each)) is owner for each in inputs):
            return result  # a view
        self.order.work(self.stream)
        for each in inputs:
            self.order.use(unwrap(each), self.stream, writes=False)
        fresh = self.like(unwrap(result))
        unwrap(fresh)[...] = unwrap(result)
        self.order.use(unwrap(fresh), self.stream, writes=True)
        return fresh

    def used(self, array: Any, *, writes: bool) -> None:
        """Note work of the current stream on an array, as another library's."""
        self.order.work(self.stream)
        self.order.use(unwrap(array), self.stream, writes=writes)

    # -- memory ----------------------------------------------------------------------------

    def allocate(self, num_bytes: int, error: Exception | None = None) -> None:
        """Count an allocation; raise where memory is out."""
        if self.allocations_left is not None:
            self.allocations_left -= 1
        if num_bytes > self.free_bytes or self.allocations_left == -1:
            raise error or OutOfMemoryError(num_bytes, 0)

    def empty(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
        num_bytes = math.prod(shape) * dtype.itemsize
        self.allocate(num_bytes)
        allocator = getattr(self.allocator, "value", None)
        if allocator is None:
            if self.capturing:  # as a pool that has to grow
                self.refuse_in_graph()
            array = self.emulated.empty(shape, dtype)
            self.order.allocated(unwrap(array), self.stream)
            return array
        pointer = allocator(num_bytes)
        memory = block_at(pointer.ptr, num_bytes)
        self.order.allocated(memory, self.stream)
        belongs(memory, pointer.mem)
        return DeviceArray(memory[:num_bytes].view(dtype).reshape(shape))

    def like(self, array: np.ndarray) -> DeviceArray:
        """Return a fresh array in the memory order of another."""
        order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        fresh = self.empty([array.shape[axis] for axis in order], array.dtype)
        return fresh.transpose([order.index(axis) for axis in range(array.ndim)])

    def empty_like(self, array: Any, dtype: Any = None) -> DeviceArray:
        return self.like(np.empty_like(unwrap(array), dtype=dtype))

    def zeros(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        array = self.empty(shape, dtype)
        unwrap(array)[...] = 0
        self.used(array, writes=True)
        return array

    def asarray(self, array: Any, dtype: Any = None) -> DeviceArray:
        if isinstance(array, DeviceArray):
            return array if dtype is None else array.astype(dtype)
        host = np.asarray(array, dtype)
        fresh = self.empty(host.shape, host.dtype)
        if self.capturing:  # the graph would read host memory that is gone
            self.refuse_in_graph()
        self.order.work(self.stream, "to device", host.nbytes / _BYTES_PER_SECOND)
        if host.size:
            fresh = fresh if host.flags.c_contiguous else self.like(host)
            unwrap(fresh)[...] = host
        self.order.use(unwrap(fresh), self.stream, writes=True)
        return fresh

    def ones(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return self.asarray(np.ones(shape, dtype))

    def asnumpy(self, array: Any) -> np.ndarray:
        host: np.ndarray = array.get()
        return host

    def from_dlpack(self, array: Any) -> DeviceArray:
        self.log.append(f"from_dlpack on {self.stream}")
        lent = DeviceArray(array.memory)
        lent.owner = array
        return lent

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(free_all_blocks=lambda: None)

    def _standard_normal(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return self.asarray(np.random.default_rng(0).standard_normal(shape).astype(dtype))

    # -- cupy.cuda -------------------------------------------------------------------------

    def RawModule(self, *, path: str, enable_cooperative_groups: bool = False) -> Any:
        (text, defines), together = unpacked(path), enable_cooperative_groups

        def get_function(name: str) -> Any:
            def launch(grid: Any, block: Any, args: tuple[Any, ...]) -> None:
                self.refuse_lost(self.stream)
                self.log.append(f"launch on {self.stream}")
                self.launched.append(name)
                self.together.append(together)
                self.order.work(self.stream, "kernel", self.kernel_seconds)
                blocks = self.order.at(_addresses(args))
                before = [contents(each) for each in blocks]
                self.emulated.run(text, defines, name, grid, block, args, together)
                self.order.launched(blocks, before, self.stream)

            launch.kernel = SimpleNamespace(ptr=1)  # type: ignore[attr-defined]
            return launch

        return SimpleNamespace(get_function=get_function)

    @contextmanager
    def _using_allocator(self, allocator: Any) -> Iterator[None]:
        before = getattr(self.allocator, "value", None)
        self.allocator.value = allocator
        try:
            yield
        finally:
            self.allocator.value = before

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
        cuda.Stream, cuda.Event = new_stream, TimingEvent
        cuda.get_current_stream = lambda: self.streams[-1]
        cuda.get_elapsed_time = lambda start, end: (end.time - start.time) * 1e3
        cuda.get_cuda_path = lambda: None
        cuda.set_allocator = lambda allocator: None
        cuda.alloc_pinned_memory = alloc_pinned_memory
        cuda.nvrtc = self.nvrtc
        cuda.Device = lambda number=0: Device(self, number)
        cuda.using_allocator = self._using_allocator
        cuda.memory = SimpleNamespace(
            OutOfMemoryError=OutOfMemoryError, PooledMemory=PooledMemory,
            UnownedMemory=UnownedMemory, MemoryPointer=MemoryPointer,
        )  # fmt: skip
        cuda.driver = SimpleNamespace(
            CUDADriverError=CUDADriverError,
            occupancyMaxActiveBlocksPerMultiprocessor=lambda func, blockSize, dynamicSMemSize: 1,
        )
        cuda.runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: 13000,
            getDevice=lambda: self.device,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda number: {"name": b"emulated", "totalGlobalMem": 1 << 30},
            is_hip=False,
            runtimeGetVersion=lambda: 13000,
        )


def _arrays(given: Any) -> Iterator[DeviceArray]:
    """Yield the arrays among arguments."""
    if isinstance(given, DeviceArray):
        yield given
    elif isinstance(given, list | tuple | dict):
        for each in given.values() if isinstance(given, dict) else given:
            yield from _arrays(each)


def _addresses(arguments: tuple[Any, ...]) -> list[int]:
    """Return the numbers among a kernel's arguments that may be addresses."""
    numbers: list[int] = []
    for each in arguments:
        if each.dtype.names is not None:
            numbers += _addresses(tuple(each[name] for name in each.dtype.names))
        elif each.dtype == np.int64:
            numbers.append(int(each))
    return numbers


def _as_strided(x: DeviceArray, shape: Any, strides: Any) -> DeviceArray:
    return DeviceArray(np.lib.stride_tricks.as_strided(unwrap(x), shape, strides))


_BYTES_PER_SECOND = 5e10


@contextmanager
def installed(monkeypatch: Any) -> Iterator[FakeCupy]:
    """Put the fake in CuPy's place, and let its arrays have what CuPy's have."""
    cupy = FakeCupy()
    arithmetic, setitem = DeviceArray.__array_ufunc__, DeviceArray.__setitem__

    def get(self: Any, stream: Any = None, out: Any = None, blocking: bool = True) -> np.ndarray:
        used = cupy.stream if stream is None else stream.ptr
        cupy.order.work(used, "to host", unwrap(self).nbytes / _BYTES_PER_SECOND)
        cupy.order.use(unwrap(self), used, writes=False)
        if blocking:
            cupy.refuse_in_graph()
            cupy.log.append(f"host waits for {used}")
            cupy.order.synchronize(used)
        host = np.array(unwrap(self), order="C")
        if out is None:
            return host
        assert out.shape == host.shape, "CuPy refuses another shape"
        assert out.dtype == host.dtype, "CuPy refuses another dtype"
        out[...] = host
        return out

    def put(self: Any, array: np.ndarray, stream: Any = None) -> None:
        used = cupy.stream if stream is None else stream.ptr
        cupy.log.append(f"copy on {used}")
        cupy.order.work(used, "to device", array.nbytes / _BYTES_PER_SECOND)
        unwrap(self)[...] = array
        cupy.order.use(unwrap(self), used, writes=True)

    def counted(self: Any, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        result = arithmetic(self, ufunc, method, *inputs, **options)
        for each in options.get("out") or ():
            cupy.used(each, writes=True)
        return cupy.computed(result, (inputs, options))

    def assign(self: Any, key: Any, value: Any) -> None:
        setitem(self, key, value)
        cupy.used(self, writes=True)
        for each in _arrays([value]):
            cupy.order.use(unwrap(each), cupy.stream, writes=False)

    def copying(name: str) -> Any:
        method = getattr(np.ndarray, name)

        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            made = DeviceArray(method(unwrap(self), *arguments, **options))
            return cupy.computed(made, [self])

        return call

    def new(self: Any, memory: Any, dtype: Any = None, memptr: Any = None, strides: Any = None):
        """Make an array of memory, or as CuPy's, of a shape at a place that another has lent."""
        if memptr is not None:
            shape, memory = memory, unwrap(cupy.lent_by(memptr.mem.owner))
            assert (shape, dtype, strides) == (memory.shape, memory.dtype, memory.strides)
            assert memptr.ptr == memory.__array_interface__["data"][0] or 0 in shape
        self._memory = memory

    def reduction(name: str) -> Any:
        return lambda self, **options: getattr(cupy, name)(self, **options)

    fakes = {
        "__init__": new,
        "get": get, "set": put, "data": property(Pointer), "__array_ufunc__": counted,
        "__setitem__": assign, **{name: copying(name) for name in ("astype", "copy", "reshape")},
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
            forget()
        gc.collect()
        assert not cupy.order.races, cupy.order.races
