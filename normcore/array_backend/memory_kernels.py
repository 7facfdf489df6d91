"""Normalizations of what another library holds in host memory, without arrays of it."""

from __future__ import annotations

from typing import Protocol

from normcore.layout.namespace import Array

__all__ = ["MemoryKernels"]


class MemoryKernels(Protocol):
    """What a backend of the host may have beside its methods: a shorter way for small batches.

    Arrays are of any library that tells where their memory lies (`normcore.layout.memory`), of
    floating point. The second axis is the channels', the first one counts samples. Results are
    written to memory that the caller brings: ``out``, and ``parts``, float64, for the state of
    moments; vectors of their own dtype. Nothing is written unless all of it is, and what is
    returned says whether it was. If not, the backend's methods do it, or say what is wrong; the
    results have the same bits.
    """

    def batch_norm(
        self, x: Array, gamma: Array, beta: Array, eps: float, out: Array, parts: Array
    ) -> bool:
        """Normalize each channel with its own moments."""

    def batch_norm_backward(
        self,
        dy: Array,
        x: Array,
        statistics: Array,
        gamma: Array,
        eps: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> bool:
        """Find the gradients, of moments (7, C) of `x`, or of a given mean and variance (2, C)."""

    def batch_norm_inference(
        self, x: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float, out: Array
    ) -> bool:
        """Normalize each channel with given statistics."""

    def update_running(
        self, parts: Array, mean: Array, var: Array, number: Array, weight: float
    ) -> bool:
        """Move running statistics towards those of a batch, and count it in ``number``, if any.

        A weight of NaN stands for the average of all batches.
        """

    def row_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        out: Array,
        parts: Array,
    ) -> bool:
        """Normalize each sample, which the last axes are: layer norm, or RMS norm uncentered."""

    def row_norm_backward(
        self,
        dy: Array,
        x: Array,
        parts: Array,
        gamma: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> bool:
        """Find the gradients; that of beta where ``dbeta`` is not None."""

    def group_norm(
        self, x: Array, gamma: Array, beta: Array, groups: int, eps: float, out: Array, parts: Array
    ) -> bool:
        """Normalize groups of channels of each sample."""

    def group_norm_backward(
        self,
        dy: Array,
        x: Array,
        parts: Array,
        gamma: Array,
        groups: int,
        eps: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> bool:
        """Find the gradients."""
