"""Norms of samples in terms of a backend's other kernels, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.formulas import batch_scale, gradient_vectors
from normcore.layout.bfloat16 import cast
from normcore.layout.namespace import Array, array_namespace
from normcore.layout.out_argument import result_dtype
from normcore.statistics import Moments

if TYPE_CHECKING:
    from normcore.array_backend.abstract import Backend

__all__ = ["normalize_rows", "normalize_rows_backward"]


def normalize_rows(
    backend: Backend, x: Array, gamma: Array, beta: Array, eps: float, *, centered: bool, out: Array
) -> tuple[Array, Moments]:
    """Do what :meth:`normcore.Backend.normalize_rows` says."""
    xp = array_namespace(x)
    moments = backend.moments(x[None, ...])  # the view (1, N, D): each sample is a channel
    rows = _affine(moments, eps, centered)
    affine = Affine(gamma=gamma, beta=beta)
    result = _Result(x, out)
    for part in _blocks(x):
        block = cast(x[part, ...], xp.float64)[None, ...]  # so that only the end rounds
        xhat = backend.rescale(block, rows.select(part))[0, ...]
        y = backend.rescale(xhat[:, :, None], affine)[:, :, 0]
        result.put(part, y)
    return result.whole(), moments


def normalize_rows_backward(
    backend: Backend,
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array,
    eps: float,
    *,
    centered: bool,
    out: Array,
) -> tuple[Array, Array, Array]:
    """Do what :meth:`normcore.Backend.normalize_rows_backward` says."""
    xp = array_namespace(x)
    rows = _affine(moments, eps, centered)
    affine = Affine(gamma=gamma)
    num_columns = x.shape[1]
    zero = xp.zeros(num_columns, dtype=xp.float64)
    dgamma, dbeta = zero, zero
    result = _Result(x, out)
    for part in _blocks(x):
        center, scale = rows.select(part).vectors(x[part, ...].shape[0], xp)[:2]
        block, gradient = (cast(each[part, ...], xp.float64) for each in (x, dy))
        xhat = backend.rescale(block[None, ...], rows.select(part))[0, ...]
        sum_dy, sum_dy_xhat = backend.backward_reduce(gradient[:, :, None], xhat[:, :, None], zero)
        dgamma, dbeta = dgamma + sum_dy_xhat, dbeta + sum_dy
        gradient = backend.rescale(gradient[:, :, None], affine)[None, :, :, 0]
        sum_g, sum_g_xmu = backend.backward_reduce(gradient, block[None, ...], center)
        a, b, d = gradient_vectors(1.0, scale, sum_g, sum_g_xmu, num_columns)
        b = b if centered else xp.zeros_like(b)
        dx = backend.backward_elemt(gradient, block[None, ...], center, a, b, d)
        result.put(part, dx[0, ...])
    return result.whole(), dgamma, dbeta


class _Result:
    """What is made of the blocks of ``x``, in ``out`` or in an array in the memory order of ``x``.

    Blocks are put together at the end where a library's arrays cannot be written.
    """

    def __init__(self, x: Array, out: Array) -> None:
        self.xp = array_namespace(x)
        self.out = self.xp.empty_like(x, dtype=result_dtype(x)) if out is None else out
        self.blocks: list[Array] = []

    def put(self, part: slice, values: Array) -> None:
        """Take the float64 values of a block, in the order of the rows."""
        block = cast(values, self.out.dtype)
        if not self.blocks:
            try:
                self.out[part, ...] = block
                return
            except TypeError:
                pass
        self.blocks.append(block)

    def whole(self) -> Array:
        """Return all of it."""
        return self.xp.concat(self.blocks) if self.blocks else self.out


def _affine(moments: Moments, eps: float, centered: bool) -> Affine:
    """Return the map of each row by its own statistics."""
    with np.errstate(all="ignore"):  # what is not finite propagates
        mean = moments.mean
        if centered:
            return Affine(center=mean, scale=batch_scale(moments, eps))
        return Affine(center=mean * 0.0, scale=(moments.var() + mean**2 + eps) ** 0.5)


def _blocks(x: Array) -> Iterator[slice]:
    """Split rows so that a float64 temporary stays in a cache."""
    step = max(1, (1 << 16) // max(x.shape[1], 1))
    rows = x.shape[0]
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
