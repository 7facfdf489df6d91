"""The array-API namespace of an array, and the way to the host."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "BFLOAT16",
    "Array",
    "DType",
    "address",
    "array_namespace",
    "as_array",
    "host_view",
    "is_on_host",
    "is_strided",
    "native",
    "place",
    "to_numpy",
]

#: An array of any library: NumPy, CuPy, PyTorch, or whatever follows the array-API standard.
Array: TypeAlias = Any
#: A dtype of such a library.
DType: TypeAlias = Any

#: How memory of bfloat16 is viewed, which NumPy does not have: it knows no more than the size.
BFLOAT16 = np.dtype([("bfloat16", "V2")])

# DLPack's kinds of devices: host memory, ordinary and pinned; CUDA's own and managed memory.
_HOST, _CUDA = (1, 3, 11), (2, 13)


def array_namespace(array: Array) -> ModuleType:
    """Return the namespace whose functions take ``array``.

    Most libraries that follow the array-API standard name it themselves, and CuPy's module is
    one; for the others (PyTorch, Dask) it comes from array-api-compat.

    Raises
    ------
    TypeError
        If the array names no namespace and array-api-compat is missing or does not know it.
    """
    if isinstance(array, np.ndarray | np.generic):
        return np
    named = getattr(array, "__array_namespace__", None)
    if named is not None:
        return named()
    module = sys.modules.get(type(array).__module__.partition(".")[0])
    if module is not None and hasattr(module, "isdtype") and hasattr(module, "permute_dims"):
        return module
    try:
        from array_api_compat import array_namespace as compat_namespace
    except ImportError:
        raise TypeError(
            f"{type(array).__module__}.{type(array).__qualname__} does not name its array-API "
            "namespace; `pip install array-api-compat` adds the common ones"
        ) from None
    return compat_namespace(array)


def to_numpy(array: Array) -> np.ndarray:
    """Return an array of any library, or a number, as a NumPy array, without a copy if possible."""
    if isinstance(array, np.ndarray):
        return array
    get = getattr(array, "get", None)  # CuPy refuses implicit conversion
    if get is not None:
        host: np.ndarray = get()
        return host
    to_cpu = getattr(array, "cpu", None)
    if to_cpu is not None:
        array = to_cpu()
    detach = getattr(array, "detach", None)  # PyTorch refuses what records gradients
    if detach is not None:
        array = detach()
    try:
        return np.asarray(array)
    except (TypeError, ValueError):
        return host_view(array)


def host_view(array: Array) -> np.ndarray:
    """Return a NumPy view of an array of another library that lies in host memory, by DLPack."""
    dtype = str(getattr(array, "dtype", ""))
    if dtype == "torch.bfloat16":  # NumPy's DLPack has none
        return np.from_dlpack(array.view(sys.modules["torch"].int16)).view(BFLOAT16)
    if dtype == "bfloat16":  # JAX's, which are arrays of ml_dtypes to NumPy
        return np.asarray(array)
    try:
        return np.from_dlpack(array)
    except BufferError:  # so says NumPy 2.0 of read-only memory, which other libraries wrap
        if not (hasattr(array, "__array__") and is_on_host(array)):
            raise
        return np.asarray(array)


def native(array: np.ndarray) -> np.ndarray:
    """Return a NumPy array of real numbers as kernels and other libraries read them.

    That is in native byte order, aligned, and of at most 64 bits: itself, or a copy.
    """
    if array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.isnative and array.flags.aligned:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def is_on_host(array: Array) -> bool:
    """Whether an array lies in host memory; it does if it names no device."""
    device = getattr(array, "__dlpack_device__", None)
    return isinstance(array, np.ndarray) or device is None or device()[0] in _HOST


def place(array: Array) -> str:
    """Return in words where an array lies."""
    if is_on_host(array):
        return "in host memory"
    kind, number = array.__dlpack_device__()
    return f"on CUDA device {number}" if kind in _CUDA else f"on device {number} of DLPack's {kind}"


def as_array(x: Array, *, what: str = "x", beside: Array = None) -> Array:
    """Return ``x``, or the NumPy array of a nested sequence or of what speaks DLPack alone.

    Parameters
    ----------
    what : str
        Its name in errors.
    beside : array, optional
        The data that it belongs to; both must lie in one place. A nested sequence is in none.

    Raises
    ------
    TypeError
        If it is a masked array, whose mask would be lost, or lies elsewhere than ``beside``.
    """
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{what} is a masked array, which is not supported; fill with NaN, or pass weights or "
            "a mask"
        )
    if not hasattr(x, "dtype"):
        return host_view(x) if hasattr(x, "__dlpack__") else np.asarray(x)
    if beside is None or (isinstance(x, np.ndarray) and isinstance(beside, np.ndarray)):
        return x
    if place(x) != place(beside):
        raise TypeError(
            f"{what} is {place(x)}, but the data is {place(beside)}; copy one of them to the "
            "other's place first (cupy.asarray, cupy.asnumpy, Tensor.to)"
        )
    return x


def address(array: Array) -> int | None:
    """Return where an array has its first element, on the host or a device, if it says so."""
    if isinstance(array, np.ndarray):
        start: int = array.__array_interface__["data"][0]
        return start
    return getattr(getattr(array, "data", None), "ptr", None)  # CuPy's


def is_strided(array: Array) -> bool:
    """Whether an array describes its memory as NumPy's do, and is viewed as they are."""
    return isinstance(getattr(array, "strides", None), tuple)
