"""Layer, RMS and group norm as one operation of PyTorch: statistics of each sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from normcore import functional
from normcore.torch.arrays import from_core, like, moments_of, to_core
from normcore.torch.operators import Operation, second_derivative

__all__ = ["row_norm"]

# Of each kind, forward and backward, and how its values lie in rows with one mean each. `extent`
# is how many of the last axes are a row, or in group norm how many rows a sample is.
_FORWARD: dict[str, Callable[..., Any]] = {
    "layer": lambda x, gamma, beta, extent, eps: functional.layer_norm(
        x, gamma, beta, num_axes=extent, eps=eps
    ),
    "rms": lambda x, gamma, beta, extent, eps: functional.rms_norm(
        x, gamma, num_axes=extent, eps=eps
    ),
    "group": lambda x, gamma, beta, extent, eps: functional.group_norm(
        x, extent, gamma, beta, eps=eps
    ),
}
_BACKWARD: dict[str, Callable[..., Any]] = {
    "layer": lambda dy, x, moments, gamma, extent, eps: functional.layer_norm_backward(
        dy, x, moments, gamma, num_axes=extent, eps=eps
    ),
    "rms": lambda dy, x, moments, gamma, extent, eps: functional.rms_norm_backward(
        dy, x, moments, gamma, num_axes=extent, eps=eps
    ),
    "group": lambda dy, x, moments, gamma, extent, eps: functional.group_norm_backward(
        dy, x, moments, extent, gamma, eps=eps
    ),
}


def _vector_like(x: Tensor, weight: Tensor | None, kind: str, extent: int) -> Tensor:
    """Return an empty tensor of the shape and dtype of the gradient of a weight."""
    if weight is not None:
        return torch.empty_like(weight)
    return x.new_empty(x.shape[1:2] if kind == "group" else x.shape[x.ndim - extent :])


# -- backward ------------------------------------------------------------------------------


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, parts: Tensor, kind: str, extent: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients; that of the bias has no elements in RMS norm, which has none."""
    dx, *vectors = _BACKWARD[kind](
        to_core(like(dy, x)), to_core(x), moments_of(parts), to_core(weight), extent, eps
    )
    wanted = _vector_like(x, weight, kind, extent)
    dweight, *dbias = (from_core(each, wanted.dtype, x).reshape(wanted.shape) for each in vectors)
    return from_core(dx, x.dtype, x), dweight, dbias[0] if dbias else wanted.new_empty(0)


def _fake_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, parts: Tensor, kind: str, extent: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    vector = _vector_like(x, weight, kind, extent)
    return (
        torch.empty_like(x),
        vector,
        vector.new_empty(0) if kind == "rms" else torch.empty_like(vector),
    )


def _keep_for_backward_of_backward(ctx: Any, inputs: Any, output: Any) -> None:
    dy, x, weight, _, *ctx.options = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(dy, x, weight)


def _backward_of_backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    dy, x, weight = ctx.saved_tensors

    def forward(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _formula(x, weight, bias, *ctx.options)

    kind, extent, _ = ctx.options
    bias = None if kind == "rms" else torch.zeros_like(_vector_like(x, weight, kind, extent))
    ddy, dx, dweight, _ = second_derivative(forward, dy, (x, weight, bias), cotangents)
    return ddy, dx, dweight, None, None, None, None


def _formula(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, extent: int, eps: float
) -> Tensor:
    wide = x.double()
    rows = wide.reshape(x.shape[0], extent, -1) if kind == "group" else wide.flatten(-extent)
    if kind != "rms":
        rows = rows - rows.mean(-1, keepdim=True)
    y = (rows / (rows.square().mean(-1, keepdim=True) + eps).sqrt()).reshape(x.shape)
    shape = [-1, *[1] * (x.ndim - 2)] if kind == "group" else x.shape[x.ndim - extent :]
    if weight is not None:
        y = y * weight.double().reshape(shape)
    if bias is not None:
        y = y + bias.double().reshape(shape)
    return y.to(x.dtype)


_row_norm_backward = Operation(
    "row_norm_backward",
    _backward,
    _fake_backward,
    _keep_for_backward_of_backward,
    _backward_of_backward,
)

# -- forward -------------------------------------------------------------------------------


def _forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, extent: int, eps: float
) -> tuple[Tensor, Tensor]:
    """Return y and the parts of the moments of each row."""
    y, moments = _FORWARD[kind](*map(to_core, (x, weight, bias)), extent, eps)
    return from_core(y, x.dtype, x), from_core(moments.parts, torch.float64, x)


def _fake_forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, extent: int, eps: float
) -> tuple[Tensor, Tensor]:
    num_rows = x.shape[0] * extent if kind == "group" else math.prod(x.shape[: x.ndim - extent])
    return torch.empty_like(x), x.new_empty((7, num_rows), dtype=torch.float64)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, bias, *ctx.options = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1])


def _gradients(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Any, ...]:
    if dy is None:
        return (None,) * 6
    x, weight, parts = ctx.saved_tensors
    dx, dweight, dbias = _row_norm_backward(dy, x, weight, parts, *ctx.options)
    return (
        dx,
        None if weight is None else dweight,
        None if ctx.bias_dtype is None else dbias.to(ctx.bias_dtype),
        None,
        None,
        None,
    )


row_norm = Operation("row_norm", _forward, _fake_forward, _keep, _gradients)
