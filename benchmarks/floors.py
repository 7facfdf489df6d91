"""What memory allows: a sweep that reads every byte of an array, and a copy into another.

The sweep reduces the array to one word with a bitwise or, whose cost no value changes and which
NumPy runs at the speed of memory; the copy is the C library's memmove, which stores around the
caches where that pays. Both use as many threads as normcore, each on one piece, the caller taking
a share; below a size at which waking a thread costs more than it saves, the caller works alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

__all__ = ["copy", "fresh_copy", "read"]

#: Bytes below which one thread is faster than two: measured, 4 MB are and 16 MB are not.
ALONE = 8 << 20


def read(x: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call that reads the memory of an array once."""
    words = _flat(x).view(np.int64 if x.nbytes % 8 == 0 else np.int32)
    pieces = np.array_split(words, _parts(x, threads))
    return lambda: _spread(np.bitwise_or.reduce, [(piece,) for piece in pieces])


def copy(x: np.ndarray, out: np.ndarray, threads: int) -> Callable[[], Any]:
    """Return a call that copies the memory of an array into another one of the same order."""
    both = zip(x.shape, x.strides, out.strides, strict=True)
    assert all(one == other for size, one, other in both if size > 1)
    parts = _parts(x, threads)
    sources, targets = (np.array_split(_flat(each), parts) for each in (x, out))
    pieces = [
        (target.ctypes.data, source.ctypes.data, source.nbytes)
        for source, target in zip(sources, targets, strict=True)
    ]

    def call() -> np.ndarray:
        _spread(ctypes.memmove, pieces)
        return out

    return call


def fresh_copy(x: np.ndarray) -> Callable[[], Any]:
    """Return ``X.copy()``, which allocates: what a fresh result has to be compared with."""
    return lambda: x.copy(order="K")


def _flat(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(-1, order="A")
    assert np.shares_memory(flat, x)
    return flat


def _parts(x: np.ndarray, threads: int) -> int:
    return threads if x.nbytes >= ALONE else 1


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "floors")


def _spread(function: Callable[..., Any], pieces: list[tuple[Any, ...]]) -> list[Any]:
    """Call a function that releases the GIL on each piece, all at once; returns the results."""
    others = pieces[1:]
    futures = [_pool(len(others)).submit(function, *piece) for piece in others]
    return [function(*pieces[0]), *(future.result() for future in futures)]
