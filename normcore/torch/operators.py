"""How a normalization of the core becomes an operation of PyTorch.

Each is a pair: forward and backward, both differentiable. The forward pass's derivative is the
backward pass; the backward pass's own is a formula in plain torch.

Every operation is an operator in PyTorch's dispatcher, with a kernel for autograd (backward and
forward mode), a rule for vmap and a fake implementation: so it is seen by torch.compile, export,
tracers, modes, torch.func, fake and distributed tensors. The way through the dispatcher is long.
Where nothing but eager tensors is at work, the one implementation is called by an autograd
function, or at once.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction

from normcore.torch import sharding
from normcore.torch.dispatch import is_plain

__all__ = ["Arguments", "Context", "Gradients", "Operation", "keep"]

#: Of an autograd function, to which attributes are added.
Context: TypeAlias = Any
#: Of an operation: tensors, and numbers and names.
Arguments: TypeAlias = tuple[Any, ...]
#: With respect to each argument; None where there is none.
Gradients: TypeAlias = tuple[Tensor | None, ...]
#: Of an operation: a tensor or several.
Results: TypeAlias = Any

_LIBRARY = torch.library.Library("normcore", "FRAGMENT")


def keep(ctx: Context, *tensors: Tensor | None) -> None:
    """Save tensors for derivatives in either mode, where None stands for a zero gradient."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


class _Primals:
    """The context of an autograd function whose saved tensors have no tangents of its level."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(
            None if each is None else forward_ad.unpack_dual(each).primal
            for each in self._ctx.saved_tensors
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


class Operation:
    """An operation of tensors.

    Parameters
    ----------
    name : str
        In the namespace of normcore's operators.
    implementation : callable
        Annotated as `torch.library.infer_schema` wants it; changes no argument.
    fake : callable
        The shapes, dtypes and strides of what it returns.
    setup_context, backward, jvp : callable
        As those of an autograd function.
    shardings : callable, optional
        As :func:`normcore.torch.sharding.register` takes it.
    """

    def __init__(
        self,
        name: str,
        implementation: Callable[..., Results],
        fake: Callable[..., Results],
        setup_context: Callable[..., None],
        backward: Callable[..., Gradients],
        jvp: Callable[..., Results],
        shardings: sharding.Shardings | None = None,
    ) -> None:
        self.implementation = implementation
        parameters = inspect.signature(implementation).parameters.values()
        #: What stands for arguments that are left out, all but the last ones never.
        self._defaults = tuple(each.default for each in parameters)
        schema = torch.library.infer_schema(implementation, mutates_args=())
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        operator = self.operator = getattr(torch.ops.normcore, name).default

        def forward(ctx: Context, *arguments: object) -> Results:
            results = implementation(*arguments)
            setup_context(ctx, arguments, results)
            return results

        def forward_below(ctx: Context, *arguments: object) -> Results:
            with contextlib.ExitStack() as stack:
                if torch._C._are_functorch_transforms_active():
                    # Levels below this one take derivatives too; for this one they are off here.
                    stack.enter_context(torch.enable_grad())
                    stack.enter_context(forward_ad._set_fwd_grad_enabled(True))
                stack.enter_context(torch._C._AutoDispatchBelowAutograd())
                results = operator(*arguments)
            setup_context(ctx, arguments, results)
            return results

        def tangent(ctx: Context, *tangents: Tensor | None) -> Results:
            if not torch._C._are_functorch_transforms_active():
                return jvp(ctx, *tangents)
            with forward_ad._set_fwd_grad_enabled(True):  # for levels below this one
                return jvp(_Primals(ctx), *tangents)

        # One function each: apart, forward and setup_context cost an inspection at every call.
        # Neither is a Function, whose apply is for functorch's levels, which are seen to here.
        rules = {"backward": staticmethod(backward), "jvp": staticmethod(tangent)}
        self._setup_context, self._backward, self._name = setup_context, backward, name
        eager = type(name, (_SingleLevelFunction,), rules | {"forward": staticmethod(forward)})
        below = {"forward": staticmethod(forward_below)}
        single = type(name, (_SingleLevelFunction,), rules | below)
        self.function = eager.apply  # type: ignore[attr-defined]

        def differentiable(*arguments: object) -> Results:
            sharding.install()
            arguments = self._completed(arguments)  # as PyTorch leaves out defaults
            # torch.func comes here once for each of its levels.
            with enable_single_level_autograd_function():
                return single.apply(*arguments)  # type: ignore[attr-defined]

        _LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")
        _LIBRARY.impl(name, differentiable, "Autograd")
        torch.library.register_fake(f"normcore::{name}", fake, lib=_LIBRARY)
        torch.library.register_vmap(f"normcore::{name}", self._over_batch, lib=_LIBRARY)
        sharding.register(operator, shardings)

    def __call__(self, *arguments: Any) -> Results:
        """Return the operation's results."""
        if torch.compiler.is_compiling():
            return self.operator(*arguments)
        if not is_plain(*arguments):
            sharding.install()
            return self.operator(*arguments)
        if torch.is_grad_enabled():
            return self.function(*self._completed(arguments))
        return self.implementation(*arguments)

    def beside(self, implementation: Callable[..., Results]) -> Callable[..., Results]:
        """Return the operation for plain arguments by an implementation that does more beside.

        It takes all arguments of the operation, and one more that has no derivative.
        """
        setup_context, backward_of = self._setup_context, self._backward

        def forward(ctx: Context, *arguments: object) -> Results:
            results = implementation(*arguments)
            setup_context(ctx, arguments[:-1], results)
            return results

        def backward(ctx: Context, *gradients: Tensor | None) -> Gradients:
            return *backward_of(ctx, *gradients), None

        rules = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        eager = type(self._name, (_SingleLevelFunction,), rules)

        def apply(*arguments: object) -> Results:
            if torch.is_grad_enabled():
                return eager.apply(*arguments)  # type: ignore[attr-defined]
            return implementation(*arguments)

        return apply

    def _completed(self, arguments: Arguments) -> Arguments:
        """Return arguments with those that were left out."""
        given = len(arguments)
        return arguments if given == len(self._defaults) else arguments + self._defaults[given:]

    def _over_batch(
        self, info: Any, batch_axes: tuple[int | None, ...], *arguments: Any
    ) -> tuple[Results, Results]:
        """Return the results of each of a batch of arguments, stacked, and their batch axes."""

        def at(index: int) -> Arguments:
            return tuple(
                each if axis is None else each.select(axis, index)
                for each, axis in zip(arguments, batch_axes, strict=True)
            )

        size = info.batch_size
        if size == 0:
            arguments = tuple(
                each if axis is None else torch.zeros_like(each.sum(axis, keepdim=True))
                for each, axis in zip(arguments, batch_axes, strict=True)
            )
        results = [self.operator(*at(index)) for index in range(max(size, 1))]
        if isinstance(results[0], Tensor):
            return torch.stack(results)[:size], 0
        stacked = tuple(torch.stack(each)[:size] for each in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)
