"""What a normalization refuses, in words, with PyTorch's types of errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from normcore.layout.memory import are_of_one_dtype

__all__ = [
    "check_axes",
    "check_channels",
    "check_input",
    "check_last_axes",
    "check_residual",
    "check_several",
    "may_look_at_memory",
]

_REDUCED = (torch.float16, torch.bfloat16)
_WITH_MEMORY = frozenset({Tensor, torch.nn.Parameter, type(None)})


class ShapeError(ValueError, RuntimeError):
    """A tensor of a wrong shape or place: RuntimeError in PyTorch, ValueError in normcore."""


class DtypeError(TypeError, RuntimeError):
    """A tensor of a wrong dtype or layout: RuntimeError in PyTorch, TypeError in normcore."""


def may_look_at_memory(*given: object) -> bool:
    """Whether compiled checks, which take less time, may look at tensors; they may be None."""
    return not torch.compiler.is_compiling() and _WITH_MEMORY.issuperset(map(type, given))


def check_input(input: Tensor, weight: Tensor | None, name: str) -> None:
    """Refuse an input that is not of floating point, or of another dtype than the weight.

    As in PyTorch, one of reduced precision goes with a weight in float32 too; autocast gives that.
    """
    if may_look_at_memory(input, weight) and are_of_one_dtype(input, weight):
        return
    if not isinstance(input, Tensor):
        raise TypeError(f"the input of {name} must be a tensor, not {type(input).__name__}")
    if input.is_nested:
        raise NotImplementedError(
            f"normcore's {name} takes no nested tensor; give it the values of one, or a padded one"
        )
    dtype = input.dtype
    if not dtype.is_floating_point:
        raise DtypeError(f"the input of {name} must be of floating point, not {dtype}")
    if input.layout != torch.strided:
        raise DtypeError(f"the input of {name} must be a dense tensor, not {input.layout}")
    _check_beside(input, [("the weight", weight)], name)


def check_axes(input: Tensor, least: int, name: str) -> None:
    """Refuse an input of fewer axes."""
    if input.dim() < least:
        raise ShapeError(f"the input of {name} needs at least {least} axes, not {input.dim()}")


def check_residual(input: Tensor, residual: Tensor, name: str, *, sizes: bool) -> None:
    """Refuse what cannot be added to an input as it is; of other sizes only where those count."""
    check_input(input, None, name)
    if not isinstance(residual, Tensor):
        raise TypeError(f"residual of {name} must be a tensor, not {type(residual).__name__}")
    if residual.dtype != input.dtype:
        raise DtypeError(f"the input of {name} is {input.dtype}, but residual is {residual.dtype}")
    if sizes and residual.shape != input.shape:
        raise ShapeError(
            f"the input of {name} has shape {tuple(input.shape)}, but residual has shape "
            f"{tuple(residual.shape)}"
        )
    if residual.device != input.device:
        raise ShapeError(
            f"the input of {name} is on {input.device}, but residual is on {residual.device}"
        )


def check_channels(
    input: Tensor, vectors: Sequence[tuple[str, Tensor | None]], name: str, number: int
) -> None:
    """Refuse what is not one number for each channel of a batch."""
    _check_beside(input, vectors, name)
    for what, vector in vectors:
        if vector is not None and tuple(vector.shape) != (number,):
            raise ShapeError(
                f"the input of {name} has {number} channels (its shape is {tuple(input.shape)}), "
                f"but {what} has shape {tuple(vector.shape)}"
            )


def _check_beside(input: Tensor, vectors: Sequence[tuple[str, Tensor | None]], name: str) -> None:
    """Refuse what is not of the one dtype that goes with an input, or on another device."""
    first: tuple[str, torch.dtype] | None = None
    for what, vector in vectors:
        if vector is None:
            continue
        if not isinstance(vector, Tensor):
            raise TypeError(f"{what} of {name} must be a tensor, not {type(vector).__name__}")
        dtype = vector.dtype
        if dtype != input.dtype and not (input.dtype in _REDUCED and dtype == torch.float32):
            raise DtypeError(
                f"the input of {name} is {input.dtype}, but {what} is {dtype}; only a float16 or "
                "bfloat16 input may differ, beside float32"
            )
        if vector.device != input.device:
            raise ShapeError(
                f"the input of {name} is on {input.device}, but {what} is on {vector.device}"
            )
        if first is None:
            first = what, dtype
        elif dtype != first[1]:
            raise DtypeError(
                f"{first[0]} of {name} is {first[1]}, but {what} is {dtype}; they must be of one "
                "dtype"
            )


def check_last_axes(
    input: Tensor, expected: tuple[int, ...], name: str, *vectors: tuple[str, Tensor | None]
) -> None:
    """Refuse an input whose last axes have another shape, and vectors of another one."""
    if not expected:
        raise ShapeError(f"normalized_shape of {name} must have at least one size")
    _check_beside(input, vectors, name)
    if input.shape[-len(expected) :] != expected:
        raise ShapeError(
            f"the input of {name} has shape {tuple(input.shape)}, but normalized_shape is "
            f"{expected}: its last axes must have that shape"
        )
    for what, vector in vectors:
        if vector is not None and tuple(vector.shape) != expected:
            raise ShapeError(
                f"normalized_shape of {name} is {expected}, but {what} has shape "
                f"{tuple(vector.shape)}"
            )


def check_several(sizes: Sequence[int], input: Tensor, of: str) -> None:
    """Refuse a batch of which one value alone is to be normalized."""
    if math.prod(sizes) == 1:
        raise ValueError(
            f"normalizing needs at least 2 values in each {of}, got input of shape "
            f"{tuple(input.shape)}"
        )
