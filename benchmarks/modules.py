"""A training step of a batch norm module, forward and backward, through PyTorch's autograd.

Outputs and gradients are fresh on both sides, as they are in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .batches import EPS, MOMENTUM, batch_oracle
from .cases import Arrays
from .peers import OURS, Contestant, found

__all__ = ["module_contestants", "module_oracle"]

#: The module for a batch of so many dimensions.
KINDS = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d"}


def module_contestants(arrays: Arrays) -> Iterator[Contestant]:
    """Yield normcore's module and PyTorch's, where PyTorch is installed."""
    torch = found("PyTorch")
    if torch is not None:
        import normcore.torch

        yield _step(OURS, normcore.torch, torch, arrays)
        yield _step("PyTorch", torch.nn, torch, arrays)


def module_oracle(arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute the output and the gradients in float64."""
    return *batch_oracle("training", arrays), *batch_oracle("backward", arrays)


def _step(name: str, modules: Any, torch: Any, arrays: Arrays) -> Contestant:
    axis, shape = arrays.case.axis, arrays.case.shape
    x, dy = (torch.from_numpy(each).movedim(axis, 1) for each in (arrays.x, arrays.dy))
    module = getattr(modules, KINDS[len(shape)])(
        shape[axis], eps=EPS, momentum=MOMENTUM, dtype=x.dtype
    )
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(arrays.gamma))
        module.bias.copy_(torch.from_numpy(arrays.beta))
    variables = x.requires_grad_(), module.weight, module.bias

    def call() -> Any:
        y = module(x)
        return y, *torch.autograd.grad(y, variables, dy)

    def read(result: Any) -> tuple[np.ndarray, ...]:
        return tuple(
            (each.movedim(1, axis) if each.ndim > 1 else each).numpy(force=True) for each in result
        )

    return Contestant(name, call, read)
