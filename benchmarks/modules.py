"""A training step of a batch norm module, forward and backward, through PyTorch's autograd.

Outputs and gradients are fresh on both sides, as they are in training. A module takes no `out=`;
to have its results in memory that the process holds already, :func:`reused_memory` tells malloc,
from which NumPy's arrays and PyTorch's tensors come alike, to keep what is freed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .batches import EPS, MOMENTUM, batch_oracle
from .cases import Arrays
from .peers import OURS, Contestant, found

__all__ = ["has_reused_memory", "module_contestants", "module_oracle", "reused_memory"]

#: The module for a batch of so many dimensions.
KINDS = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d"}

# What glibc's malloc.h calls these, and what they are unless changed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_THRESHOLD: 128 << 10, _MMAP_MAX: 65_536}
#: Results to hold memory for: two, and what small blocks between freed ones make unfit for them.
_BLOCKS = 8
#: Room for the alignment of a result, in bytes.
_ALIGNMENT = 4096


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


def has_reused_memory() -> bool:
    """Whether :func:`reused_memory` works here: malloc is glibc's."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@contextmanager
def reused_memory(nbytes: int) -> Iterator[None]:
    """Serve results of so many bytes from memory that is taken now, and keep what is freed.

    The pages are NumPy's, huge where the system has such, whoever's results lie in them later.
    Afterwards malloc does not adapt its thresholds to what is freed, as it does by default, and
    large blocks may stay in its heap: what is to be fresh has to be measured before.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        blocks = [np.ones(nbytes + _ALIGNMENT, np.uint8) for _ in range(_BLOCKS)]
        del blocks
        yield
    finally:
        for option, value in _DEFAULTS.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)


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
