"""Batch norm as operations of PyTorch: with the statistics of the batch, or with given ones."""

# Annotations are not postponed: torch.library reads schemas from them.

from functools import partial

import torch
from torch import Tensor, distributed
from torch.autograd import Function

from normcore import functional
from normcore.array_backend.precision import whole_calls
from normcore.torch.arrays import (
    computed,
    from_core,
    in_order,
    memory_kernels,
    moments_of,
    new_parts,
    order_of,
    to_core,
)
from normcore.torch.communicator import TorchCommunicator
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
from normcore.torch.running_statistics import Running

__all__ = ["batch_norm", "batch_norm_inference", "batch_norm_tracking"]


def _communicator(group: str) -> TorchCommunicator | None:
    return TorchCommunicator.named(group) if group else None


def _is_of_batch(statistics: Tensor) -> bool:
    """Whether these are the parts of moments; otherwise they are a given mean and variance."""
    return statistics.shape[0] != 2


def _parts_of(mean: Tensor, var: Tensor) -> Tensor:
    """Return the parts of moments of one value with this mean and variance; nothing waits."""
    zero = torch.zeros_like(mean)
    return torch.stack([zero + 1.0, zero, mean, zero, var, zero, zero])


def _vector_dtype(x: Tensor, vector: Tensor | None) -> torch.dtype:
    return x.dtype if vector is None else vector.dtype


def _vector(x: Tensor, weight: Tensor | None) -> Tensor:
    """Return an empty tensor for the gradient of a weight, or of a bias beside it."""
    return torch.empty(x.shape[1], dtype=_vector_dtype(x, weight), device=x.device)


class _SumOverRanks(Function):
    """The sum over a group's processes, which is its own derivative and its transpose."""

    @staticmethod
    def forward(ctx: Context, part: Tensor, group: str) -> Tensor:
        ctx.group = group
        total = part.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=TorchCommunicator.named(group).group)
        return total

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None]:
        return _SumOverRanks.apply(gradient, ctx.group), None

    @staticmethod
    def jvp(ctx: Context, tangent: Tensor, _: None) -> Tensor:
        total: Tensor = _SumOverRanks.apply(tangent, ctx.group)
        return total


def _axes(x: Tensor, parts: Tensor, group: str) -> Axes:
    """Return the axes of channels, over all processes of a group."""
    others = [axis for axis in range(x.ndim) if axis != 1]

    def total(v: Tensor) -> Tensor:
        return v.sum(others)

    def mean_over_ranks(v: Tensor) -> Tensor:
        return along_channels(_SumOverRanks.apply(total(v), group) / (parts[0] + parts[1]), x)

    return Axes(
        mean=mean_over_ranks if group else lambda v: v.mean(others, keepdim=True),
        total=total,
        spread=along_channels,
    )


def _statistics(x: Tensor, statistics: Tensor, eps: float, group: str) -> Statistics:
    given = None if _is_of_batch(statistics) else statistics
    return Statistics(x, _axes(x, statistics, group), eps, given=given)


# -- backward ------------------------------------------------------------------------------


