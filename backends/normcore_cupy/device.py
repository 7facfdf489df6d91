"""What the host logic needs of a device: memory, copies, launches.

One implementation drives CuPy; the tests' implementation runs the same kernels on the CPU.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Mapping
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from normcore.layout.namespace import Array

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "ABSENT",
    "C_TYPES",
    "DERIVED",
    "FINISH",
    "FORWARD",
    "GIVEN",
    "MAP",
    "MOST_CHANNELS",
    "RUNNING",
    "VIEW",
    "WANTED",
    "Device",
    "Scalar",
    "placed",
    "source",
    "view",
]

#: The struct ``View`` of common.cuh, by value: an address, an (N, C, S) shape and strides in
#: elements. A plane (N, S) is a view whose channels have stride 0; an address of 0 means absent.
VIEW = np.dtype([(name, np.int64) for name in ("data", "n", "c", "s", "sn", "sc", "ss")])

#: The struct ``Finish``: parts of ranges and groups of them, and what blocks count themselves in.
FINISH = np.dtype([(name, np.int64) for name in ("parts", "counters", "group", "groups")])

#: The struct ``Given``: a vector's address and bytes an element, or 0 bytes and a number.
GIVEN = np.dtype([("data", np.int64), ("kind", np.int64), ("value", np.float64)])

#: The struct ``Wanted``: a vector for the caller, likewise; of 0 bytes, nobody wants it.
WANTED = np.dtype([("data", np.int64), ("kind", np.int64)])

#: The struct ``Running``: averages, and what they become; the weight of a batch, or the address of
#: the number of batches, with which this one counts already or is to be counted.
RUNNING = np.dtype(
    [
        ("mean", GIVEN), ("var", GIVEN), ("moved_mean", WANTED), ("moved_var", WANTED),
        ("ddof", np.float64), ("weight", np.float64), ("number", np.int64), ("counts", np.int64),
    ]
)  # fmt: skip

#: The struct ``Derived``: where to write what moments give, or nowhere.
DERIVED = np.dtype(
    [
        ("rows", np.int64), ("gamma", GIVEN), ("beta", GIVEN), ("eps", np.float64),
        ("running", RUNNING),
    ]
)  # fmt: skip

#: The struct ``Coefficients``: those of a map, or the variance in place of the scale; how many
#: neighbours share center and scale, and after how many channels gamma and beta recur, both of 32
#: bits.
MAP = np.dtype(
    [
        ("center", GIVEN), ("scale", GIVEN), ("gamma", GIVEN), ("beta", GIVEN),
        ("eps", np.float64), ("var", np.int64), ("group", np.int64), ("number", np.int64),
    ]
)  # fmt: skip

#: What channels can be told apart by there: the largest number of them.
MOST_CHANNELS = (1 << 32) - 1

#: The struct ``Forward``: the forward pass whose gradients are summed.
FORWARD = np.dtype(
    [
        ("mean", np.int64), ("maps", np.int64), ("state", np.int64), ("gamma", GIVEN),
        ("beta", GIVEN), ("eps", np.float64), ("relu", np.int32), ("training", np.int32),
        ("dgamma", WANTED), ("dbeta", WANTED),
    ]
)  # fmt: skip

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

    def counters(self, count: int) -> Array:
        """Return at least this many int32 zeros, for a kernel that leaves zeros behind.

        Blocks count themselves in them, and the last one to be done finishes the work. They are
        of the caller's stream, whose kernels run one after another; one that a graph holds gets
        its own.
        """

    def place(self) -> Hashable:
        """Return what memory that is kept between calls is kept for: a device and a stream."""

    def kept(self, made: Mapping[Hashable, Array]) -> Array:
        """Return what was made for this place before, or None.

        While a graph is captured, what was made for any stream of the device: capture begins with
        all work done.
        """

    def asarray(self, array: Array) -> Array:
        """Return a host array as a device array; a device array as it is."""

    def to_host(self, array: Array) -> np.ndarray:
        """Return a device array as a NumPy array, once all work on it is done."""

    def pointer(self, array: Array) -> int:
        """Return the address of a device array's first element."""

    def load(self, kernel: str, dtypes: tuple[str, str], together: bool = False) -> None:
        """Have a kernel ready, so that no launch of it has to load its code."""

    def launch(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: tuple[Scalar, ...],
        together: bool = False,
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
        together : bool, optional
            Whether blocks wait for each other, so that all must be on the device at once: no more
            than :meth:`resident_blocks` says.
        """

    def resident_blocks(self, kernel: str, dtypes: tuple[str, str], num_threads: int) -> int:
        """Return how many blocks of a kernel the device holds at once; 0 if none can wait."""

    def cache_bytes(self) -> int:
        """Return the size of the cache that all blocks share."""


#: What all texts begin with, files of kernels, and what a file needs beside the heads.
_HEADS = ("common", "merging", "state")
_FILES = (
    "moment_ranges", "moments", "summaries", "extrema", "brackets", "selection", "rescale",
    "rescale_given", "backward", "normalize", "row_moments", "rows", "rows_backward",
)  # fmt: skip
_BELOW = {
    "moments": ("moment_ranges",), "rescale_given": ("rescale",),
    "normalize": ("moment_ranges", "moments", "rescale", "backward"), "rows": ("row_moments",),
    "rows_backward": ("row_moments", "rows"),
}  # fmt: skip


_KERNEL = re.compile(
    r'extern "C" __global__ void(?: __launch_bounds__\([^)]*\))?\s+(\w+)\(.*?\n\}\n', re.DOTALL
)


@functools.cache
def source(kernel: str | None = None) -> str:
    """Return the CUDA C++ text that a kernel is compiled from; of all kernels by default.

    It holds no other kernel, so that what compiles when it is first needed is as little as may be.
    """
    texts = {
        name: files(__package__).joinpath(f"{name}.cuh").read_text("utf-8")
        for name in (*_HEADS, *_FILES)
    }
    chosen = [name for name in _FILES if kernel is None or f"\n{kernel}(" in texts[name]]
    if not chosen:
        raise ValueError(f"there is no kernel {kernel!r}")
    if kernel is not None:
        chosen = [*_BELOW.get(chosen[0], ()), chosen[0]]
        for name in chosen:
            texts[name] = _KERNEL.sub(lambda m: m[0] if m[1] == kernel else "", texts[name])
    return "\n".join(texts[name] for name in (*_HEADS, *chosen))


def view(device: Device, array: Array, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    """Return the :data:`VIEW` of an (N, C, S) array or an (N, S) plane; of None, an absent one.

    Parameters
    ----------
    axes : (0, 1) or (1, 0)
        Which axis of positions counts as N and which as S.
    """
    if array is None:
        return ABSENT
    result = placed(array.shape, array.strides, array.dtype.itemsize, axes).copy()
    result["data"] = device.pointer(array)
    return result


#: The view of None.
ABSENT = np.zeros((), dtype=VIEW)


@functools.lru_cache(maxsize=4096)
def placed(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, axes: tuple[int, int]
) -> np.ndarray:
    """Return a view without its address."""
    outer, inner = (0, len(shape) - 1) if axes == (0, 1) else (len(shape) - 1, 0)
    steps = [stride // itemsize for stride in strides]
    channels = (shape[1], steps[1]) if len(shape) == 3 else (1, 0)
    result = np.zeros((), dtype=VIEW)
    result[()] = (
        0, shape[outer], channels[0], shape[inner], steps[outer], channels[1], steps[inner],
    )  # fmt: skip
    return result
