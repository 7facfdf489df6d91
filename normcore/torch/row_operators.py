"""Layer, RMS and group norm as one operation of PyTorch: statistics of each sample."""

# Annotations are not postponed: torch.library reads schemas from them.

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from normcore import functional
from normcore.layout.namespace import Array
from normcore.torch.arrays import (
    computed,
    from_core,
    in_order,
    memory_kernels,
    moments_of,
    new_parts,
    suggested_order,
    to_core,
)
from normcore.torch.derivatives import (
    Axes,
    Statistics,
    along_channels,
    second_derivative,
    tangent_of_backward,
    tangent_of_forward,
)
from normcore.torch.operators import Arguments, Context, Gradients, Operation, keep
from normcore.torch.precision import named

__all__ = ["row_norm"]


class _Kind(NamedTuple):
    """A normalization of rows, by the core; ``extent`` is explained below."""

    forward: Callable[..., tuple[Array, ...]]
    backward: Callable[..., tuple[Array, ...]]


# Of each kind, forward and backward, and how its values lie in rows with one mean each. `extent`
# is how many of the last axes are a row, or in group norm how many rows a sample is.
_KINDS = {
    "layer": _Kind(
        lambda x, gamma, beta, extent, given: functional.layer_norm(
            x, gamma, beta, num_axes=extent, **given
        ),
        lambda dy, x, moments, gamma, extent, given: functional.layer_norm_backward(
            dy, x, moments, gamma, num_axes=extent, **given
        ),
    ),
    "rms": _Kind(
        lambda x, gamma, beta, extent, given: functional.rms_norm(
            x, gamma, num_axes=extent, **given
        ),
        lambda dy, x, moments, gamma, extent, given: functional.rms_norm_backward(
            dy, x, moments, gamma, num_axes=extent, **given
        ),
    ),
    "group": _Kind(
        lambda x, gamma, beta, extent, given: functional.group_norm(
            x, extent, gamma, beta, **given
        ),
        lambda dy, x, moments, gamma, extent, given: functional.group_norm_backward(
            dy, x, moments, extent, gamma, **given
        ),
    ),
}


# Each channel is a group, however many there are: traces are for any number.
_KINDS["instance"] = _Kind(
    lambda x, gamma, beta, _, given: functional.instance_norm(x, gamma, beta, **given),
    lambda dy, x, moments, gamma, _, given: functional.instance_norm_backward(
        dy, x, moments, gamma, **given
    ),
)


def _is_by_channels(kind: str) -> bool:
    return kind in ("group", "instance")


def _groups(x: Tensor, kind: str, extent: int) -> int:
    return x.shape[1] if kind == "instance" else extent


# The orders of results are PyTorch's.
def _order_of_result(x: Tensor, kind: str) -> torch.memory_format:
    return torch.contiguous_format if kind in ("layer", "instance") else suggested_order(x)


def _order_of_gradient(x: Tensor, kind: str) -> torch.memory_format:
    return suggested_order(x) if kind == "group" else torch.contiguous_format


def _num_rows(x: Tensor, kind: str, extent: int) -> int:
    return (
        x.shape[0] * _groups(x, kind, extent)
        if _is_by_channels(kind)
        else math.prod(x.shape[: x.ndim - extent])
    )


def _vector_like(x: Tensor, weight: Tensor | None, kind: str, extent: int) -> Tensor:
    """Return an empty tensor of the shape and dtype of the gradient of a weight."""
    shape = x.shape[1:2] if _is_by_channels(kind) else x.shape[x.ndim - extent :]
    return x.new_empty(shape, dtype=x.dtype if weight is None else weight.dtype)


