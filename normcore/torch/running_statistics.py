"""Running statistics of batch and instance norm."""

# Annotations are not postponed: torch.library reads schemas from them.

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

from normcore.array_backend import selection
from normcore.torch.arrays import from_core, memory_kernels, to_core
from normcore.torch.checks import ShapeError
from normcore.torch.dispatch import is_plain
from normcore.torch.operators import Arguments, Context, Operation

__all__ = ["Running", "mean_and_var", "update"]


def _take_several_at_once() -> bool:
    """Whether versions of several tensors are raised by one call; not so in older PyTorch."""
    try:
        torch.autograd.graph.increment_version(())
    except (RuntimeError, TypeError):
        return False
    return True


_SEVERAL_AT_ONCE = _take_several_at_once()


def mean_and_var(parts: Tensor) -> Tensor:
    """Return the mean and the unbiased variance of moments, (2, C)."""
    given = to_core(parts)
    backend = selection.select_backend(given)
    with backend.in_order_with(given):
        moments = backend.moments_of(backend.adopt(given))
        both = moments.mean, moments.var(ddof=1)
        return torch.stack([from_core(each, torch.float64, parts) for each in both])


def _moved(
    parts: Tensor, mean: Tensor, var: Tensor, number: Tensor | None, weight: float
) -> Tensor:
    """Return running statistics moved towards those of a batch, (2, C) in float64.

    There may be moments of each channel of several samples, which are averaged. What has seen no
    value stays. With a number of batches before this one all of them weigh the same.
    """
    _check(parts, mean, var)
    channels = mean.shape[0]
    shape = (parts.shape[1] // max(channels, 1), channels)
    now = mean_and_var(parts).view(2, *shape).mean(1)
    before = torch.stack([mean.double(), var.double()])
    new_weight = weight if number is None else (number.double() + 1).reciprocal()
    moved = new_weight * now + (1 - new_weight) * before
    return torch.where(parts[0].view(shape).sum(0) > 0, moved, before)


def _fake(parts: Tensor, mean: Tensor, var: Tensor, number: Tensor | None, weight: float) -> Tensor:
    _check(parts, mean, var)
    return parts.new_empty((2, mean.shape[0]))


def _check(parts: Tensor, mean: Tensor, var: Tensor) -> None:
    for name, each in (("running_mean", mean), ("running_var", var)):
        if each.ndim != 1 or parts.shape[1] % max(each.shape[0], 1) or mean.shape != var.shape:
            raise ShapeError(
                f"{name} has shape {tuple(each.shape)}, but the batch {parts.shape[1]} channels"
            )


def _constant(ctx: Context, inputs: Arguments, output: Tensor) -> None:
    ctx.mark_non_differentiable(output)


def _no_derivatives(ctx: Context, *_: Tensor | None) -> tuple[None, ...]:
    return (None,) * 5


def _no_tangent(ctx: Context, *_: Tensor | None) -> None:
    return None


_moved_operation = Operation(
    "moved_statistics", _moved, _fake, _constant, _no_derivatives, _no_tangent
)


class Running(NamedTuple):
    """Running statistics of batch norm, which change in place, all or none.

    Attributes
    ----------
    mean, var : Tensor
    number : Tensor or None
        Of batches so far.
    weight : float
        Of a new batch.
    """

    mean: Tensor
    var: Tensor
    number: Tensor | None
    weight: float

    @classmethod
    def of(
        cls, mean: Tensor | None, var: Tensor | None, number: Tensor | None, weight: float | None
    ) -> Self | None:
        """Return those that a launch on a device may move beside batch norm, or None."""
        if mean is None or var is None or not mean.is_cuda or not isinstance(weight, float):
            return None
        if mean.requires_grad or var.requires_grad or mean.is_inference() or var.is_inference():
            return None
        return cls(mean, var, number, weight)

    def update(self, parts: Tensor) -> None:
        """Move them towards the moments of a batch, and count it."""
        update(parts, *self)

    def note_changes(self) -> None:
        """Tell PyTorch that they have changed."""
        number = () if self.number is None else (self.number,)
        _note_changes((self.mean, self.var, *number))


def update(
    parts: Tensor, mean: Tensor, var: Tensor, number: Tensor | None, weight: float | None
) -> None:
    """Move running statistics towards those of a batch, and count it; nothing waits for a device.

    Parameters
    ----------
    parts : Tensor
        Of the moments of the batch.
    mean, var, number : Tensor
        Change in place, all or none.
    weight : float, optional
        Of the new batch; None stands for the average of all batches so far.
    """
    if weight is None and number is None:
        weight = 0.0  # as in PyTorch
    plain = is_plain(parts, mean, var, number, weight) and parts.shape[1:] == mean.shape
    if plain and _update_in_place(parts, mean, var, number, weight):
        return
    parts, counted = parts.detach(), number if weight is None else None
    moved = _moved_operation(parts, mean, var, counted, 0.0 if weight is None else weight)
    for old, new in zip((mean, var), moved.unbind(), strict=True):
        old.copy_(new)
    if number is not None:
        number.add_(1)


def _update_in_place(
    parts: Tensor, mean: Tensor, var: Tensor, number: Tensor | None, weight: float | None
) -> bool:
    """Update without operations of tensors, which would take longer than a small batch."""
    kernels = memory_kernels(parts)
    running = (mean, var) if number is None else (mean, var, number)
    if kernels is None or mean.requires_grad or var.requires_grad:
        return False
    if mean.is_inference() or var.is_inference():
        return False
    if not kernels.update_running(parts, mean, var, number, math.nan if weight is None else weight):
        return False
    _note_changes(running)
    return True


def _note_changes(tensors: tuple[Tensor, ...]) -> None:
    """Tell PyTorch of changes that it did not see, for what was saved for a backward pass."""
    if _SEVERAL_AT_ONCE:
        torch.autograd.graph.increment_version(tensors)
        return
    for each in tensors:
        torch.autograd.graph.increment_version(each)
