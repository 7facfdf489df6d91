"""How a normalization of the core becomes an operation of PyTorch.

Each is a pair: forward and backward, both differentiable. The forward pass's derivative is the
backward pass; the backward pass's own is a formula in plain torch.

Every operation has two callers of the one implementation: an operator in torch.library, which is
what torch.compile, export, fake and meta tensors see, and an autograd function for eager mode,
where the operator's way through the dispatcher is the longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = [
    "Arguments",
    "Axes",
    "Context",
    "Gradients",
    "Operation",
    "along_channels",
    "second_derivative",
]

#: Of an autograd function, to which attributes are added.
Context: TypeAlias = Any
#: Of an operation: tensors, and numbers and names.
Arguments: TypeAlias = tuple[Any, ...]
#: With respect to each argument; None where there is none.
Gradients: TypeAlias = tuple[Tensor | None, ...]
#: Of an operation: a tensor or several.
Results: TypeAlias = Any

#: Others (fake tensors, subclasses) have their own ways through the dispatcher.
_PLAIN = frozenset({Tensor, torch.nn.Parameter})


class Axes(NamedTuple):
    """What statistics and weights run over: functions of float64 tensors of the input's shape."""

    #: Mean over what shares its statistics, broadcast against the input.
    mean: Callable[[Tensor], Tensor]
    #: Sum over what shares a weight, of the weight's shape.
    total: Callable[[Tensor], Tensor]
    #: A weight in a shape that broadcasts against an input.
    spread: Callable[[Tensor, Tensor], Tensor]


def along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """Return one value for each channel in a shape that broadcasts against an input."""
    return vector.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])


class Operation:
    """An operation of tensors.

    Parameters
    ----------
    name : str
        In the namespace of normcore's operators.
    implementation : callable
        Annotated as `torch.library.custom_op` wants it; changes no argument.
    fake : callable
        The shapes, dtypes and strides of what it returns.
    setup_context, backward : callable
        As those of an autograd function.
    """

    def __init__(
        self,
        name: str,
        implementation: Callable[..., Results],
        fake: Callable[..., Results],
        setup_context: Callable[..., None],
        backward: Callable[..., Gradients],
    ) -> None:
        self.implementation = implementation
        operator = torch.library.custom_op(f"normcore::{name}", implementation, mutates_args=())
        operator.register_fake(fake)
        operator.register_autograd(backward, setup_context=setup_context)
        self.operator = getattr(torch.ops.normcore, name).default

        # Apart, forward and setup_context would have their signatures inspected at every call.
        def forward(ctx: Context, *arguments: object) -> Results:
            results = implementation(*arguments)
            setup_context(ctx, arguments, results)
            return results

        parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        self.function = type(name, (Function,), parts).apply  # type: ignore[attr-defined]

    def __call__(self, *arguments: Any) -> Results:
        """Return the operation's results."""
        first = arguments[0]
        if torch.compiler.is_compiling() or type(first) not in _PLAIN or first.is_meta:
            return self.operator(*arguments)
        if torch.is_grad_enabled():
            return self.function(*arguments)
        return self.implementation(*arguments)


def second_derivative(
    cotangents: Sequence[Tensor | None],
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    axes: Axes,
    eps: float,
    *,
    centered: bool = True,
    given: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Differentiate the backward pass of a normalization.

    With ``G = weight * dy``, ``r = 1 / sqrt(var + eps)`` and ``xhat = r * (x - mean(x))``, the
    backward pass is ``dx = r * (G - mean(G) - xhat * mean(G * xhat))``, a symmetric map of G, and
    ``dweight = sum(dy * xhat)``, ``dbias = sum(dy)``. In plain torch and in float64, so that it
    can be differentiated further.

    Parameters
    ----------
    cotangents : three tensors or None
        For dx, dweight and dbias.
    dy, x, weight : Tensor
        What the backward pass was given.
    axes : Axes
        What the statistics and the weights run over.
    eps : float
    centered : bool
        Whether the mean is subtracted; it is not in RMS norm.
    given : Tensor, optional
        Mean and variance, (2, C), that do not depend on `x`.

    Returns
    -------
    tuple
        With respect to `dy`, `x` and `weight`, in their dtypes.
    """
    dx_, dweight_, dbias_ = (None if each is None else each.double() for each in cotangents)
    wide, wide_dy, mean = x.double(), dy.double(), axes.mean
    gamma = 1.0 if weight is None else axes.spread(weight.double(), x)
    dx_ = torch.zeros_like(wide) if dx_ is None else dx_
    weighted = gamma * wide_dy
    if given is None:
        centre = mean(wide) if centered else 0.0
        r = (mean((wide - centre).square()) + eps).rsqrt()
    else:
        centre, var = (axes.spread(each, x) for each in given.double())
        r = (var + eps).rsqrt()
    xhat = r * (wide - centre)

    def project(v: Tensor) -> Tensor:
        if given is not None:
            return r * v
        return r * (v - (mean(v) if centered else 0.0) - xhat * mean(v * xhat))

    of_dy = gamma * project(dx_)
    of_xhat = torch.zeros_like(wide)
    if dweight_ is not None:
        spread = axes.spread(dweight_, x)
        of_dy, of_xhat = of_dy + spread * xhat, spread * wide_dy
    if dbias_ is not None:
        of_dy = of_dy + axes.spread(dbias_, x)
    if given is None:
        a, b = mean(dx_ * xhat), mean(weighted * xhat)
        of_r = mean(dx_ * weighted) - a * b
        if centered:
            of_r = of_r - mean(dx_) * mean(weighted)
        of_x = project(of_xhat - r * (b * dx_ + a * weighted)) - r * r * xhat * of_r
    else:
        of_x = project(of_xhat)
    of_weight = None if weight is None else axes.total(project(dx_) * wide_dy).to(weight.dtype)
    return of_dy.to(dy.dtype), of_x.to(x.dtype), of_weight
