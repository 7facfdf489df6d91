"""Tensors, and what layers of PyTorch's kind make of them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
import torch


def normal(
    shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def run(layer: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the output and the gradients of the input and of the parameters."""
    x = x.detach().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(dy)
    return y, x.grad, *(each.grad for each in layer.parameters())
