"""A backend whose kernels have a fault."""

from __future__ import annotations

from normcore_cupy.device import source

from cuda_host.emulated import EmulatedBackend, EmulatedDevice

__all__ = ["with_fault"]


def with_fault(old: str, new: str) -> EmulatedBackend:
    """Return a backend with ``new`` in place of ``old``, which the kernels must have once."""
    found = source().count(old)
    if found != 1:
        raise LookupError(f"the kernels have {old!r} {found} times; bring the fault up to date")
    return EmulatedBackend(EmulatedDevice(lambda kernel: source(kernel).replace(old, new)))
