"""In whose order work is done, and whose memory it takes: CuPy's, or PyTorch's for its tensors.

A pool gives memory out again in the order of the stream that it was allocated on, as soon as the
host lets go of it. So whatever a call allocates has to be of the stream that the call works on;
and what a tensor's library will use, later and on streams of its own choice, has to be that
library's memory.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib import NumpyVersion

from normcore.array_backend.abstract import IN_ANY_ORDER
from normcore.layout.namespace import Array
from normcore_cupy.cupy_device import capture_error, is_capturing

if TYPE_CHECKING:
    import cupy as cp
    import torch

    Allocator = Callable[[int], cp.cuda.MemoryPointer]

__all__ = ["CAPTURE_ERRORS", "Ordering", "is_plain_tensor", "is_tensor"]

#: cudaErrorStreamCaptureUnsupported and those that follow it: what a graph cannot hold.
CAPTURE_ERRORS = frozenset(range(900, 910))
# Of tensors; bfloat16 is beside them.
_DTYPES = (
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32",
    "uint16", "uint8", "bool",
)  # fmt: skip
# What CuPy allocates itself; all but the last are public names. Whatever is none of these counts as
# lent, so that a name that CuPy changes costs the order of two streams, and never loses it.
_OWN = ("Memory", "MemoryAsync", "ManagedMemory", "SystemMemory", "PooledMemory")


class Ordering:
    """The contexts that arrays are worked on in.

    Parameters
    ----------
    cupy : module
    """

    def __init__(self, cupy: ModuleType) -> None:
        self._cupy = cupy
        self._inside = threading.local()
        self._allocators: dict[torch.device, Allocator] = {}
        self._of_dtype: dict[torch.dtype, np.dtype] = {}
        memory = cupy.cuda.memory
        self._own = tuple(getattr(memory, name) for name in _OWN if hasattr(memory, name))

    def of(self, array: Array) -> AbstractContextManager[None]:
        """Return the context for a caller's array, a tensor or one of CuPy's."""
        if self.is_inside():
            return IN_ANY_ORDER
        torch = sys.modules.get("torch")
        if isinstance(array, self._cupy.ndarray):
            if is_capturing(self._cupy.cuda.get_current_stream()):
                return self._without_memory()
            if torch is not None and torch.cuda.is_initialized() and self._is_lent(array):
                return self._beside_torch(torch, array.data.device_id)
        elif torch is not None and is_tensor(array):
            cuda, number = self._cupy.cuda, array.get_device()
            current = cuda.get_current_stream().ptr
            if (
                number == cuda.runtime.getDevice()
                and torch.cuda.current_stream(array.device).cuda_stream == current
            ):
                return _OnOneStream(self._inside, self._allocating(torch, array.device))
            return self._of_torch(torch, array.device)
        return IN_ANY_ORDER

    def is_inside(self) -> bool:
        """Whether this thread is in one of the contexts."""
        return getattr(self._inside, "now", False)

    def refuse_learning(self, array: Array) -> None:
        """Raise where a graph is being captured on the stream of an array.

        Raises
        ------
        RuntimeError
            In that case: a replay would begin at the running statistics of the capture again.
        """
        if isinstance(array, self._cupy.ndarray):
            captures = is_capturing(self._cupy.cuda.get_current_stream())
        else:
            captures = is_tensor(array) and sys.modules["torch"].cuda.is_current_stream_capturing()
        if captures:
            raise RuntimeError(
                "this cannot be captured into a CUDA graph: each replay would begin at the running "
                "statistics of the capture again. Take nc.functional, or capture a module of "
                "normcore.torch, which changes its own in place"
            )

    def keep(self, torch: ModuleType, tensor: torch.Tensor) -> None:
        """Have PyTorch not give a tensor's memory out again before CuPy's stream is done."""
        current = self._cupy.cuda.get_current_stream().ptr
        if current != torch.cuda.current_stream(tensor.device).cuda_stream:
            tensor.record_stream(torch.cuda.ExternalStream(current, tensor.device))

    def lent(self, tensor: torch.Tensor) -> Array:
        """Return the memory of a tensor as an array of CuPy, or None where DLPack is to say.

        In one of the contexts nothing has to wait. DLPack would have CuPy's stream wait for
        PyTorch's, tensor by tensor, which takes longer than a small kernel; and out of a context,
        the legacy stream for one that captures a graph, which spoils the graph.

        Raises
        ------
        RuntimeError
            If a graph is being captured, and this thread is not in a context of its stream.
        """
        torch = sys.modules["torch"]
        if not self.is_inside():
            current = self._cupy.cuda.get_current_stream().ptr
            if (
                current != torch.cuda.current_stream(tensor.device).cuda_stream
                and torch.cuda.is_current_stream_capturing()
            ):
                raise capture_error("the tensor is of a stream that CuPy's current one is not")
            return None
        dtype = self._dtypes(torch).get(tensor.dtype)
        if tensor.is_neg():  # a view that says so, of values that are not negated yet
            tensor = tensor.resolve_neg()
        if dtype is None or not is_plain_tensor(tensor):
            return None
        itemsize, memory = dtype.itemsize, self._cupy.cuda.memory
        held = memory.UnownedMemory(tensor.data_ptr(), tensor.nbytes, tensor, tensor.get_device())
        strides = tuple([stride * itemsize for stride in tensor.stride()])
        pointer = memory.MemoryPointer(held, 0)
        return self._cupy.ndarray(tuple(tensor.shape), dtype, pointer, strides)

    def as_tensor(self, array: Array) -> Array:
        """Return an array of CuPy as a tensor: PyTorch's own where PyTorch allocated the memory."""
        torch = sys.modules["torch"]
        memory = array.data.mem
        owner = getattr(memory, "tensor", None)
        name = array.dtype.name
        if owner is None or (name[0] == "u" and name != "uint8"):
            return torch.from_dlpack(array)
        strides = [stride // array.itemsize for stride in array.strides]
        offset = (array.data.ptr - memory.ptr) // array.itemsize
        # Not a view of the owner: autograd would refuse to have it changed in place.
        tensor = torch.empty(0, dtype=getattr(torch, name), device=owner.device)
        return tensor.set_(owner.untyped_storage(), offset, array.shape, strides)

    # -- contexts --------------------------------------------------------------------------

    @contextmanager
    def _of_torch(self, torch: ModuleType, device: torch.device) -> Iterator[None]:
        """Work on PyTorch's current stream of a device, in memory of its allocator."""
        cuda = self._cupy.cuda
        number = device.index or 0
        if number != cuda.runtime.getDevice():
            with cuda.Device(number), self._of_torch(torch, device):
                yield
            return
        current, theirs = cuda.get_current_stream(), torch.cuda.current_stream(device).cuda_stream
        with self._entered(), self._allocating(torch, device):
            if theirs == current.ptr:
                yield
            elif torch.cuda.is_current_stream_capturing():
                # What CuPy did before is done: capture begins with a synchronization.
                with self._external(theirs):
                    yield
            else:
                stream = self._external(theirs)
                stream.wait_event(current.record())
                try:
                    with stream:
                        yield
                finally:
                    current.wait_event(stream.record())

    @contextmanager
    def _beside_torch(self, torch: ModuleType, device: int) -> Iterator[None]:
        """Work on CuPy's current stream, in order with PyTorch's before and after."""
        current = self._cupy.cuda.get_current_stream()
        theirs = torch.cuda.current_stream(device).cuda_stream
        with self._entered():
            if theirs == current.ptr:
                yield
                return
            stream = self._external(theirs)
            current.wait_event(stream.record())
            try:
                yield
            finally:
                stream.wait_event(current.record())

    @contextmanager
    def _without_memory(self) -> Iterator[None]:
        """Refuse to allocate: memory of CuPy's pool is in other use when a graph runs."""
        with self._entered(), self._cupy.cuda.using_allocator(_refuse):
            yield

    @contextmanager
    def _entered(self) -> Iterator[None]:
        self._inside.now = True
        try:
            yield
        finally:
            self._inside.now = False

    # -- what belongs to PyTorch -----------------------------------------------------------

    def _external(self, address: int) -> cp.cuda.Stream:
        return self._cupy.cuda.Stream.from_external(_ExternalStream(address))

    def _dtypes(self, torch: ModuleType) -> Mapping[torch.dtype, np.dtype]:
        """Return the dtypes of arrays, by those of tensors."""
        if not self._of_dtype:
            self._of_dtype = {getattr(torch, name): np.dtype(name) for name in _DTYPES}
            if NumpyVersion(np.__version__) >= "2.1.2":
                try:
                    from ml_dtypes import bfloat16
                except ImportError:
                    pass
                else:
                    self._of_dtype[torch.bfloat16] = np.dtype(bfloat16)
        return self._of_dtype

    def _is_lent(self, array: Array) -> bool:
        """Whether the memory of an array of CuPy belongs, or may belong, to another library.

        That is memory of DLPack and of the CUDA array interface, and of an allocator that another
        library has put into CuPy.
        """
        return not isinstance(array.data.mem, self._own)

    def _allocating(self, torch: ModuleType, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which CuPy takes PyTorch's memory."""
        return self._cupy.cuda.using_allocator(self._allocator(torch, device))

    def _allocator(self, torch: ModuleType, device: torch.device) -> Allocator:
        """Return an allocator for CuPy that takes memory of PyTorch's, on its current stream."""
        found = self._allocators.get(device)
        if found is None:
            found = self._allocators[device] = self._new_allocator(torch, device)
        return found

    def _new_allocator(self, library: ModuleType, device: torch.device) -> Allocator:
        memory = self._cupy.cuda.memory
        number = device.index or 0
        ordering = self

        class TorchMemory(memory.UnownedMemory):  # type: ignore[misc, name-defined]
            """Memory that is a tensor's.

            Statistics are worked on after the call too, on CuPy's stream.
            """

            def __init__(self, tensor: torch.Tensor, size: int) -> None:
                super().__init__(tensor.data_ptr(), size, tensor, number)
                self.tensor = tensor

            def __del__(self) -> None:
                if not (ordering.is_inside() or sys.is_finalizing()):
                    ordering.keep(library, self.tensor)

        def allocate(size: int) -> cp.cuda.MemoryPointer:
            try:
                tensor = library.empty(size, dtype=library.uint8, device=device)
            except library.OutOfMemoryError as error:
                reserved = library.cuda.memory_reserved(device)
                raise memory.OutOfMemoryError(size, reserved) from error
            return memory.MemoryPointer(TorchMemory(tensor, size), 0)

        return allocate


class _OnOneStream:
    """The context of work where CuPy's stream and PyTorch's are one, as in most calls.

    Parameters
    ----------
    inside : threading.local
    allocating : context
        That of the memory.
    """

    __slots__ = ("_allocating", "_inside")

    def __init__(self, inside: threading.local, allocating: AbstractContextManager[None]) -> None:
        self._inside, self._allocating = inside, allocating

    def __enter__(self) -> None:
        self._allocating.__enter__()
        self._inside.now = True

    def __exit__(self, *error: object) -> None:
        self._inside.now = False
        self._allocating.__exit__(*error)  # type: ignore[arg-type]


class _ExternalStream:
    """A stream of another library, as the CUDA stream protocol wants it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


def _refuse(size: int) -> cp.cuda.MemoryPointer:
    raise capture_error(
        f"it needs {size} bytes of CuPy's pool, which would be in other use when the graph runs"
    )


def is_plain_tensor(array: Array) -> bool:
    """Whether an array is a CUDA tensor that is nothing but its strided memory."""
    torch: ModuleType | None = sys.modules.get("torch")
    return (
        torch is not None
        and type(array) in (torch.Tensor, torch.nn.Parameter)
        and array.is_cuda
        and array.layout is torch.strided
        and not array.is_neg()
    )


def is_tensor(array: Array) -> bool:
    """Whether an array is a tensor of PyTorch's on a CUDA device."""
    torch = sys.modules.get("torch")
    kind = None if torch is None else getattr(torch, "Tensor", None)
    return kind is not None and isinstance(array, kind) and bool(array.is_cuda)
