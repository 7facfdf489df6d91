"""Tensors as the core takes them, and its arrays as tensors, without a copy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from normcore.array_backend import selection
from normcore.layout.namespace import Array
from normcore.statistics import Moments

__all__ = ["check_dtype", "from_core", "like", "moments_of", "to_core"]

_REDUCED = (torch.float16, torch.bfloat16)


def check_dtype(input: Tensor, weight: Tensor | None, layer: nn.Module) -> None:
    """Refuse an input that is not of floating point, or of another dtype than the weight.

    As in PyTorch, one of reduced precision goes with a weight in float32 too; autocast gives that.
    """
    dtype = input.dtype
    if not dtype.is_floating_point:
        raise TypeError(f"the input must be of floating point, not {dtype}")
    expected = dtype if weight is None else weight.dtype
    if dtype != expected and not (dtype in _REDUCED and expected == torch.float32):
        raise TypeError(
            f"the input is {dtype}, but the weight of this {type(layer).__name__} is {expected}; "
            "only a float16 or bfloat16 input may differ, beside float32"
        )


def to_core(tensor: Tensor | None) -> Array:
    """Return a NumPy view of a tensor on the host; one on a device is its backend's to adopt.

    RuntimeError where that is not ready, such as without CuPy.

    NumPy has no bfloat16: on the host it is worked on as a float32 copy, and what comes out of
    that is rounded to bfloat16.
    """
    if tensor is None:
        return None
    if tensor.is_cuda or tensor.device.type != "cpu":
        selection.require_device_backend(tensor)  # others would take a hundred times as long
        return tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.numpy(force=True)


def from_core(array: Array, dtype: torch.dtype, beside: Tensor) -> Tensor:
    """Return what the core computed as a tensor, on the device of another."""
    if isinstance(array, np.ndarray):
        array = torch.from_numpy(array)
    elif not isinstance(array, Tensor):
        array = selection.select_backend(beside).release(array, beside)
    tensor: Tensor = array if array.dtype == dtype else array.to(dtype)
    return tensor


def moments_of(parts: Tensor) -> Moments:
    """Return the moments whose parts an operation returned; on a device they are a tensor."""
    return Moments(to_core(parts))


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a tensor in the memory order of another of its shape, so that both are one view."""
    if tensor.stride() == other.stride():
        return tensor
    return torch.empty_like(other, dtype=tensor.dtype).copy_(tensor)
