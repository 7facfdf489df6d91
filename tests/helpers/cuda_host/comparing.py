"""Results of a device, or of tensors that pose as its own, next to others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cuda_host.arrays import DeviceArray, unwrap

__all__ = ["assert_same", "on_host"]


def on_host(array: Any) -> np.ndarray:
    """Return a copy of an array of the device, or a tensor."""
    return np.array(unwrap(array)) if isinstance(array, DeviceArray) else array.numpy(force=True)


def assert_same(results: Sequence[Any], expected: Sequence[Any]) -> None:
    """Hold that arrays have the same kinds, dtypes, shapes, memory orders and bits."""
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        assert type(one) is type(other)
        one, other = on_host(one), on_host(other)
        assert (one.dtype, one.shape, one.strides) == (other.dtype, other.shape, other.strides)
        np.testing.assert_array_equal(one, other)
        if one.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(one), np.signbit(other))
