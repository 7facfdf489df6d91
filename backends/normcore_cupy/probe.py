"""Whether kernels can run here, and if not, why, in words.

The driver is asked through NVML, which leaves CUDA alone: a process that initialised CUDA cannot
use it in its forked children, and looking at what there is must not do that.
"""

from __future__ import annotations

import ctypes
import os
import sys
from types import ModuleType
from typing import NamedTuple

from normcore.array_backend.status import BackendStatus

__all__ = ["Driver", "find_driver", "status", "why_hidden"]

_UUID_BYTES = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE
_INSTALL = "pip install 'normcore-arrays[cuda13]', or [cuda12] for drivers of CUDA 12"


class Driver(NamedTuple):
    """What NVML knows: the CUDA version of the driver, as 13000, and the GPUs.

    ``uuids`` are as nvidia-smi prints them; an empty one where NVML does not tell.
    """

    version: int
    num_devices: int
    uuids: tuple[str, ...] = ()


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


def _why_no_device(cupy: ModuleType) -> str:
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
    return why_hidden(driver, os.environ.get("CUDA_VISIBLE_DEVICES"))


def why_hidden(driver: Driver, visible: str | None) -> str:
    """Say why CUDA would see none of the driver's devices; nothing where it sees some.

    CUDA takes the devices that the variable names up to the first name that is none: an index, or
    the beginning of one device's UUID. So that the first name decides. Of the parts of a divided
    GPU (``MIG-...``) CUDA alone knows.
    """
    if visible is None:
        return ""
    first = visible.split(",")[0].strip()
    if first in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every device"
    if first.startswith("MIG-"):
        return ""
    if first.startswith("GPU-"):
        if sum(each.startswith(first) for each in driver.uuids) == 1 or "" in driver.uuids:
            return ""
    elif first.isdecimal() and int(first) < driver.num_devices:
        return ""
    there = "0" if driver.num_devices == 1 else f"0 to {driver.num_devices - 1}"
    named = "".join(f", {each}" for each in driver.uuids if each)
    return (
        f"CUDA_VISIBLE_DEVICES={visible!r} hides every device: {first!r} names none of them; there "
        f"are {there}{named}"
    )


def _why_cuda_fails(cupy: ModuleType) -> str:
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
            uuids = tuple(_uuid(library, each) for each in range(number.value))
        finally:
            library.nvmlShutdown()
    except AttributeError:  # an NVML that lacks one of these
        return None
    return None if any(codes) else Driver(version.value, number.value, uuids)


def _uuid(library: ctypes.CDLL, index: int) -> str:
    device, text = ctypes.c_void_p(), ctypes.create_string_buffer(_UUID_BYTES)
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0:
        return ""
    if library.nvmlDeviceGetUUID(device, text, ctypes.c_uint(_UUID_BYTES)) != 0:
        return ""
    return text.value.decode(errors="replace")


def _loads(name: str) -> ctypes.CDLL | None:
    """Return a shared library, or None."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
