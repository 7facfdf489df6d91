"""What the GPU checks share: the backend, the device's description, and optional libraries."""

from __future__ import annotations

import platform
import sys
from importlib import import_module, metadata
from types import ModuleType

import normcore as nc

__all__ = ["backend", "cuda_torch", "describe", "optional"]


def backend() -> nc.Backend:
    """Return the CuPy backend, registered here where no metadata of a distribution does it.

    Exits with the reason where it is not ready.
    """
    for name in ("cpu", "cupy"):
        if name not in nc.backends():
            nc.register(import_module(f"normcore_{name}.plugin"))
    status = nc.backends()["cupy"]
    if not status.ready:
        sys.exit(f"the backend 'cupy' is not ready: {status.reason}")
    return nc.get_backend("cupy")


def optional(name: str) -> ModuleType | None:
    """Import a library, or return None."""
    try:
        return import_module(name)
    except ImportError:
        return None


def cuda_torch() -> ModuleType | None:
    """Return PyTorch where it sees a CUDA device, or None."""
    torch = optional("torch")
    return torch if torch is not None and torch.cuda.is_available() else None


def describe() -> dict[str, object]:
    """Return the device, the driver and the versions that figures belong to."""
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    versions = {}
    for each in ("numpy", "torch", "scikit-learn", "array-api-compat"):
        try:
            versions[each] = metadata.version(each)
        except metadata.PackageNotFoundError:
            versions[each] = None
    return {
        "device": properties["name"].decode(),
        "compute_capability": cupy.cuda.Device().compute_capability,
        "memory_bytes": properties["totalGlobalMem"],
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "nvrtc": list(cupy.cuda.nvrtc.getVersion()),
        "python": platform.python_version(),
        "cupy": cupy.__version__,
        "normcore": nc.__version__,
        **versions,
    }


if __name__ == "__main__":
    backend()
    for key, value in describe().items():
        print(f"{key}: {value}")
