"""Whether kernels can run here, and if not, why, in words.

The driver is asked through NVML, which leaves CUDA alone: a process that initialised CUDA cannot
use it in its forked children, and looking at what there is must not do that.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any, NamedTuple

from normcore.backend import BackendStatus

__all__ = ["Driver", "find_driver", "status"]

_INSTALL = "pip install 'normcore-arrays[cuda13]', or [cuda12] for drivers of CUDA 12"


class Driver(NamedTuple):
    """What NVML knows: the CUDA version of the driver, as 13000, and the number of GPUs."""

    version: int
    num_devices: int


def status() -> BackendStatus:
    """Return the status of this process; cheap, and without initialising CUDA."""
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            return BackendStatus(False, f"CuPy does not import: {error}")
        return BackendStatus(False, f"CuPy is not installed; {_INSTALL}")
    except ImportError as error:
        return BackendStatus(False, f"CuPy does not import: {' '.join(str(error).split())}")
    if int(cupy.__version__.split(".")[0]) < 14:
        return BackendStatus(False, f"CuPy {cupy.__version__} is too old; 14 is needed: {_INSTALL}")
    if cupy.cuda.runtime.is_hip:
        return BackendStatus(False, "this CuPy is built for ROCm; the kernels are CUDA's")
    reason = _why_no_device(cupy) or _why_no_compiler()
    if reason:
        return BackendStatus(False, reason)
    return BackendStatus(True, detail=f"CuPy {cupy.__version__}")


def _why_no_device(cupy: Any) -> str:
    if not _loads("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"):
        return "no NVIDIA driver is installed"
    driver = find_driver()
    if driver is None:  # a system without NVML: CUDA itself must say
        return _why_cuda_fails(cupy)
    built = cupy.cuda.runtime.runtimeGetVersion() // 1000
    if driver.version // 1000 < built:
        return (
            f"the driver supports CUDA {driver.version // 1000}.{driver.version % 1000 // 10}, but "
            f"this CuPy is built for CUDA {built}; update the driver, or {_INSTALL}"
        )
    if driver.num_devices == 0:
        return "the NVIDIA driver finds no device"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every device"
    return ""


def _why_cuda_fails(cupy: Any) -> str:
    try:
        if cupy.cuda.runtime.getDeviceCount() == 0:
            return "the NVIDIA driver finds no device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA does not start: {error}"
    return ""


def _why_no_compiler() -> str:
    from normcore_cupy import compiler

    return compiler.why_missing()


def find_driver() -> Driver | None:
    """Ask NVML; None where there is none, or it does not answer."""
    library = _loads("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    if library is None:
        return None
    version, number = ctypes.c_int(), ctypes.c_uint()
    try:
        if library.nvmlInit_v2() != 0:
            return None
        try:
            codes = (
                library.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version)),
                library.nvmlDeviceGetCount_v2(ctypes.byref(number)),
            )
        finally:
            library.nvmlShutdown()
    except AttributeError:  # an NVML that lacks one of these
        return None
    return None if any(codes) else Driver(version.value, number.value)


def _loads(name: str) -> Any:
    """Return a shared library, or None."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
