"""Arrays that behave like a device's: strided, and closed to whatever lies in host memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

__all__ = ["DeviceArray", "namespace", "unwrap"]


class DeviceArray(NDArrayOperatorsMixin):
    """An array "on the device"; NumPy cannot see into it, nor mix with it."""

    __array_priority__ = 100
    #: How often the host waited for a device and copied an array.
    waits = 0

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a device array does not convert to NumPy implicitly; use to_host")

    def get(self) -> np.ndarray:
        """Return a copy on the host."""
        DeviceArray.waits += 1
        return np.array(self._memory)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.get("out")
        if out is not None:
            options["out"] = tuple(unwrap(each) for each in out)
        return _wrap(getattr(ufunc, method)(*map(unwrap, inputs), **options))

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return namespace

    def __getitem__(self, key: Any) -> Any:
        return _wrap(self._memory[_unwrap_key(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._memory[_unwrap_key(key)] = unwrap(value)

    def __len__(self) -> int:
        return len(self._memory)

    def __bool__(self) -> bool:
        raise AssertionError("the host waits for the device: bool() of a device array")

    __float__ = __int__ = __index__ = __bool__  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "strides", "flags", "ndim", "size", "itemsize", "nbytes"):
            return getattr(self._memory, name)
        if name in ("copy", "reshape", "transpose", "astype", "fill", "ravel"):
            method = getattr(self._memory, name)
            return lambda *arguments, **options: _wrap(method(*arguments, **options))
        if name == "T":
            return _wrap(self._memory.T)
        raise AttributeError(f"a device array has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"DeviceArray({self._memory!r})"


class _Namespace:
    """NumPy's functions, on device arrays only, but for what makes them of the host's."""

    @staticmethod
    def asarray(array: Any, dtype: Any = None) -> Any:
        if isinstance(array, DeviceArray) and dtype in (None, array.dtype):
            return array
        memory = array if isinstance(array, np.ndarray) else unwrap(array)
        return DeviceArray(np.array(memory, dtype))

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type):
            return found

        def function(*arguments: Any, **options: Any) -> Any:
            result = found(
                *map(unwrap, arguments), **{key: unwrap(value) for key, value in options.items()}
            )
            return tuple(map(_wrap, result)) if isinstance(result, tuple) else _wrap(result)

        return function


#: The array-API namespace of device arrays.
namespace = _Namespace()


def unwrap(value: Any) -> Any:
    """Return the memory of a device array, and scalars as they are; refuse host arrays."""
    if isinstance(value, DeviceArray):
        return value._memory
    if isinstance(value, np.ndarray):
        raise TypeError("host and device arrays do not mix")
    if isinstance(value, list | tuple):
        return type(value)(map(unwrap, value))
    return value


def _wrap(value: Any) -> Any:
    return DeviceArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def _unwrap_key(key: Any) -> Any:
    return tuple(map(unwrap, key)) if isinstance(key, tuple) else unwrap(key)
