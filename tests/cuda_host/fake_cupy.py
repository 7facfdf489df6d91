"""As much of CuPy as the backend asks for, over the emulated device; its streams take notes."""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from typing import Any

import numpy as np
from normcore_cupy.cupy_device import CupyDevice

from cuda_host.arrays import DeviceArray, namespace, unwrap
from cuda_host.emulated import EmulatedDevice

__all__ = ["FakeDevice", "installed"]


class OutOfMemoryError(MemoryError):
    """CuPy's."""


class _Stream:
    """A stream that writes down who waits for whom."""

    def __init__(self, cupy: Any, ptr: int) -> None:
        self._cupy, self.ptr = cupy, ptr

    def record(self) -> int:
        return self.ptr

    def wait_event(self, event: int) -> None:
        self._cupy.log.append(f"{self.ptr} waits for {event}")

    def synchronize(self) -> None:
        self._cupy.log.append(f"host waits for {self.ptr}")

    def __enter__(self) -> None:
        self._cupy.streams.append(self)

    def __exit__(self, *_: Any) -> None:
        self._cupy.streams.pop()


class _Memory:
    """Memory of CuPy's pool."""


class DLPackMemory:
    """Memory of another library."""


class _Module(types.ModuleType):
    """The module ``cupy``."""

    __version__ = "14.2.0"

    def __init__(self) -> None:
        super().__init__("cupy")
        self.emulated = EmulatedDevice()
        self.log: list[str] = []
        self.streams: list[Any] = [_Stream(self, 0)]
        self.device = 0
        self.free_bytes = 1 << 30
        self.ndarray = DeviceArray
        self.float64, self.bool = np.float64, np.bool_
        self._made = 0

        def new_stream(non_blocking: bool = False) -> _Stream:
            self._made += 1
            return _Stream(self, 100 + self._made)

        new_stream.from_external = lambda each: _Stream(self, each.__cuda_stream__()[1])  # type: ignore[attr-defined]
        self.cuda = types.SimpleNamespace(
            Stream=new_stream,
            get_current_stream=lambda: self.streams[-1],
            alloc_pinned_memory=bytearray,
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            runtime=types.SimpleNamespace(getDevice=lambda: self.device),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(namespace, name)

    def empty(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        if np.prod(shape) * np.dtype(dtype).itemsize > self.free_bytes:
            raise OutOfMemoryError("Out of memory allocating too many bytes")
        return self.emulated.empty(shape, dtype)

    def empty_like(self, array: Any, dtype: Any = None) -> DeviceArray:
        like = np.empty_like(unwrap(array), dtype=dtype)
        self.empty(like.shape, like.dtype)
        return DeviceArray(like)

    def zeros(self, shape: Any, dtype: Any = np.float64) -> DeviceArray:
        return self.emulated.zeros(shape, dtype)

    def asarray(self, array: Any, dtype: Any = None) -> DeviceArray:
        if isinstance(array, DeviceArray):
            return array if dtype is None else array.astype(dtype)
        return self.emulated.asarray(np.asarray(array, dtype))

    def from_dlpack(self, array: Any) -> DeviceArray:
        self.log.append(f"from_dlpack on {self.streams[-1].ptr}")
        lent = DeviceArray(array.memory)
        lent.owner = array
        return lent


class _Pointer:
    def __init__(self, array: DeviceArray) -> None:
        memory = unwrap(array)
        self.ptr = memory.__array_interface__["data"][0]
        root = memory
        while isinstance(root.base, np.ndarray):
            root = root.base
        lent = _lent.get(id(root))
        self.mem = _Memory() if lent is None else DLPackMemory()
        self.device_id = 0 if lent is None else lent


_lent: dict[int, int] = {}


class Tensor:
    """A tensor of another library, on a CUDA device."""

    __module__ = "faketorch"

    def __init__(self, memory: np.ndarray, device: int = 0) -> None:
        self.memory, self.device = memory, device
        self.dtype, self.shape, self.ndim = memory.dtype, memory.shape, memory.ndim
        root = memory
        while isinstance(root.base, np.ndarray):
            root = root.base
        _lent[id(root)] = device

    def detach(self) -> Tensor:
        return self

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("this fake is imported whole")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device


class FakeDevice(CupyDevice):
    """CuPy's device, with launches on the CPU."""

    def pointer(self, array: Any) -> int:
        return self.xp.emulated.pointer(array)

    def launch(self, kernel: str, *arguments: Any) -> None:
        self.xp.log.append(f"launch on {self.xp.streams[-1].ptr}")
        self.xp.emulated.launch(kernel, *arguments)


@contextmanager
def installed(monkeypatch: Any) -> Any:
    """Put the fake in CuPy's place, and let its arrays have what CuPy's have."""
    cupy = _Module()

    def get(self: Any, stream: Any = None, out: Any = None, blocking: bool = True) -> np.ndarray:
        if blocking:
            cupy.log.append(f"host waits for {cupy.streams[-1].ptr}")
        host = np.array(unwrap(self), order="C")
        if out is None:
            return host
        out[...] = host
        return out

    def put(self: Any, array: np.ndarray, stream: Any = None) -> None:
        unwrap(self)[...] = array

    monkeypatch.setattr(DeviceArray, "get", get, raising=False)
    monkeypatch.setattr(DeviceArray, "__bool__", lambda self: bool(self.get()))
    monkeypatch.setattr(DeviceArray, "set", put, raising=False)
    monkeypatch.setattr(DeviceArray, "data", property(_Pointer), raising=False)
    monkeypatch.setattr(DeviceArray, "__dlpack_device__", lambda self: (2, 0), raising=False)
    monkeypatch.setattr(DeviceArray, "__dlpack__", None, raising=False)
    monkeypatch.setattr(DeviceArray, "__array_namespace__", lambda self: cupy)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    faketorch = types.ModuleType("faketorch")
    faketorch.from_dlpack = lambda array: Tensor(unwrap(array))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faketorch", faketorch)
    try:
        yield cupy
    finally:
        _lent.clear()
