"""Registers the CPU backend; imports nothing of it."""

from __future__ import annotations

from normcore.registration.hookspecs import hookimpl
from normcore.registration.registry import Registry

__all__ = ["normcore_register"]


@hookimpl
def normcore_register(registry: Registry) -> None:
    """Name the backend and what it serves: NumPy arrays and whatever lies in host memory."""
    registry.backend(
        "cpu", "normcore_cpu.backend:CpuBackend", arrays=("numpy.ndarray",), devices=("cpu",)
    )