def _backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    statistics: Tensor,
    eps: float,
    group: str,
    precision: str = "exact",
    chosen: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for the statistics of the batch, or for a given mean and variance, (2, C)."""
    order = order_of(x)
    dy, x = in_order(dy, order), in_order(x, order)
    name = named(precision, chosen)
    kernels = None if group else memory_kernels(x, name)
    if kernels is not None:
        dx = torch.empty_like(x, memory_format=order)
        dgamma, dbeta = _vector(x, weight), _vector(x, weight)
        if kernels.batch_norm_backward(dy, x, statistics, weight, eps, dx, dgamma, dbeta):
            return dx, dgamma, dbeta
    training = _is_of_batch(statistics)
    moments = moments_of(statistics if training else _parts_of(*statistics.double().unbind()))
    function = partial(
        functional.batch_norm_backward,
        to_core(dy),
        to_core(x),
        moments,
        to_core(weight),
        eps=eps,
        training=training,
        communicator=_communicator(group),
        precision=name,
    )
    dx, vectors = computed(x, order, lambda out: function(out=out))
    dtype = _vector_dtype(x, weight)
    dgamma, dbeta = (from_core(each, dtype, x) for each in vectors)
    return dx, dgamma, dbeta


def _fake_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    statistics: Tensor,
    eps: float,
    group: str,
    *_: object,
) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty_like(x, memory_format=order_of(x))
    return dx, _vector(x, weight), _vector(x, weight)


def _keep_for_backward_of_backward(
    ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]
) -> None:
    dy, x, weight, statistics, ctx.eps, ctx.group, *_ = inputs
    keep(ctx, dy, x, weight, statistics)


def _backward_of_backward(ctx: Context, *cotangents: Tensor | None) -> Gradients:
    dy, x, weight, statistics = ctx.saved_tensors
    found = _statistics(x, statistics, ctx.eps, ctx.group)
    return *second_derivative(cotangents, dy, weight, found), *(None,) * 5


def _tangent_of_backward(ctx: Context, *tangents: Tensor | None) -> tuple[Tensor, ...]:
    dy, x, weight, statistics = ctx.saved_tensors
    found = _statistics(x, statistics, ctx.eps, ctx.group)
    dx_, *vectors = tangent_of_backward(tangents[:3], dy, weight, found)
    return dx_.to(x.dtype), *(each.to(_vector_dtype(x, weight)) for each in vectors)


def _shard_backward(
    dy: Tensor, x: Tensor, weight: Tensor, statistics: Tensor, *options: object
) -> list[tuple[list[int | str | None], list[int | str | None]]]:
    """With given statistics a batch may be sharded; with its own they are those of all of it."""
    if _is_of_batch(statistics):
        return []
    return [([0, "partial", "partial"], [0, 0, *["replicate"] * 2, None, None, None, "replicate"])]


_batch_norm_backward = Operation(
    "batch_norm_backward",
    _backward,
    _fake_backward,
    _keep_for_backward_of_backward,
    _backward_of_backward,
    _tangent_of_backward,
    _shard_backward,
)

# -- forward, with the statistics of the batch -----------------------------------------------


def _training(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    group: str,
    precision: str = "exact",
    chosen: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return y and the parts of the moments."""
    order = order_of(x)
    x = in_order(x, order)
    name = named(precision, chosen)
    kernels = None if group else memory_kernels(x, name)
    if kernels is not None:
        y, parts = torch.empty_like(x, memory_format=order), new_parts(x, x.shape[1])
        if kernels.batch_norm(x, weight, bias, eps, y, parts):
            return y, parts
    function = partial(
        functional.batch_norm,
        to_core(x),
        to_core(weight),
        to_core(bias),
        eps=eps,
        communicator=_communicator(group),
        precision=name,
    )
    y, (moments,) = computed(x, order, lambda out: function(out=out))
    return y, from_core(moments.parts, torch.float64, x)


def _fake_training(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    group: str,
    *_: object,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=order_of(x)), new_parts(x, x.shape[1])


def _keep_training(ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]) -> None:
    x, weight, bias, ctx.eps, ctx.group, ctx.precision, chosen = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mark_non_differentiable(*output[1:])
    keep(ctx, x, weight, output[1], chosen)


def _training_backward(ctx: Context, dy: Tensor | None, *_: Tensor | None) -> Gradients:
    dx, dweight, dbias = _gradients(ctx, dy, *ctx.saved_tensors)
    return dx, dweight, dbias, None, None, None, None


def _training_tangent(ctx: Context, *tangents: Tensor | None) -> tuple[Tensor, None]:
    x, weight, parts, _ = ctx.saved_tensors
    statistics = _statistics(x, parts, ctx.eps, ctx.group)
    return tangent_of_forward(tangents[:3], weight, statistics), None


