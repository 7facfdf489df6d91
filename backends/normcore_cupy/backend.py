"""The CuPy backend: arrays of CuPy, tensors lent through DLPack, and host arrays in chunks."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import ClassVar, cast

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.array_backend.selection import get_backend
from normcore.array_backend.status import BackendStatus
from normcore.layout.namespace import Array
from normcore.layout.out_argument import kind_of
from normcore.statistics.statistic import StatisticT
from normcore_cupy.caller import Caller
from normcore_cupy.chunks import CHUNK_BYTES, ChunkedKernels
from normcore_cupy.cupy_device import CupyDevice, capture_error
from normcore_cupy.host import DeviceBackend
from normcore_cupy.ordering import CAPTURE_ERRORS, Ordering, is_tensor
from normcore_cupy.probe import status
from normcore_cupy.streams import CupyStream, take_streams
from normcore_cupy.tensor_kernels import TensorKernels
from normcore_cupy.whole_calls import WholeCalls

__all__ = ["CupyBackend"]

# DLPack's numbers: CUDA's own and managed memory; host memory, ordinary and pinned.
_CUDA, _HOST = (2, 13), (1, 3, 11)
# cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY: of pinned memory says the runtime itself
# that it is out, and of memory for a kernel's code the driver.
_MEMORY_ALLOCATION = 2


class CupyBackend(DeviceBackend):
    """CUDA kernels, compiled on first use for the current device.

    Work is ordered on CuPy's current stream, and for memory that PyTorch has lent on PyTorch's;
    nothing waits for it but fits, which bring statistics to the host. Arrays on the host stay
    there, and are worked on in chunks.

    Parameters
    ----------
    chunk_bytes : int
        Bytes of a host array that are on the device at a time, in each of two chunks.
    """

    name: ClassVar[str] = "cupy"

    @classmethod
    def probe(cls) -> BackendStatus:
        """Say whether the backend can run here; leaves CUDA uninitialised, so forks stay usable."""
        return status()

    def __init__(self, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        if chunk_bytes < 1:
            raise ValueError(f"chunk_bytes must be positive, got {chunk_bytes}")
        device = CupyDevice()
        super().__init__(device)
        self._ordering = Ordering(device.xp)
        caller = Caller(self, self._ordering, functools.partial(self._cuda_errors, _ON_DEVICE))
        self.whole_calls = WholeCalls(self, caller)
        self.memory_kernels = TensorKernels(self, caller)
        self._process = os.getpid()
        idle: dict[int, list[CupyStream]] = {}
        self._chunked = ChunkedKernels(
            cast(DeviceBackend, super()),  # for arrays of the device alone
            self.device.empty,
            lambda: take_streams(self.device.xp, idle),
            chunk_bytes,
        )

    def __reduce__(self) -> tuple[Callable[[int], Backend], tuple[int]]:
        """By name, and by what it was made with where that is not the default."""
        return _restored, (self._chunked.chunk_bytes,)

    def adopt(self, array: Array) -> Array:
        """Return an array of CuPy that shares the memory, or the NumPy array of host memory.

        Raises
        ------
        TypeError
            If the dtype is not a real number's, or the memory is of a device that is not current.
        """
        if self._process != os.getpid():
            raise RuntimeError(
                "CUDA was in use before this process was forked, and cannot be used in it; start "
                "processes by 'spawn' or 'forkserver', or use another backend"
            )
        cupy, native = self.device.xp, array
        if not isinstance(array, (cupy.ndarray, np.ndarray)):
            native = self._ordering.lent(array) if is_tensor(array) else None
            if native is None:
                native = _borrowed(cupy, array)
        dtype = native.dtype
        if dtype.kind not in "biuf" and dtype.name != "bfloat16":
            raise TypeError(f"cannot normalize an array of dtype {dtype}; use real numbers")
        if isinstance(native, np.ndarray):
            return _native_host(native)
        current = cupy.cuda.runtime.getDevice()
        if native.data.device_id != current:
            raise TypeError(
                f"the array is on CUDA device {native.data.device_id}, but device {current} is the "
                f"current one; enter `with cupy.cuda.Device({native.data.device_id}):` first"
            )
        return native

    def release(self, array: Array, like: Array) -> Array:
        """Return ``array`` in the library and on the device of ``like``, ordered on its stream."""
        cupy = self.device.xp
        if isinstance(like, cupy.ndarray):
            return self._moved(array)
        with self._ordering.of(like):
            return self._released(array, like)

    def _released(self, array: Array, like: Array) -> Array:
        if _device_kind(like) in _CUDA:
            array = self._moved(array)
            if is_tensor(like):
                return self._ordering.as_tensor(array)
        elif not isinstance(array, np.ndarray):
            array = self.device.to_host(array)
        if isinstance(like, np.ndarray) or not hasattr(like, "__dlpack__"):
            return array
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            array = array.copy()  # DLPack hands out writable memory
        named = getattr(like, "__array_namespace__", None)
        module = sys.modules[type(like).__module__.partition(".")[0]] if named is None else named()
        return module.from_dlpack(array)

    def in_order_with(self, array: Array) -> AbstractContextManager[None]:
        """Return the context of work on an array: PyTorch's stream and memory for its tensors.

        An array of CuPy's is worked on on CuPy's current stream; where another library has lent
        its memory, in order with PyTorch's current stream before and after.
        """
        return self._ordering.of(array)

    def merge(self, statistic: StatisticT, other: StatisticT) -> StatisticT:
        with self._cuda_errors(_ON_DEVICE):
            return super().merge(statistic, other)

    def _moved(self, array: Array) -> Array:
        with self._cuda_errors(_ON_DEVICE):
            return self.device.asarray(array)

    @contextmanager
    def _cuda_errors(self, advice: str) -> Iterator[None]:
        """Turn errors of memory that is out, and of graphs, into those that say what to do."""
        cuda = self.device.xp.cuda
        of_cuda = cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError
        try:
            yield
        except (cuda.memory.OutOfMemoryError, *of_cuda) as error:
            status = getattr(error, "status", _MEMORY_ALLOCATION)
            if status in CAPTURE_ERRORS:
                raise capture_error(error) from error
            if status != _MEMORY_ALLOCATION:
                raise
            raise MemoryError(f"{error}. Results so far are intact. {advice}") from error

    def _in_chunks(self, name: str, *args: Array, **options: object) -> Array:
        """Run a required kernel on host arrays."""
        advice = _IN_CHUNKS.format(self._chunked.chunk_bytes)
        with self._cuda_errors(advice):
            return getattr(self._chunked, name)(*args, **options)


def _restored(chunk_bytes: int) -> Backend:
    """Return the backend that a pickle names: this process's own one, unless its chunks differ."""
    registered = get_backend(CupyBackend.name)
    if chunk_bytes == CHUNK_BYTES:
        return registered
    return CupyBackend(chunk_bytes=chunk_bytes)


