"""The CPU backend in native precision: float32 arrays that the caches hold, in float32."""

from __future__ import annotations

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.abstract import Backend
from normcore.statistics import Moments
from normcore_cpu.backend import CpuBackend, along_rows

__all__ = ["NativeCpuBackend"]

_FLOAT32 = np.dtype(np.float32)

#: Elements of a batch that the last-level cache holds; exact kernels wait for memory, as all would.
_MOST_ELEMENTS = 1 << 23
#: Channels, fewer of which fill no vectors, unless positions are packed as exact kernels do.
_FEWEST_CHANNELS = 16
#: Values of a channel or of a row from which on one thread would have all of them.
_MOST_VALUES = 1 << 18


class NativeCpuBackend(CpuBackend):
    """Plain float64 sums and elements in float32; the same bits for any threads and strides.

    What is not float32, and what has a mask or an activation, is computed exactly, and so are
    arrays for which that is as fast. Of one sample that depends on its own shape alone.
    """

    @property
    def native(self) -> Backend:
        return self

    def moments(
        self, x: np.ndarray, *, weights: np.ndarray | None = None, skipna: bool = False
    ) -> Moments:
        if weights is not None or skipna or not _are_float32(x) or not _has_short_channels(x):
            return super().moments(x, weights=weights, skipna=skipna)
        return Moments(self._kernels.native_moments(x))

    def moments_apart(self, x: np.ndarray) -> Moments:
        if not _are_float32(x) or not _has_short_channels(x):
            return super().moments_apart(x)
        return self.moments(x)

    def rescale(
        self,
        x: np.ndarray,
        affine: Affine,
        *,
        clip: tuple[float, float] | None = None,
        activation: str | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
        refuse_infinite: bool = False,
    ) -> np.ndarray:
        plain = clip is None and activation is None and mask is None and not refuse_infinite
        if not plain or not _are_float32(x, out):
            return super().rescale(
                x,
                affine,
                clip=clip,
                activation=activation,
                mask=mask,
                out=out,
                refuse_infinite=refuse_infinite,
            )
        y: np.ndarray = self._kernels.native_rescale(x, affine.coefficients(x.shape[1]), out)
        return y

    def backward_reduce(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        mean: np.ndarray,
        *,
        relu_mask: Affine | None = None,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        plain = relu_mask is None and mask is None and _are_float32(dy, x)
        if not plain or not _has_short_channels(x):
            return super().backward_reduce(dy, x, mean, relu_mask=relu_mask, mask=mask)
        sum_dy, sum_dy_xmu = self._kernels.native_backward_reduce(dy, x, mean)
        return sum_dy, sum_dy_xmu

    def backward_elemt(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        mean: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        d: np.ndarray,
        *,
        relu_mask: Affine | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        if relu_mask is not None or mask is not None or not _are_float32(dy, x, out):
            return super().backward_elemt(
                dy, x, mean, a, b, d, relu_mask=relu_mask, mask=mask, out=out
            )
        vectors = np.empty((4, x.shape[1]))
        for row, values in zip(vectors, (mean, a, b, d), strict=True):
            row[...] = values
        dx: np.ndarray = self._kernels.native_backward_elemt(dy, x, vectors, out)
        return dx

    def normalize(
        self,
        x: np.ndarray,
        gamma: np.ndarray | float,
        beta: np.ndarray | float,
        eps: float,
        *,
        activation: str | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Moments]:
        if activation is not None or mask is not None or not _fit_caches(x, out):
            return super().normalize(x, gamma, beta, eps, activation=activation, mask=mask, out=out)
        y, parts = self._kernels.native_normalize(x, gamma, beta, eps, out)
        return y, Moments(parts)

    def normalize_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        moments: Moments,
        gamma: np.ndarray | float,
        beta: np.ndarray | float,
        eps: float,
        *,
        training: bool = True,
        activation: str | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Given statistics leave a sample by itself, whatever the size of the batch.
        suits = _fit_caches(x, dy, out) if training else _are_float32(x, dy, out)
        if activation is not None or mask is not None or not suits:
            return super().normalize_backward(
                dy,
                x,
                moments,
                gamma,
                beta,
                eps,
                training=training,
                activation=activation,
                mask=mask,
                out=out,
            )
        gradients: tuple[np.ndarray, np.ndarray, np.ndarray] = (
            self._kernels.native_normalize_backward(dy, x, moments.parts, gamma, eps, training, out)
        )
        return gradients

    def normalize_rows(
        self,
        x: np.ndarray,
        gamma: np.ndarray | float,
        beta: np.ndarray | float,
        eps: float,
        *,
        centered: bool = True,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Moments]:
        if x.shape[1] > _MOST_VALUES or not _are_float32(x, out):
            return super().normalize_rows(x, gamma, beta, eps, centered=centered, out=out)
        if out is None:
            out = np.empty_like(x, subok=False)
        gamma, beta = along_rows(gamma, x), along_rows(beta, x)
        return out, Moments(self._kernels.native_normalize_rows(x, gamma, beta, out, eps, centered))

    def normalize_rows_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        moments: Moments,
        gamma: np.ndarray | float,
        eps: float,
        *,
        centered: bool = True,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if x.shape[1] > _MOST_VALUES or not _are_float32(dy, x, out):
            return super().normalize_rows_backward(
                dy, x, moments, gamma, eps, centered=centered, out=out
            )
        if out is None:
            out = np.empty_like(dy, subok=False)
        gamma = along_rows(gamma, x)
        states = np.ascontiguousarray(moments.parts, dtype=np.float64)
        dgamma, dbeta = self._kernels.native_normalize_rows_backward(
            dy, x, states, gamma, out, eps, centered
        )
        return out, dgamma, dbeta


def _are_float32(*arrays: np.ndarray | None) -> bool:
    return all(each is None or each.dtype == _FLOAT32 for each in arrays)


def _has_short_channels(x: np.ndarray) -> bool:
    """Whether channels have few values; their number, which may be samples', does not count."""
    return bool(x.shape[0] * x.shape[2] <= _MOST_VALUES)


def _fit_caches(x: np.ndarray, *others: np.ndarray | None) -> bool:
    """Whether a batch is for the native kernels; its shape decides, not how it lies in memory."""
    return (
        x.size <= _MOST_ELEMENTS
        and x.shape[1] >= _FEWEST_CHANNELS
        and _has_short_channels(x)
        and _are_float32(x, *others)
    )