def _axes(x: Tensor, kind: str, extent: int) -> Axes:
    if not _is_by_channels(kind):
        leading, last = list(range(x.ndim - extent)), list(range(x.ndim - extent, x.ndim))
        return Axes(
            mean=lambda v: v.mean(last, keepdim=True),
            total=lambda v: v.sum(leading) if leading else v,
            spread=lambda weight, _: weight,
        )

    def mean(v: Tensor) -> Tensor:
        groups = _groups(x, kind, extent)
        rows = v.reshape(x.shape[0], groups, math.prod(x.shape[1:]) // groups)
        return rows.mean(-1, keepdim=True).expand_as(rows).reshape(x.shape)

    others = [axis for axis in range(x.ndim) if axis != 1]
    return Axes(mean=mean, total=lambda v: v.sum(others), spread=along_channels)


def _statistics(x: Tensor, kind: str, extent: int, eps: float) -> Statistics:
    return Statistics(x, _axes(x, kind, extent), eps, centered=kind != "rms")


# -- backward ------------------------------------------------------------------------------


def _backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    parts: Tensor,
    kind: str,
    extent: int,
    eps: float,
    precision: str = "exact",
    chosen: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients; that of the bias has no elements in RMS norm, which has none."""
    order = _order_of_gradient(x, kind)
    wanted = _vector_like(x, weight, kind, extent)
    absent = wanted.new_empty(0)
    if x.numel() == 0:
        dbias = absent if kind == "rms" else torch.zeros_like(wanted)
        return torch.empty_like(x, memory_format=order), wanted.zero_(), dbias
    dy, x = in_order(dy, order), in_order(x, order)
    name = named(precision, chosen)
    kernels = memory_kernels(x, name)
    if kernels is not None:
        dx = torch.empty_like(x, memory_format=order)
        dbias = absent if kind == "rms" else torch.empty_like(wanted)
        if _is_by_channels(kind):
            groups = _groups(x, kind, extent)
            done = kernels.group_norm_backward(dy, x, parts, weight, groups, eps, dx, wanted, dbias)
        else:
            given = (dy, x, parts, weight, extent, eps, kind != "rms")
            done = kernels.row_norm_backward(*given, dx, wanted, None if kind == "rms" else dbias)
        if done:
            return dx, wanted, dbias
    arrays = to_core(dy), to_core(x), moments_of(parts), to_core(weight)

    def backward(out: Array) -> tuple[Array, ...]:
        options = {"eps": eps, "out": out, "precision": name}
        return _KINDS[kind].backward(*arrays, extent, options)

    dx, vectors = computed(x, order, backward)
    dweight, *dbias = (from_core(each, wanted.dtype, x).reshape(wanted.shape) for each in vectors)
    return dx, dweight, dbias[0] if dbias else absent


def _fake_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    parts: Tensor,
    kind: str,
    extent: int,
    eps: float,
    *_: object,
) -> tuple[Tensor, Tensor, Tensor]:
    vector = _vector_like(x, weight, kind, extent)
    dbias = vector.new_empty(0) if kind == "rms" else torch.empty_like(vector)
    return torch.empty_like(x, memory_format=_order_of_gradient(x, kind)), vector, dbias


def _keep_for_backward_of_backward(
    ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]
) -> None:
    dy, x, weight, _, *ctx.options = inputs[:-2]
    keep(ctx, dy, x, weight)


def _backward_of_backward(ctx: Context, *cotangents: Tensor | None) -> Gradients:
    dy, x, weight = ctx.saved_tensors
    if ctx.options[0] == "rms":
        cotangents = (*cotangents[:2], None)
    gradients = second_derivative(cotangents, dy, weight, _statistics(x, *ctx.options))
    return *gradients, *(None,) * 6


def _tangent_of_backward(ctx: Context, *tangents: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    dy, x, weight = ctx.saved_tensors
    kind, extent, _ = ctx.options
    dx_, *vectors = tangent_of_backward(tangents[:3], dy, weight, _statistics(x, *ctx.options))
    dweight_, dbias_ = (each.to(_vector_like(x, weight, kind, extent).dtype) for each in vectors)
    return dx_.to(x.dtype), dweight_, dbias_.new_empty(0) if kind == "rms" else dbias_


def _shard_backward(
    dy: Tensor, x: Tensor, weight: Tensor, parts: Tensor, kind: str, extent: int, *options: object
) -> list[tuple[list[int | str | None], list[int | str | None]]]:
    """A batch may be sharded: the gradients of the vectors are sums over its shards."""
    if not _has_batch(x, kind, extent):
        return []
    dbias = "replicate" if kind == "rms" else "partial"
    return [([0, "partial", dbias], [0, 0, "replicate", 1, *[None] * 4, "replicate"])]


_row_norm_backward = Operation(
    "row_norm_backward",
    _backward,
    _fake_backward,
    _keep_for_backward_of_backward,
    _backward_of_backward,
    _tangent_of_backward,
    _shard_backward,
)

# -- forward -------------------------------------------------------------------------------


def _forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    kind: str,
    extent: int,
    eps: float,
    precision: str = "exact",
    chosen: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return y and the parts of the moments of each row."""
    order = _order_of_result(x, kind)
    if x.numel() == 0:
        parts = x.new_zeros((7, _num_rows(x, kind, extent)), dtype=torch.float64)
        return torch.empty_like(x, memory_format=order), parts
    x = in_order(x, order)
    name = named(precision, chosen)
    kernels = memory_kernels(x, name)
    if kernels is not None:
        y = torch.empty_like(x, memory_format=order)
        parts = new_parts(x, _num_rows(x, kind, extent))
        if _is_by_channels(kind):
            groups = _groups(x, kind, extent)
            done = kernels.group_norm(x, weight, bias, groups, eps, y, parts)
        else:
            done = kernels.row_norm(x, weight, bias, extent, eps, kind != "rms", y, parts)
        if done:
            return y, parts
    arrays = to_core(x), to_core(weight), to_core(bias)

    def forward(out: Array) -> tuple[Array, ...]:
        options = {"eps": eps, "out": out, "precision": name}
        return _KINDS[kind].forward(*arrays, extent, options)

    y, (moments,) = computed(x, order, forward)
    return y, from_core(moments.parts, torch.float64, x)


def _fake_forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    kind: str,
    extent: int,
    eps: float,
    *_: object,
) -> tuple[Tensor, Tensor]:
    parts = new_parts(x, _num_rows(x, kind, extent))
    return torch.empty_like(x, memory_format=_order_of_result(x, kind)), parts


