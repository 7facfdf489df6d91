"""Batch norm as operations of PyTorch: with the statistics of the batch, or with given ones."""

# Annotations are not postponed: torch.library reads schemas from them.

from collections.abc import Callable

import torch
from torch import Tensor

from normcore import functional
from normcore.array_backend import selection
from normcore.torch.arrays import from_core, like, moments_of, to_core
from normcore.torch.communicator import TorchCommunicator
from normcore.torch.operators import (
    Arguments,
    Axes,
    Context,
    Gradients,
    Operation,
    along_channels,
    second_derivative,
)

__all__ = ["batch_norm", "batch_norm_inference", "mean_and_var", "update_running"]


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


# -- backward ------------------------------------------------------------------------------


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, statistics: Tensor, eps: float, group: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for the statistics of the batch, or for a given mean and variance, (2, C)."""
    training = _is_of_batch(statistics)
    moments = moments_of(statistics if training else _parts_of(*statistics.double().unbind()))
    dx, *vectors = functional.batch_norm_backward(
        to_core(like(dy, x)),
        to_core(x),
        moments,
        to_core(weight),
        eps=eps,
        training=training,
        communicator=_communicator(group),
    )
    dtype = _vector_dtype(x, weight)
    dgamma, dbeta = (from_core(each, dtype, x) for each in vectors)
    return from_core(dx, x.dtype, x), dgamma, dbeta


def _fake_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, statistics: Tensor, eps: float, group: str
) -> tuple[Tensor, Tensor, Tensor]:
    vectors = x.new_empty((2, x.shape[1]), dtype=_vector_dtype(x, weight))
    return torch.empty_like(x), vectors[0].clone(), vectors[1].clone()


def _keep_for_backward_of_backward(
    ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]
) -> None:
    dy, x, weight, statistics, ctx.eps, ctx.group = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(dy, x, weight, statistics)


def _backward_of_backward(ctx: Context, *cotangents: Tensor | None) -> Gradients:
    if ctx.group:
        raise NotImplementedError("batch norm over several ranks has no second derivative")
    dy, x, weight, statistics = ctx.saved_tensors
    given = None if _is_of_batch(statistics) else statistics
    gradients = second_derivative(cotangents, dy, x, weight, _axes(x), ctx.eps, given=given)
    return *gradients, None, None, None


def _axes(x: Tensor) -> Axes:
    others = [axis for axis in range(x.ndim) if axis != 1]
    return Axes(
        mean=lambda v: v.mean(others, keepdim=True),
        total=lambda v: v.sum(others),
        spread=along_channels,
    )


_batch_norm_backward = Operation(
    "batch_norm_backward",
    _backward,
    _fake_backward,
    _keep_for_backward_of_backward,
    _backward_of_backward,
)

# -- forward, with the statistics of the batch -----------------------------------------------


def _training(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: str
) -> tuple[Tensor, Tensor]:
    """Return y and the parts of the moments."""
    y, moments = functional.batch_norm(
        to_core(x),
        to_core(weight),
        to_core(bias),
        eps=eps,
        communicator=_communicator(group),
    )
    return from_core(y, x.dtype, x), from_core(moments.parts, torch.float64, x)


def _fake_training(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty((7, x.shape[1]), dtype=torch.float64)


def _keep_training(ctx: Context, inputs: Arguments, output: tuple[Tensor, ...]) -> None:
    x, weight, bias, ctx.eps, ctx.group = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1])


def _training_backward(ctx: Context, dy: Tensor | None, *_: Tensor | None) -> Gradients:
    x, weight, moments = ctx.saved_tensors
    dx, dweight, dbias = _gradients(ctx, dy, x, weight, moments, ctx.group)
    return dx, dweight, dbias, None, None


def _gradients(
    ctx: Context,
    dy: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    statistics: Tensor,
    group: str,
) -> Gradients:
    if dy is None:
        return None, None, None
    dx, dweight, dbias = _batch_norm_backward(dy, x, weight, statistics, ctx.eps, group)
    return (
        dx,
        None if weight is None else dweight,
        None if ctx.bias_dtype is None else dbias.to(ctx.bias_dtype),
    )


batch_norm = Operation("batch_norm", _training, _fake_training, _keep_training, _training_backward)

# -- running statistics ----------------------------------------------------------------------


def _mean_and_var(parts: Tensor) -> Tensor:
    """Return the mean and the unbiased variance of moments, (2, C)."""
    given = to_core(parts)
    backend = selection.select_backend(given)
    with backend.in_order_with(given):
        moments = backend.moments_of(backend.adopt(given))
        both = moments.mean, moments.var(ddof=1)
        return torch.stack([from_core(each, torch.float64, parts) for each in both])


_statistics = torch.library.custom_op("normcore::mean_and_var", _mean_and_var, mutates_args=())


@_statistics.register_fake
def _fake_mean_and_var(parts: Tensor) -> Tensor:
    return parts.new_empty((2, parts.shape[1]))


def mean_and_var(parts: Tensor) -> Tensor:
    """Return the mean and the unbiased variance of moments, (2, C)."""
    if torch.compiler.is_compiling() or type(parts) is not Tensor or parts.is_meta:
        operator: Callable[[Tensor], Tensor] = torch.ops.normcore.mean_and_var.default
        return operator(parts)
    return _mean_and_var(parts)


def update_running(
    parts: Tensor, mean: Tensor, var: Tensor, weight: float | None, number: Tensor
) -> None:
    """Move running statistics on a device towards a batch, in place and in one launch."""
    backend = selection.select_backend(parts)
    counted = number if weight is None else None
    if not backend.update_running_with(parts, mean, var, weight, counted):
        with backend.in_order_with(parts):
            moments = backend.moments_of(backend.adopt(parts))
            running = backend.adopt(mean), backend.adopt(var)
            counted = None if counted is None else backend.adopt(counted)
            backend.update_running(moments, *running, weight, number=counted)
    for each in (mean, var):  # for what was saved for a backward pass, which would not notice
        torch.autograd.graph.increment_version(each)


# -- forward, with given statistics ----------------------------------------------------------


def _inference(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    y = functional.batch_norm_inference(*map(to_core, (x, mean, var, weight, bias)), eps=eps)
    return from_core(y, x.dtype, x)


def _fake_inference(x: Tensor, *arguments: object) -> Tensor:
    return torch.empty_like(x)


def _keep_inference(ctx: Context, inputs: Arguments, output: Tensor) -> None:
    x, mean, var, weight, bias, ctx.eps = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(x, weight, mean, var)


def _inference_backward(ctx: Context, dy: Tensor | None) -> Gradients:
    x, weight, mean, var = ctx.saved_tensors
    statistics = torch.stack([mean.detach().double(), var.detach().double()])
    dx, dweight, dbias = _gradients(ctx, dy, x, weight, statistics, "")
    return dx, None, None, dweight, dbias, None


batch_norm_inference = Operation(
    "batch_norm_inference", _inference, _fake_inference, _keep_inference, _inference_backward
)
