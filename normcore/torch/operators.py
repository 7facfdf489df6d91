"""How a normalization of the core becomes an operation of PyTorch.

Each is a pair: forward and backward, both differentiable. The forward pass's derivative is the
backward pass; the backward pass's own, of any order, comes from the formula in plain torch.
Every operation has two callers of the one implementation: an operator in torch.library, which is
what torch.compile, export and fake tensors see, and an autograd function for eager mode, where
the operator's way through the dispatcher would cost several times more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["Operation", "second_derivative"]

_EAGER = frozenset({Tensor, torch.nn.Parameter})


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
        implementation: Callable[..., Any],
        fake: Callable[..., Any],
        setup_context: Callable[..., None],
        backward: Callable[..., Any],
    ) -> None:
        self.implementation = implementation
        operator = torch.library.custom_op(f"normcore::{name}", implementation, mutates_args=())
        operator.register_fake(fake)
        operator.register_autograd(backward, setup_context=setup_context)
        self.operator = getattr(torch.ops.normcore, name).default

        # Apart, forward and setup_context would have their signatures inspected at every call.
        def forward(ctx: Any, *arguments: Any) -> Any:
            results = implementation(*arguments)
            setup_context(ctx, arguments, results)
            return results

        parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        self.function = type(name, (Function,), parts).apply  # type: ignore[attr-defined]

    def __call__(self, *arguments: Any) -> Any:
        """Return the operation's results."""
        first = arguments[0]
        if torch.compiler.is_compiling() or type(first) not in _EAGER or first.is_meta:
            return self.operator(*arguments)
        if torch.is_grad_enabled():
            return self.function(*arguments)
        return self.implementation(*arguments)


def second_derivative(
    forward: Callable[..., Tensor],
    dy: Tensor,
    inputs: Sequence[Tensor | None],
    cotangents: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Differentiate the backward pass of a formula.

    Parameters
    ----------
    forward : callable
        The formula of all `inputs`, in plain torch.
    dy : Tensor
        The gradient that the backward pass was given.
    cotangents : sequence of Tensor or None
        For each of the gradients that the backward pass returned.

    Returns
    -------
    tuple of Tensor or None
        With respect to `dy` and each of the inputs.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        dy, *variables = (
            each if each is None or each.requires_grad else each.detach().requires_grad_()
            for each in (dy, *inputs)
        )
        present = [each for each in variables if each is not None]
        gradients = iter(
            torch.autograd.grad(
                forward(*variables), present, dy, create_graph=True, allow_unused=True
            )
        )
        pairs = [
            (gradient, cotangent)
            for each, cotangent in zip(variables, cotangents, strict=True)
            if each is not None
            and (gradient := next(gradients)) is not None
            and cotangent is not None
            and gradient.requires_grad
        ]
        if not pairs:
            return (None,) * (1 + len(variables))
        found = iter(
            torch.autograd.grad(
                [gradient for gradient, _ in pairs],
                [dy, *present],
                [cotangent for _, cotangent in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return tuple(None if each is None else next(found) for each in (dy, *variables))
