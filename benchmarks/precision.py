"""Measure how far results are from exact ones: in both precisions, and PyTorch's.

python -m benchmarks.precision

Prints the table of docs/precision.md. Inputs are float32 of deviation 1 about an offset; what is
exact is computed in the widest floats that NumPy has. An error is the largest difference of an
element, in units of 2**-24: half a unit in the last place of a result between 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

import normcore as nc

__all__ = ["errors", "main", "normcore_passes"]

SHAPE = (1024, 512)
OFFSETS = (0.0, 1e3, 1e6)
EPS = 1e-5

Passes = Callable[..., tuple[np.ndarray, ...]]


def main() -> None:
    """Print the table."""
    contestants = {name: normcore_passes(name) for name in ("exact", "native")}
    if find_spec("torch") is not None:
        contestants["PyTorch"] = _torch
    print("| pass | offset |", " | ".join(contestants), "|")
    print("|---|---|" + "---|" * len(contestants))
    for kind in ("batch norm", "layer norm"):
        found = {at: [errors(each, kind, at) for each in contestants.values()] for at in OFFSETS}
        for what in ("y", "dx"):
            for offset in OFFSETS:
                cells = " | ".join(f"{each[what]:.3g}" for each in found[offset])
                print(f"| {kind}, {what} | {offset:g} | {cells} |")


def errors(passes: Passes, kind: str, offset: float) -> dict[str, float]:
    """Return the largest errors of y and dx in units of 2**-24."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=SHAPE) + offset).astype(np.float32)
    dy = rng.normal(size=SHAPE).astype(np.float32)
    gamma, beta = rng.uniform(0.5, 1.5, size=(2, SHAPE[1])).astype(np.float32)
    found = passes(kind, x, dy, gamma, beta)
    expected = _exact(0 if kind == "batch norm" else 1, x, dy, gamma, beta)
    return {
        name: float(np.max(np.abs(one - other))) * 2.0**24
        for name, one, other in zip(("y", "dx"), found, expected, strict=True)
    }


def _exact(axis: int, *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return y and dx, of statistics along an axis."""
    x, dy, gamma, beta = (each.astype(np.longdouble) for each in arrays)
    centered = x - x.mean(axis, keepdims=True)
    scale = np.sqrt((centered**2).mean(axis, keepdims=True) + EPS)
    xhat, g = centered / scale, dy * gamma
    mean, product = (each.mean(axis, keepdims=True) for each in (g, g * xhat))
    return xhat * gamma + beta, (g - mean - xhat * product) / scale


def normcore_passes(precision: str) -> Passes:
    def passes(kind: str, x: np.ndarray, dy: np.ndarray, *vectors: np.ndarray) -> tuple:
        name = kind.replace(" ", "_")
        forward, backward = getattr(nc.functional, name), getattr(nc.functional, f"{name}_backward")
        with nc.use_precision(precision):
            y, moments = forward(x, *vectors, eps=EPS)
            return y, backward(dy, x, moments, vectors[0], eps=EPS)[0]

    return passes


def _torch(kind: str, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    import torch

    x, dy, gamma, beta = map(torch.from_numpy, arrays)
    x.requires_grad_()
    if kind == "batch norm":
        y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=EPS)
    else:
        y = torch.nn.functional.layer_norm(x, gamma.shape, gamma, beta, eps=EPS)
    y.backward(dy)
    return y.detach().numpy(), x.grad.numpy()


if __name__ == "__main__":
    main()
