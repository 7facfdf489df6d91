"""What a result is written to: its dtype, and whether an ``out`` fits it."""

from __future__ import annotations

import functools
from functools import partial
from itertools import combinations
from types import ModuleType

import numpy as np

from normcore.layout import numpy_views
from normcore.layout.bfloat16 import is_floating
from normcore.layout.namespace import Array, DType, address, array_namespace, is_strided

__all__ = [
    "check_out",
    "is_same",
    "kind_of",
    "may_overlap",
    "no_memory_error",
    "overlap",
    "refuse_partial_overlap",
    "refuse_shared_memory",
    "result_dtype",
    "result_like",
]


def result_dtype(x: Array) -> DType:
    """Return the dtype of a normalized ``x``: floats keep theirs, the others become float64."""
    if numpy_views.is_floats(x):
        return x.dtype
    xp = array_namespace(x)
    if xp is np:
        return x.dtype.newbyteorder("=") if is_floating(x.dtype) else np.dtype(np.float64)
    return _dtype_of_result(xp, x.dtype)


@functools.lru_cache(maxsize=256)
def _dtype_of_result(xp: ModuleType, dtype: DType) -> DType:
    if str(dtype).endswith("bfloat16"):  # a float that NumPy's own isdtype does not know
        return dtype
    return dtype if xp.isdtype(dtype, "real floating") else xp.float64


def result_like(x: Array) -> Array:
    """Return a fresh array for a result, in the memory order of ``x``."""
    xp = array_namespace(x)
    empty_like = partial(np.empty_like, subok=False) if xp is np else xp.empty_like
    try:
        return empty_like(x, dtype=result_dtype(x))
    except MemoryError as error:
        raise no_memory_error(error) from error


def no_memory_error(error: MemoryError) -> MemoryError:
    """Return the error of a result that does not fit into memory, with what to do."""
    return MemoryError(
        f"no memory for the result: {error}. Pass out=, or the data in parts; a NumPy array with "
        "backend= a device's is worked on in chunks"
    )


def check_out(out: Array, x: Array) -> None:
    """Refuse an ``out`` that cannot hold the normalized ``x``.

    Raises
    ------
    ValueError
        If it has another shape or memory order than ``x``, is read-only, or overlaps itself.
    TypeError
        If it is not an array of the kind of ``x`` and the result's dtype.
    """
    both = isinstance(out, np.ndarray) and isinstance(x, np.ndarray)
    if not both and type(out) is not type(x) and not isinstance(out, type(x)):
        raise TypeError(f"out must be a {kind_of(x)} like the input, not a {kind_of(out)}")
    if tuple(out.shape) != tuple(x.shape):
        raise ValueError(f"out has shape {tuple(out.shape)}, but the input has {tuple(x.shape)}")
    if out.dtype != result_dtype(x):
        raise TypeError(f"out has dtype {out.dtype}, but the result has {result_dtype(x)}")
    if isinstance(out, np.ndarray):
        if not out.flags.writeable:
            raise ValueError("out is read-only")
        if not (out.flags.c_contiguous and x.flags.c_contiguous):
            _refuse_another_order(out, x)
            _refuse_overlap_with_itself(out)
    elif is_strided(out) and out.strides != x.strides:
        _refuse_overlap_with_itself(out)


def refuse_partial_overlap(out: Array, *arrays: Array) -> None:
    """Refuse an ``out`` that shares some of its memory with an array, but is not the array."""
    if any(_overlaps_in_part(out, array) for array in arrays):
        raise ValueError("out overlaps the input in part; pass the input itself or another one")


def refuse_shared_memory(out: Array, **operands: Array) -> None:
    """Refuse an ``out`` that shares memory with what is read beside the input, by its name."""
    for name, operand in operands.items():
        if isinstance(out, np.ndarray) and not may_overlap(out, operand):
            continue
        if overlap(out, operand):
            raise ValueError(
                f"out overlaps {name}, which is read while out is written; pass another array"
            )


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share memory, or might."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        if a is b or type(a) is not type(b):
            return a is b
        if not is_strided(a) or address(a) is None:
            may_share = getattr(array_namespace(a), "may_share_memory", None)
            return may_share is not None and bool(may_share(a, b))
        a, b = _as_if_on_host(a), _as_if_on_host(b)
    try:
        return bool(np.shares_memory(a, b, max_work=100_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def may_overlap(a: Array, b: Array) -> bool:
    """Whether NumPy arrays might share memory, by where they begin and end; False for others."""
    both = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return both and np.may_share_memory(a, b)


class _Memory:
    """Where the elements of an array lie, as NumPy's interface wants it."""

    def __init__(self, array: Array) -> None:
        self.__array_interface__ = {
            "version": 3, "shape": tuple(array.shape), "strides": array.strides,
            "typestr": f"|V{array.dtype.itemsize}", "data": (address(array), True),
        }  # fmt: skip


def _as_if_on_host(array: Array) -> np.ndarray:
    """Return a NumPy array with the addresses of a device's: to compare, never to read."""
    return np.asarray(_Memory(array))


def is_same(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape are the same memory, element by element."""
    return a is b or (
        type(a) is type(b)
        and is_strided(a)
        and a.strides == b.strides
        and a.dtype.itemsize == b.dtype.itemsize
        and address(a) == address(b) is not None
    )


def _refuse_another_order(out: np.ndarray, x: np.ndarray) -> None:
    """Refuse an array whose axes follow each other otherwise: it would be walked across."""
    axes = [axis for axis in range(x.ndim) if x.shape[axis] > 1]
    for i, j in combinations(axes, 2):
        in_x, in_out = (abs(each.strides[i]) - abs(each.strides[j]) for each in (x, out))
        broadcast = 0 in (x.strides[i], x.strides[j])
        if in_x * in_out < 0 and not broadcast:
            raise ValueError(
                f"out has another memory order than the input: its strides are {out.strides}, "
                f"those of the input {x.strides}; np.empty_like(x) makes one that fits"
            )


def _refuse_overlap_with_itself(out: Array) -> None:
    if _overlaps_itself(out):
        raise ValueError(
            f"out overlaps itself: with strides {out.strides} some of its elements share memory, "
            "so it cannot hold them all; empty_like(x) makes one that can"
        )


def _overlaps_itself(array: Array) -> bool:
    """Whether elements of an array share memory, as those of a broadcast one do."""
    axes = sorted(
        (abs(stride), size)
        for stride, size in zip(array.strides, array.shape, strict=True)
        if size > 1
    )
    if not array.size or not axes:
        return False
    end = array.itemsize
    for stride, size in axes:
        if stride < end:
            break
        end += stride * (size - 1)
    else:
        return False
    if axes[0][0] == 0:
        return True
    starts = np.zeros(1, np.int64)  # interleaved axes: look at all
    for stride, size in axes:
        starts = np.add.outer(starts, np.arange(size) * stride).ravel()
    starts.sort()
    return bool(np.any(np.diff(starts) < array.itemsize))


def kind_of(array: Array) -> str:
    """Return the full name of the type of an array."""
    return f"{type(array).__module__}.{type(array).__qualname__}"


def _overlaps_in_part(out: Array, array: Array) -> bool:
    if isinstance(out, np.ndarray) and not may_overlap(out, array):
        return False
    return not is_same(out, array) and overlap(out, array)
