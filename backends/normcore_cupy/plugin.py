"""Registers the CuPy backend; imports nothing of it, and not CuPy."""

from __future__ import annotations

from normcore.registration.hookspecs import hookimpl
from normcore.registration.registry import Registry

__all__ = ["normcore_register"]


@hookimpl
def normcore_register(registry: Registry) -> None:
    """Name the backend and what it serves: CuPy's arrays, tensors, and whatever is on CUDA."""
    registry.backend(
        "cupy",
        "normcore_cupy.backend:CupyBackend",
        arrays=("cupy.ndarray", "torch.Tensor"),
        devices=("cuda",),
        priority=10,
    )