def _keep(ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]) -> None:
    x, weight, bias, *ctx.options, ctx.precision, chosen = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mark_non_differentiable(output[1])
    keep(ctx, x, weight, output[1], chosen)


def _gradients(ctx: Context, dy: Tensor | None, _: Tensor | None) -> Gradients:
    if dy is None:
        return (None,) * 8
    x, weight, parts, chosen = ctx.saved_tensors
    dx, dweight, dbias = _row_norm_backward(
        dy, x, weight, parts, *ctx.options, ctx.precision, chosen
    )
    return (
        dx,
        None if weight is None else dweight,
        None if ctx.bias_dtype is None else dbias.to(ctx.bias_dtype),
        *(None,) * 5,
    )


def _tangent(ctx: Context, *tangents: Tensor | None) -> tuple[Tensor, None]:
    x, weight, *_ = ctx.saved_tensors
    return tangent_of_forward(tangents[:3], weight, _statistics(x, *ctx.options)), None


def _has_batch(x: Tensor, kind: str, extent: int) -> bool:
    return _is_by_channels(kind) or len(x.shape) > extent


def _shard(
    x: Tensor, weight: Tensor, bias: Tensor, kind: str, extent: int, *options: object
) -> list[tuple[list[int | str | None], list[int | str | None]]]:
    if not _has_batch(x, kind, extent):
        return []
    return [([0, 1], [0, *["replicate"] * 2, *[None] * 4, "replicate"])]


row_norm = Operation("row_norm", _forward, _fake_forward, _keep, _gradients, _tangent, _shard)
