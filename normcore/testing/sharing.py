"""Threads that share what is tested, and get in each other's way where they can."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from normcore.layout.namespace import Array

__all__ = ["assert_shared"]


def assert_shared(
    function: Callable[[Array], Sequence[np.ndarray]], inputs: Sequence[Array]
) -> None:
    """Assert that a function gives each input what it gives alone while threads call it."""
    alone = [_bytes(function(each)) for each in inputs]
    order = [index % len(inputs) for index in range(6 * len(inputs))]
    with _impatient(), ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: _bytes(function(inputs[index])), order))
    for index, result in zip(order, results, strict=True):
        assert result == alone[index], (
            "threads that share it disturb each other: what belongs to one call must be in local "
            "variables, not in self"
        )


def _bytes(arrays: Sequence[np.ndarray]) -> list[bytes]:
    return [each.tobytes() for each in arrays]


@contextmanager
def _impatient() -> Iterator[None]:
    """Let Python switch between threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
