"""What the fake CuPy has of memory: pieces of it, CuPy's own and other libraries', and errors."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from cuda_host.arrays import DeviceArray, unwrap
from cuda_host.stream_order import root

if TYPE_CHECKING:
    from cuda_host.fake_cupy import FakeCupy

__all__ = [
    "CUDADriverError", "CUDARuntimeError", "DLPackMemory", "MemoryPointer", "OutOfMemoryError",
    "Pointer", "PooledMemory", "Tensor", "UnownedMemory", "belongs", "block_at", "forget", "lend",
]  # fmt: skip


class OutOfMemoryError(MemoryError):
    """CuPy's."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size} bytes (allocated so far: {total} bytes)")


class CUDARuntimeError(RuntimeError):
    """CuPy's: an error of CUDA itself."""

    def __init__(self, status: int) -> None:
        names = {
            2: "cudaErrorMemoryAllocation: out of memory",
            900: "cudaErrorStreamCaptureUnsupported: not permitted when stream is capturing",
            901: "cudaErrorStreamCaptureInvalidated: failed due to a previous error during capture",
            906: "cudaErrorStreamCaptureImplicit: would make the legacy stream depend on a capture",
        }
        super().__init__(names.get(status, status))
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


class UnownedMemory:
    """Memory of another library, which `owner` keeps."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    """A place in a piece of memory."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset


_lent: dict[int, int] = {}  # the devices of memory of other libraries
_memory: dict[int, Any] = {}  # what allocators gave
_blocks: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()


class Pointer:
    def __init__(self, array: DeviceArray) -> None:
        self._array = unwrap(array)
        self.ptr = self._array.__array_interface__["data"][0]
        owner = root(self._array)
        self.device_id = _lent.get(id(owner), 0)
        self.mem = _memory.get(id(owner))
        if self.mem is None:
            self.mem = DLPackMemory() if id(owner) in _lent else PooledMemory()

    def copy_from_device_async(self, other: Pointer, size: int) -> None:
        assert size == other._array.nbytes == self._array.nbytes
        self._array[...] = other._array


class Tensor:
    """A tensor of another library, on a CUDA device."""

    __module__ = "faketorch"

    def __init__(self, memory: np.ndarray, device: int = 0) -> None:
        self.memory, self.device = memory, device
        self.dtype, self.shape, self.ndim = memory.dtype, memory.shape, memory.ndim
        _lent[id(root(memory))] = device

    def detach(self) -> Tensor:
        return self

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("this fake is imported whole")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device


def block_at(address: int, num_bytes: int) -> np.ndarray:
    """Return the one array that stands for a block of memory of another library."""
    place = (ctypes.c_char * max(num_bytes, 1)).from_address(address)
    block = _blocks[address] = np.frombuffer(place, np.uint8)
    return block


def belongs(block: np.ndarray, memory: Any) -> None:
    """Say whose memory a block is; it is let go before the block is free."""
    _memory[id(block)] = memory
    weakref.finalize(block, _memory.pop, id(block), None)


def lend(cupy: FakeCupy, array: np.ndarray, address: int, num_bytes: int, kind: Any) -> DeviceArray:
    """Return an array of CuPy over memory of another library's, which the array keeps.

    Parameters
    ----------
    address, num_bytes
        Of the whole block, which a single array stands for as long as it is in use.
    kind : type
        Of memory.
    """
    block = _blocks.get(address)
    if block is None:
        block = cupy.order.owner(address)  # CuPy's own, lent and back again
    if block is None:
        block = block_at(address, num_bytes)
        belongs(block, kind(address, num_bytes, array))
    at, base = (each.__array_interface__["data"][0] for each in (array, block))
    start = block.reshape(-1).view(np.uint8)[at - base : at - base + array.itemsize]
    whole = np.lib.stride_tricks.as_strided(start.view(array.dtype), array.shape, array.strides)
    return DeviceArray(whole)


def forget() -> None:
    """Forget what other libraries have lent."""
    _lent.clear()