def _gradients(
    ctx: Context,
    dy: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    statistics: Tensor,
    chosen: Tensor | None,
) -> Gradients:
    if dy is None:
        return None, None, None
    dx, dweight, dbias = _batch_norm_backward(
        dy, x, weight, statistics, ctx.eps, ctx.group, ctx.precision, chosen
    )
    return (
        dx,
        None if weight is None else dweight,
        None if ctx.bias_dtype is None else dbias.to(ctx.bias_dtype),
    )


batch_norm = Operation(
    "batch_norm", _training, _fake_training, _keep_training, _training_backward, _training_tangent
)


def _tracking(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    group: str,
    precision: str,
    chosen: Tensor | None,
    running: Running,
) -> tuple[Tensor, Tensor]:
    """Return y and the parts of the moments; move running statistics, in the same launch."""
    order = order_of(x)
    x = in_order(x, order)
    calls = whole_calls(x, None, named(precision, chosen))
    if calls is not None:
        y, parts = torch.empty_like(x, memory_format=order), new_parts(x, x.shape[1])
        given = weight, bias, running.mean, running.var, running.number, running.weight
        if calls.batch_norm_in_training(x, *given, 1, eps, y, parts):
            running.note_changes()
            return y, parts
    y, parts = _training(x, weight, bias, eps, group, precision, chosen)
    running.update(parts)
    return y, parts


#: Batch norm of plain tensors on a device, beside which running statistics move.
batch_norm_tracking = batch_norm.beside(_tracking)

# -- forward, with given statistics ----------------------------------------------------------


def _inference(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    precision: str = "exact",
    chosen: Tensor | None = None,
) -> Tensor:
    order = order_of(x)
    x = in_order(x, order)
    name = named(precision, chosen)
    kernels = memory_kernels(x, name)
    if kernels is not None:
        y = torch.empty_like(x, memory_format=order)
        if kernels.batch_norm_inference(x, mean, var, weight, bias, eps, y):
            return y
    vectors = map(to_core, (mean, var, weight, bias))
    function = partial(
        functional.batch_norm_inference, to_core(x), *vectors, eps=eps, precision=name
    )
    return computed(x, order, lambda out: (function(out=out),))[0]


def _fake_inference(x: Tensor, *arguments: object) -> Tensor:
    return torch.empty_like(x, memory_format=order_of(x))


def _keep_inference(ctx: Context, inputs: Arguments, output: Tensor) -> None:
    x, mean, var, weight, bias, ctx.eps, ctx.precision, chosen = inputs
    _refuse_derivatives(*ctx.needs_input_grad[1:3])
    ctx.group = ""
    ctx.bias_dtype = None if bias is None else bias.dtype
    # Copies: batches in training may change the running statistics before the backward pass.
    keep(ctx, x, weight, torch.stack([mean.detach().double(), var.detach().double()]), chosen)


def _inference_backward(ctx: Context, dy: Tensor | None) -> Gradients:
    dx, dweight, dbias = _gradients(ctx, dy, *ctx.saved_tensors)
    return dx, None, None, dweight, dbias, None, None, None


def _inference_tangent(ctx: Context, x_: Tensor | None, *tangents: Tensor | None) -> Tensor:
    x, weight, statistics, _ = ctx.saved_tensors
    _refuse_derivatives(*(each is not None for each in tangents[:2]))
    found = _statistics(x, statistics, ctx.eps, "")
    return tangent_of_forward((x_, *tangents[2:4]), weight, found)


def _refuse_derivatives(of_mean: bool, of_var: bool) -> None:
    if of_mean or of_var:
        raise RuntimeError(
            f"batch_norm of normcore is not differentiable with respect to "
            f"{'running_mean' if of_mean else 'running_var'}"
        )


def _shard_inference(
    x: Tensor, *arguments: object
) -> list[tuple[list[int | str | None], list[int | str | None]]]:
    return [([0], [0, *["replicate"] * 4, None, None, "replicate"])]


batch_norm_inference = Operation(
    "batch_norm_inference",
    _inference,
    _fake_inference,
    _keep_inference,
    _inference_backward,
    _inference_tangent,
    _shard_inference,
)
