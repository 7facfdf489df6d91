"""The array-API namespace of an array."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["array_namespace"]


def array_namespace(array: Any) -> ModuleType | Any:
    """Return the namespace whose functions take ``array``.

    Libraries that follow the array-API standard name it themselves; for the others (PyTorch,
    Dask) it comes from array-api-compat.

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
    try:
        from array_api_compat import array_namespace as compat_namespace
    except ImportError:
        raise TypeError(
            f"{type(array).__module__}.{type(array).__qualname__} does not name its array-API "
            "namespace; `pip install array-api-compat` adds the common ones"
        ) from None
    return compat_namespace(array)
