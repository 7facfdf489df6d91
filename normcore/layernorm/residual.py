"""The sum that a block of a residual network normalizes and hands on."""

from __future__ import annotations

import numpy as np

from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.array_backend.selection import in_order_with
from normcore.batchnorm.arguments import BatchInput
from normcore.layout.namespace import Array, as_array
from normcore.layout.out_argument import result_dtype

__all__ = ["added"]


def added(x: Array, residual: Array, backend: str | Backend | None) -> Array:
    """Return ``x + residual``, rounded once to the dtype of results of `x`.

    Raises
    ------
    TypeError
        If that of `residual` is another one.
    ValueError
        If the shapes differ.
    """
    with in_order_with(x, backend):
        batch = BatchInput(x, backend)
        other = batch.backend.adopt(as_array(residual, what="residual", beside=batch.given))
        if tuple(other.shape) != tuple(batch.x.shape):
            raise ValueError(
                f"residual has shape {tuple(other.shape)}, but x has {tuple(batch.x.shape)}"
            )
        if result_dtype(other) != result_dtype(batch.x):
            raise TypeError(f"residual has dtype {other.dtype}, but x has {batch.x.dtype}")
        # The gradient's kernel adds: x - (-0.0 - (residual - 0.0)), signs of zeros included.
        zero, one, minus_zero, minus_one = (
            batch.backend.adopt(batch.beside(np.full(1, each))) for each in (0.0, 1.0, -0.0, -1.0)
        )

        def kernel(x: Array, residual: Array, **planes: Array) -> Array:
            return batch.backend.backward_elemt(
                x, residual, zero, one, minus_zero, minus_one, **planes
            )

        total = over_views.elementwise(kernel, None, batch.x, other)
        return batch.backend.release(total, batch.given)