_ON_DEVICE = (
    "Free arrays of the device, or pass the data as a NumPy array with backend='cupy', which is "
    "worked on in chunks"
)
_IN_CHUNKS = (
    "The data is worked on in chunks of {} bytes already: free arrays of the device, or take "
    "smaller chunks with backend=normcore_cupy.backend.CupyBackend(chunk_bytes=...)"
)


# -- where a kernel runs -------------------------------------------------------------------


_PLANES = ("weights", "mask", "out")


def _dispatched(name: str, names: tuple[str, ...]) -> Callable[..., Array]:
    """Return a method that runs a kernel where its arrays are: on the device, or in chunks.

    ``names`` are those of the leading arguments that are arrays of the shape of x.
    """
    on_device = getattr(DeviceBackend, name)
    composed = getattr(Backend, name)

    @functools.wraps(on_device)
    def method(self: CupyBackend, *args: Array, **options: object) -> Array:
        given = [*args[: len(names)], *map(options.get, _PLANES)]
        hosts = [isinstance(each, np.ndarray) for each in given if each is not None]
        if any(hosts):
            if not all(hosts):
                raise _mixed_error(dict(zip((*names, *_PLANES), given, strict=True)))
            if getattr(composed, "__isabstractmethod__", False):
                return self._in_chunks(name, *args, **options)
            return composed(self, *args, **options)
        try:
            with self._ordering.of(args[0]):
                return on_device(self, *args, **options)
        except Exception:
            with self._cuda_errors(_ON_DEVICE):
                raise

    return method


for _name, _names in {
    "moments": ("x",),
    "extrema": ("x",),
    "brackets": ("x",),
    "rescale": ("x",),
    "backward_reduce": ("dy", "x"),
    "backward_elemt": ("dy", "x"),
    "quantiles": ("x",),
    "normalize": ("x",),
    "normalize_backward": ("dy", "x"),
    "normalize_rows": ("x",),
    "normalize_rows_backward": ("dy", "x"),
}.items():
    setattr(CupyBackend, _name, _dispatched(_name, _names))


def _mixed_error(arrays: dict[str, Array]) -> TypeError:
    """Return the error of arrays of which some are NumPy's and some are not."""
    present = {name: array for name, array in arrays.items() if array is not None}
    host = [name for name, array in present.items() if isinstance(array, np.ndarray)]
    device = [name for name in present if name not in host]
    return TypeError(
        f"{' and '.join(host)} {'is' if len(host) == 1 else 'are'} in host memory, but "
        f"{' and '.join(device)} {'is' if len(device) == 1 else 'are'} on CUDA device "
        f"{present[device[0]].data.device_id}; bring them together with cupy.asarray or "
        "cupy.asnumpy"
    )


# -- other libraries' arrays ---------------------------------------------------------------


def _device_kind(array: Array) -> int:
    """Return DLPack's number of the kind of device; host where the array names none."""
    device = getattr(array, "__dlpack_device__", None)
    return 1 if device is None else int(device()[0])


def _borrowed(cupy: ModuleType, array: Array) -> Array:
    """View an array of another library through DLPack, in order with its stream."""
    detached = getattr(array, "detach", None)  # a tensor that records gradients refuses DLPack
    if detached is not None:
        array = detached()
    kind = _device_kind(array)
    try:
        if kind in _CUDA:
            return cupy.from_dlpack(array)
        if kind in _HOST:
            return np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        hint = ""
        if "bfloat16" in str(getattr(array, "dtype", "")):
            hint = (
                "; bfloat16 needs `pip install ml-dtypes`, and NumPy 2.1.2 or newer"
                if kind in _CUDA
                else "; NumPy has no bfloat16: convert to float32, which holds every value of it, "
                "or move the array to the device first"
            )
        raise TypeError(f"cannot view {kind_of(array)} through DLPack: {error}{hint}") from error
    raise TypeError(f"{kind_of(array)} is on a device of DLPack's kind {kind}, which is not CUDA")


def _native_host(array: np.ndarray) -> np.ndarray:
    """Return an array in a dtype that kernels read."""
    if array.dtype.name != "bfloat16" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
