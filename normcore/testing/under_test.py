"""The backend that laws are about, and the way of arrays to it and back."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.array_backend.selection import get_backend
from normcore.layout.namespace import Array
from normcore.testing.strategies import arrange

__all__ = ["BackendUnderTest"]


class BackendUnderTest:
    """What the laws of backends share.

    Attributes
    ----------
    backend : str or Backend
        The registered name, or an instance.
    dtypes : tuple
        The floating dtypes that the kernels take; integers are always drawn too.
    refuses_infinity : bool
        Whether kernels refuse infinite elements where they are asked to. A backend on a device may
        let them propagate instead, so as not to wait for the device.
    """

    backend: ClassVar[str | Backend]
    dtypes: ClassVar[tuple[str, ...]] = ("float64", "float32")
    refuses_infinity: ClassVar[bool] = True

    # -- what a subclass may override ------------------------------------------------------

    def to_native(self, array: np.ndarray) -> Array:
        """Return a NumPy array as the backend's own kind; override to keep strides.

        Parameters
        ----------
        array : array
            Of NumPy, of any strides and any dtype that laws draw.
        """
        return self.engine.adopt(array)

    def to_host(self, array: Array) -> np.ndarray:
        """Return one of the backend's arrays in NumPy.

        Parameters
        ----------
        array : array
            Of the backend.
        """
        return np.asarray(self.engine.release(array, np.empty(0)))

    # -- helpers ---------------------------------------------------------------------------

    @property
    def engine(self) -> Backend:
        """The backend under test."""
        return get_backend(self.backend) if isinstance(self.backend, str) else self.backend

    def _optional(self, plane: np.ndarray | None) -> Array:
        return None if plane is None else self.to_native(plane)

    def _poisoned(self, x: np.ndarray, layout: str = "C") -> Array:
        dtype = x.dtype if x.dtype.kind == "f" else np.float64
        layout = "C" if layout == "read-only" else layout
        return self.to_native(arrange(np.full(x.shape, -725.0, dtype=dtype), layout))
