"""What the host logic needs of a device: memory, copies, launches.

One implementation drives CuPy; the tests' implementation runs the same kernels on the CPU.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from normcore.layout.namespace import Array

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["C_TYPES", "VIEW", "Device", "Scalar", "source", "view"]

#: The struct ``View`` of common.cuh, by value: an address, an (N, C, S) shape and strides in
#: elements. A plane (N, S) is a view whose channels have stride 0; an address of 0 means absent.
VIEW = np.dtype([(name, np.int64) for name in ("data", "n", "c", "s", "sn", "sc", "ss")])

#: What the defines NC_T and NC_OUT of the kernels are for each dtype.
C_TYPES = {
    "float64": "double", "float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16",
    "int64": "long long", "int32": "int", "int16": "short", "int8": "signed char",
    "uint64": "unsigned long long", "uint32": "unsigned int", "uint16": "unsigned short",
    "uint8": "unsigned char", "bool": "bool",
}  # fmt: skip


#: What a kernel takes by value: a NumPy scalar or a 0-dimensional array.
Scalar: TypeAlias = np.generic | np.ndarray


class Device(Protocol):
    """Memory, copies and launches of one device.

    Device arrays belong to the implementation's library. The host logic uses their ``shape``,
    ``dtype``, ``strides`` (in bytes), ``transpose``, ``reshape`` and basic indexing, and assigns
    scalars and device arrays of any real dtype to slices of them. Everything but
    :meth:`to_host` is ordered on the caller's stream and does not wait for it.
    """

    #: Array-API namespace of its arrays, for arithmetic on vectors of length C.
    xp: ModuleType

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an uninitialized C-contiguous device array."""

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return a C-contiguous device array of zeros."""

    def asarray(self, array: Array) -> Array:
        """Return a host array as a device array; a device array as it is."""

    def to_host(self, array: Array) -> np.ndarray:
        """Return a device array as a NumPy array, once all work on it is done."""

    def pointer(self, array: Array) -> int:
        """Return the address of a device array's first element."""

    def launch(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Scalar, ...],
    ) -> None:
        """Launch a kernel that :func:`source` gives the text of.

        Parameters
        ----------
        kernel : str
            Name of the ``extern "C"`` function.
        dtypes : pair of str
            Names of the dtypes that the defines NC_T and NC_OUT stand for, of
            :data:`C_TYPES`.
        grid, block : triples of int
        args : tuple of Scalar
            Passed by value, ``arg.tobytes()`` each: int32 (``int``), int64 (``long long``, and
            addresses), float64, :data:`VIEW`. The arrays behind addresses stay referenced by
            the caller until the call returns; freeing them later must be stream-ordered.
        """


_FILES = ("moments", "extrema", "brackets", "affine")


@functools.cache
def source(kernel: str | None = None) -> str:
    """Return the CUDA C++ text that a kernel is compiled from; of all kernels by default.

    Kernels of one file share a text, and so a compilation for each pair of dtypes.
    """
    common, *texts = (
        files(__package__).joinpath(f"{name}.cuh").read_text("utf-8")
        for name in ("common", *_FILES)
    )
    chosen = [text for text in texts if kernel is None or f"\n{kernel}(" in text]
    if not chosen:
        raise ValueError(f"there is no kernel {kernel!r}")
    return "\n".join([common, *chosen])


def view(device: Device, array: Array, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    """Return the :data:`VIEW` of an (N, C, S) array or an (N, S) plane; of None, an absent one.

    Parameters
    ----------
    axes : (0, 1) or (1, 0)
        Which axis of positions counts as N and which as S.
    """
    result = np.zeros((), dtype=VIEW)
    if array is not None:
        outer, inner = (0, array.ndim - 1) if axes == (0, 1) else (array.ndim - 1, 0)
        shape = array.shape
        strides = [stride // array.dtype.itemsize for stride in array.strides]
        channels = (shape[1], strides[1]) if array.ndim == 3 else (1, 0)
        result[()] = (
            device.pointer(array), shape[outer], channels[0], shape[inner],
            strides[outer], channels[1], strides[inner],
        )  # fmt: skip
    return result
