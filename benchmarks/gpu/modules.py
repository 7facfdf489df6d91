"""Jobs of PyTorch modules, of either library: forward, and backward through autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.gpu import common
from benchmarks.gpu.jobs import Call

if TYPE_CHECKING:
    from benchmarks.gpu.cases import Buffers

__all__ = ["DEVICE", "Make", "backward", "compiled", "forward"]

#: Where modules are.
DEVICE = "cuda"
#: Returns a module for a case.
Make = Callable[["Buffers"], Callable[..., object]]


def forward(make: Make, *, native: bool = False) -> Callable[[Buffers], Call]:
    """Return the preparation of a forward job; ``native`` is without cuDNN."""

    def prepare(buffers: Buffers) -> Call:
        torch, x, module = common.cuda_torch(), buffers.tensors, make(buffers)
        if not native:
            return lambda i: module(x[i])

        def call(i: int) -> object:
            with torch.backends.cudnn.flags(enabled=False):
                return module(x[i])

        return call

    return prepare


def backward(make: Make, *, native: bool = False) -> Callable[[Buffers], Call]:
    """Return the preparation of a backward job: the gradients of input and parameters."""

    def prepare(buffers: Buffers) -> Call:
        torch, dy, module = common.cuda_torch(), buffers.gradients, make(buffers)
        wanted = list(module.parameters())
        leaves = [each.detach().requires_grad_() for each in buffers.tensors]
        with torch.backends.cudnn.flags(enabled=not native):
            results = [module(leaf) for leaf in leaves]

        def call(i: int) -> object:
            return torch.autograd.grad(results[i], [leaves[i], *wanted], dy[i], retain_graph=True)

        return call

    return prepare


def compiled(make: Make) -> Make:
    """Compile the module for the shape at hand; earlier ones do not count against a limit."""

    def prepare(buffers: Buffers) -> Callable[..., object]:
        torch = common.cuda_torch()
        torch.compiler.reset()
        return torch.compile(make(buffers), dynamic=False)

    return prepare
