"""Training steps of normcore's modules for PyTorch beside PyTorch's own, in both precisions.

python -m benchmarks.module_steps [--budget SECONDS]

Prints PyTorch's time over ours, of a forward and a backward pass through autograd with fresh
results: medians of rounds in which all take turns. Small batches measure what Python adds, beside
an autograd function that does nothing but make its results.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable

import torch

import normcore.torch as nt

from .measure import Effort, rounds
from .peers import Contestant

__all__ = ["main"]

Step = Callable[[], object]

BATCHES = [
    ("BatchNorm1d", (1024, 1024)),
    ("BatchNorm1d", (128, 512)),
    ("LayerNorm", (8192, 768)),
    ("LayerNorm", (128, 512)),
    ("BatchNorm1d", (4, 8)),
    ("LayerNorm", (4, 8)),
]


class _Empty(torch.autograd.Function):
    """What a layer's step takes of PyTorch: as many tensors in, out, kept, and as gradients."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, *given: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y, parts = torch.empty_like(given[0]), torch.empty((7, 8), dtype=torch.float64)
        ctx.save_for_backward(*given[:2], parts)
        ctx.mark_non_differentiable(parts)
        return y, parts

    @staticmethod
    def backward(
        ctx: torch.autograd.function.BackwardCFunction, dy: torch.Tensor, _: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def contestants(kind: str, shape: tuple[int, ...]) -> dict[str, Step]:
    """Return a step of each layer of a kind."""
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(shape, generator=generator) + 1 for _ in range(2))
    x.requires_grad_()
    layer = getattr(nt, kind)(shape[1])
    native = copy.deepcopy(layer)
    native.precision = "native"
    theirs = nt.convert(copy.deepcopy(layer), to="torch")
    variables = [x, *layer.parameters()]

    def step(call: Callable[[torch.Tensor], torch.Tensor], *given: torch.Tensor) -> Step:
        return lambda: torch.autograd.grad(call(x), given or variables, dy)

    return {
        "PyTorch": step(theirs, x, *theirs.parameters()),
        "exact": step(layer),
        "native": step(native, x, *native.parameters()),
        "empty": step(lambda x: _Empty.apply(x, layer.weight, layer.bias)[0]),
    }


def medians(steps: dict[str, Step], budget: float) -> dict[str, float]:
    """Return the seconds that each takes, in turns that wait until no thread spins any more."""
    contestants = [Contestant(name, step) for name, step in steps.items()]
    samples = rounds(contestants, Effort(repeat=7, budget=budget))
    return {name: statistics.median(each) for name, each in samples.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each contestant")
    budget = parser.parse_args().budget
    print("| step | PyTorch, us | exact | native | beyond an empty function, us: exact, native |")
    print("|---|---|---|---|---|")
    for kind, shape in BATCHES:
        found = medians(contestants(kind, shape), budget)
        ratios = [f"{found['PyTorch'] / found[name]:.2f}" for name in ("exact", "native")]
        beyond = [f"{1e6 * (found[name] - found['empty']):.0f}" for name in ("exact", "native")]
        label = f"{kind} {shape[0]}x{shape[1]}"
        cells = [label, f"{1e6 * found['PyTorch']:.0f}", *ratios, ", ".join(beyond)]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
