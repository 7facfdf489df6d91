"""Tensors as the core takes them, and its arrays as tensors."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from normcore.array_backend import selection
from normcore.array_backend.memory_kernels import MemoryKernels
from normcore.array_backend.precision import in_precision
from normcore.layout.bfloat16 import cast, is_bfloat16
from normcore.layout.namespace import BFLOAT16, Array
from normcore.statistics import Moments

__all__ = [
    "computed", "from_core", "in_order", "memory_kernels", "moments_of", "new_parts", "order_of",
    "suggested_order", "to_core",
]  # fmt: skip

_DTYPES = {
    getattr(torch, name): np.dtype(name)
    for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")
} | {torch.bool: np.dtype(np.bool_), torch.bfloat16: BFLOAT16}
_NAMES = {dtype: known.str for dtype, known in _DTYPES.items()}

#: Axes from the outermost to the innermost, of tensors in a memory format.
_ORDERS: dict[tuple[torch.memory_format, int], tuple[int, ...]] = {
    (torch.channels_last, 4): (0, 2, 3, 1),
    (torch.channels_last_3d, 5): (0, 2, 3, 4, 1),
}


_NUMPY = np.empty(0)


def memory_kernels(tensor: Tensor, precision: str = "exact") -> MemoryKernels | None:
    """Return the kernels that take tensors as they are, if the backend that works on them has some.

    On the host that is the one that would work on the tensor's NumPy array.
    """
    if tensor.is_cpu:
        backend = selection.select_backend(_NUMPY)
    elif tensor.is_cuda:
        backend = selection.first_choice(tensor)
    else:
        return None
    return (backend if precision == "exact" else in_precision(backend, precision)).memory_kernels


def new_parts(beside: Tensor, number: int) -> Tensor:
    """Return an empty tensor for the parts of moments of so many channels or rows."""
    return torch.empty((7, number), dtype=torch.float64, device=beside.device)


class _Memory:
    """A tensor's memory as NumPy's interface wants it.

    `Tensor.numpy` would forbid for good that the memory be resized, as FSDP does when it frees it.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor  # lives as long as arrays of its memory do
        itemsize = tensor.itemsize
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(tensor.shape),
            "strides": tuple([stride * itemsize for stride in tensor.stride()]),
            "typestr": _NAMES[tensor.dtype],
            "data": (tensor.data_ptr(), False),
        }


def to_core(tensor: Tensor | None) -> Array:
    """Return a NumPy view of a tensor on the host; one on a device is its backend's to adopt.

    RuntimeError where that is not ready, such as without CuPy.
    """
    if tensor is None:
        return None
    if tensor.is_cuda or tensor.device.type != "cpu":
        selection.require_device_backend(tensor)  # others would take a hundred times as long
        return tensor.detach()
    array = np.asarray(_Memory(tensor))
    return array.view(BFLOAT16) if tensor.dtype == torch.bfloat16 else array


def from_core(array: Array, dtype: torch.dtype, beside: Tensor) -> Tensor:
    """Return what the core computed as a tensor of its own, on the device of another."""
    if isinstance(array, np.ndarray):
        array = cast(array, _DTYPES[dtype])  # PyTorch rounds float64 to float32 first
        if is_bfloat16(array.dtype):
            return torch.from_numpy(array.view(np.int16)).view(dtype).clone()
        return torch.from_numpy(array).clone()
    if not isinstance(array, Tensor):
        array = selection.select_backend(beside).release(array, beside)
    tensor: Tensor = array if array.dtype == dtype else array.to(dtype)
    return tensor


def moments_of(parts: Tensor) -> Moments:
    """Return the moments whose parts an operation returned; on a device they are a tensor."""
    return Moments(to_core(parts))


def computed(
    like: Tensor, order: torch.memory_format, compute: Callable[[Array], tuple[Array, ...]]
) -> tuple[Tensor, tuple[Array, ...]]:
    """Return a tensor of the shape and dtype of another, which ``compute(out)`` fills.

    Also what else that returns.
    """
    if like.is_cuda or like.device.type != "cpu":
        result, *others = compute(None)
        result = from_core(result, like.dtype, like).contiguous(memory_format=order)
        return result, tuple(others)
    result = torch.empty_like(like, memory_format=order)
    _, *others = compute(to_core(result))
    return result, tuple(others)


def order_of(x: Tensor) -> torch.memory_format:
    """Return the memory format of a batch norm's result in PyTorch: that in which `x` lies.

    C order goes first where both fit; strides in one of the orders with gaps are that order.
    """
    if x.ndim not in (4, 5) or x.is_contiguous():
        return torch.contiguous_format
    order = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return order if x.is_contiguous(memory_format=order) else suggested_order(x)


def suggested_order(x: Tensor) -> torch.memory_format:
    """Return the memory format that PyTorch suggests for the result of an operation on `x`.

    That is channels_last for strides of that order, with gaps or without and also those of axes of
    size 1; else C order.
    """
    if x.ndim not in (4, 5):
        return torch.contiguous_format
    strides = x.stride()
    if strides[1] == 0 or strides[-1] < strides[1]:  # in C order, most of the time
        return torch.contiguous_format
    sizes = x.shape
    order = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    least = 0
    for axis in (1, *reversed(_ORDERS[order, x.ndim][:-1])):
        if sizes[axis] == 0 or strides[axis] < least or (axis == 0 and least == strides[1]):
            return torch.contiguous_format
        least = strides[axis] * max(sizes[axis], 1)
    return order


def in_order(tensor: Tensor, order: torch.memory_format) -> Tensor:
    """Return a tensor whose axes follow each other as in a memory format; it may have gaps."""
    if tensor.is_contiguous(memory_format=order):
        return tensor
    sizes, strides = tensor.shape, tensor.stride()
    axes = _ORDERS.get((order, tensor.ndim), range(tensor.ndim))
    walked = [strides[axis] for axis in axes if sizes[axis] > 1]
    if all(outer >= inner > 0 for outer, inner in pairwise([*walked, 1])):
        return tensor
    return tensor.contiguous(memory_format=order)
