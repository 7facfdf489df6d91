"""Normalizations on Keras's torch backend: PyTorch's channels are on the second axis."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

from normcore.batchnorm.arguments import check_eps
from normcore.torch import functional, running_statistics
from normcore.torch.batch_operators import batch_norm as normalized_batch
from normcore.torch.precision import choice

__all__ = ["OfTensors"]

_Vectors: TypeAlias = tuple[Tensor | None, Tensor | None]


class OfTensors:
    """Operations as :class:`normcore.keras.operations.OfArrays` says."""

    def batch_norm(
        self, x: Tensor, vectors: _Vectors, axis: int, eps: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, mean and variance."""
        if mask is not None:
            return self._masked(x, vectors, axis, eps, mask)
        view = _channels_second(x, axis)
        if not eps >= 0:  # Dynamo does not enter the core's check
            check_eps(eps)
        # PyTorch refuses an eps of 0, which Keras takes.
        functional.check_batch(view, None, None, *vectors, eps or 1.0)
        y, parts = normalized_batch(view, *vectors, eps, "", *choice(None, view))
        # Where a new batch has all the weight, these become its own mean and unbiased variance.
        mean = torch.zeros(x.shape[axis], dtype=torch.float64, device=x.device)
        var = torch.zeros_like(mean)
        running_statistics.update(parts, mean, var, None, 1.0)
        count = view.shape[0] * view.shape[2]
        return y.reshape(x.shape), mean, var * ((count - 1) / max(count, 1))

    def _masked(
        self, x: Tensor, vectors: _Vectors, axis: int, eps: float, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = x.movedim(axis, -1)
        counted = rows[mask]
        y, mean, var = self.batch_norm(counted, vectors, 1, eps, None)
        # What is masked has gradients through the statistics, too.
        of_var, of_mean = torch.var_mean(counted.double(), 0, correction=0)
        others = (rows[~mask].double() - of_mean) * torch.rsqrt(of_var + eps)
        gamma, beta = vectors
        others = others if gamma is None else others * gamma
        others = others if beta is None else others + beta
        result = torch.empty_like(rows)
        result[mask], result[~mask] = y, others.to(x.dtype)
        return result.movedim(-1, axis), mean, var

    def batch_norm_inference(
        self, x: Tensor, mean: Tensor, var: Tensor, vectors: _Vectors, axis: int, eps: float
    ) -> Tensor:
        """Normalize with given statistics."""
        view = _channels_second(x, axis)
        return functional.batch_norm(view, mean, var, *vectors, eps=eps).reshape(x.shape)

    def row_norm(
        self, x: Tensor, vectors: _Vectors, num_axes: int, eps: float, centered: bool
    ) -> Tensor:
        """Return the layer norm or the RMS norm."""
        shape = x.shape[x.ndim - num_axes :]
        if centered:
            return functional.layer_norm(x, shape, *vectors, eps)
        y: Tensor = functional.rms_norm(x, shape, vectors[0], eps)  # no residual, no sum
        return y

    def group_norm(
        self, x: Tensor, num_groups: int, vectors: _Vectors, axis: int, eps: float
    ) -> Tensor:
        """Normalize groups of channels of each sample."""
        view = x.movedim(axis, 1)
        return functional.group_norm(view, num_groups, *vectors, eps).movedim(1, axis)


def _channels_second(x: Tensor, axis: int) -> Tensor:
    """Return (N, C, S): a view, or a copy of what is not in order."""
    sizes, axis = tuple(x.shape), axis % x.ndim
    return x.reshape(math.prod(sizes[:axis]), sizes[axis], math.prod(sizes[axis + 1 :]))
