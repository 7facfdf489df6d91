"""Device memory of the emulated device: poisoned, fenced, and checked."""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.lib.stride_tricks import as_strided

from cuda_host.build import SANITIZE

__all__ = ["Memory", "StrayWrite"]

# Bytes, more than a small slip leaps over; AddressSanitizer has red zones of its own.
_FENCE = 0 if SANITIZE else 16384
_FENCE_BYTE = 0xA7
# Bytes, as of a device's allocators; AddressSanitizer looks at where an allocation ends.
_ALIGNMENT = 0 if SANITIZE else 512
_POISONS = (0xFF, 0x5B, 0xC3)  # as float64: NaN, about 1e+131, about -1e+18


class StrayWrite(AssertionError):
    """A kernel wrote where no element of an array lies."""


class Memory:
    """Allocations with fences on both sides and in the gaps between elements."""

    def __init__(self) -> None:
        self._poisons = itertools.cycle(_POISONS)
        self._lock = threading.Lock()
        self._fenced: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
        self._gaps: dict[int, np.ndarray] = {}

    def empty(self, shape: Any, dtype: Any) -> np.ndarray:
        """Return a C-contiguous array of poison."""
        shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
        raw = self._allocate(math.prod(shape) * dtype.itemsize, next(self._poisons))
        return raw[_FENCE : raw.size - _FENCE].view(dtype).reshape(shape)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """Return a copy with the same strides, whose gaps are fences."""
        if array.size == 0:
            return self.empty(array.shape, array.dtype)
        low, high = byte_bounds(array)
        raw = self._allocate(high - low, _FENCE_BYTE)
        start = array.__array_interface__["data"][0] - low + _FENCE
        unused = np.ones(raw.size, dtype=bool)
        covered = as_strided(
            unused[start:], (*array.shape, array.itemsize), (*array.strides, 1), subok=False
        )
        covered[...] = False
        with self._lock:
            if unused.sum() > 2 * _FENCE:
                self._gaps[id(raw)] = np.flatnonzero(unused)
                weakref.finalize(raw, self._gaps.pop, id(raw), None)
        result = as_strided(
            raw[start : start + array.itemsize].view(array.dtype), array.shape, array.strides
        )
        result[...] = array
        return result

    def check(self) -> None:
        """Look at every fence.

        Raises
        ------
        StrayWrite
        """
        with self._lock:
            fenced = list(self._fenced.values())
        for raw in fenced:
            gaps = self._gaps.get(id(raw))
            fence = [raw[:_FENCE], raw[raw.size - _FENCE :]] if gaps is None else [raw[gaps]]
            if any((each != _FENCE_BYTE).any() for each in fence):
                raise StrayWrite("a kernel wrote outside of an array")

    def _allocate(self, size: int, poison: int) -> np.ndarray:
        total = size + 2 * _FENCE
        room = np.full(total + _ALIGNMENT, _FENCE_BYTE, dtype=np.uint8)
        start = -(room.__array_interface__["data"][0] + _FENCE) % _ALIGNMENT if _ALIGNMENT else 0
        # Not a view of the room, or what is made of it would not hold it.
        raw = np.frombuffer(memoryview(room)[start : start + total], np.uint8)
        raw[_FENCE : raw.size - _FENCE] = poison
        with self._lock:
            self._fenced[id(raw)] = raw
        return raw
