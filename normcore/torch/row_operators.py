"""Layer, RMS and group norm as one operation of PyTorch: statistics of each sample."""

# Annotations are not postponed: torch.library reads schemas from them.

import math
from collections.abc import Callable

import torch
from torch import Tensor

from normcore import functional
from normcore.layout.namespace import Array
from normcore.torch.arrays import from_core, like, moments_of, to_core
from normcore.torch.operators import (
    Arguments,
    Axes,
    Context,
    Gradients,
    Operation,
    along_channels,
    second_derivative,
)

__all__ = ["row_norm"]

# Of each kind, forward and backward, and how its values lie in rows with one mean each. `extent`
# is how many of the last axes are a row, or in group norm how many rows a sample is.
_FORWARD: dict[str, Callable[..., tuple[Array, ...]]] = {
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
_BACKWARD: dict[str, Callable[..., tuple[Array, ...]]] = {
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
    return like(from_core(dx, x.dtype, x), x), dweight, dbias[0] if dbias else wanted.new_empty(0)


def _fake_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, parts: Tensor, kind: str, extent: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    vector = _vector_like(x, weight, kind, extent)
    return (
        torch.empty_like(x),
        vector,
        vector.new_empty(0) if kind == "rms" else torch.empty_like(vector),
    )


def _keep_for_backward_of_backward(
    ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]
) -> None:
    dy, x, weight, _, *ctx.options = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(dy, x, weight)


def _backward_of_backward(ctx: Context, *cotangents: Tensor | None) -> Gradients:
    dy, x, weight = ctx.saved_tensors
    kind, extent, eps = ctx.options
    axes = _axes_of_groups(x, extent) if kind == "group" else _last_axes(x, extent)
    centered = kind != "rms"
    if not centered:
        cotangents = (*cotangents[:2], None)
    gradients = second_derivative(cotangents, dy, x, weight, axes, eps, centered=centered)
    return *gradients, None, None, None, None


def _last_axes(x: Tensor, extent: int) -> Axes:
    leading, last = list(range(x.ndim - extent)), list(range(x.ndim - extent, x.ndim))
    return Axes(
        mean=lambda v: v.mean(last, keepdim=True),
        total=lambda v: v.sum(leading) if leading else v,
        spread=lambda weight, _: weight,
    )


def _axes_of_groups(x: Tensor, num_groups: int) -> Axes:
    def mean(v: Tensor) -> Tensor:
        rows = v.reshape(x.shape[0], num_groups, -1)
        return rows.mean(-1, keepdim=True).expand_as(rows).reshape(x.shape)

    others = [axis for axis in range(x.ndim) if axis != 1]
    return Axes(mean=mean, total=lambda v: v.sum(others), spread=along_channels)


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
    return like(from_core(y, x.dtype, x), x), from_core(moments.parts, torch.float64, x)


def _fake_forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, kind: str, extent: int, eps: float
) -> tuple[Tensor, Tensor]:
    num_rows = x.shape[0] * extent if kind == "group" else math.prod(x.shape[: x.ndim - extent])
    return torch.empty_like(x), x.new_empty((7, num_rows), dtype=torch.float64)


def _keep(ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]) -> None:
    x, weight, bias, *ctx.options = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1])


def _gradients(ctx: Context, dy: Tensor | None, _: Tensor | None) -> Gradients:
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
