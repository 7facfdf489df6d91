"""What statistics ask of a backend: the kernels that observe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from normcore.layout.namespace import Array

if TYPE_CHECKING:
    from normcore.statistics.brackets import Brackets, Quantiles
    from normcore.statistics.extrema import Extrema
    from normcore.statistics.moments import Moments

__all__ = ["StatisticKernels"]


class StatisticKernels(Protocol):
    """The part of :class:`normcore.Backend` that observes ``(N, C, S)`` views."""

    def adopt(self, array: Array) -> Array:
        """Return an array as the backend's own."""

    def release(self, array: Array, like: Array) -> Array:
        """Return the backend's ``array`` as the kind of ``like``."""

    def moments(self, x: Array, *, weights: Array = None, skipna: bool = False) -> Moments:
        """Return the moments of each channel."""

    def extrema(self, x: Array, *, skipna: bool = False) -> Extrema:
        """Return the extrema of each channel."""

    def brackets(
        self, x: Array, lower: Array, upper: Array, *, weights: Array = None, skipna: bool = False
    ) -> Brackets:
        """Count what lies below, on and between two values of each channel."""

    def quantiles(
        self, x: Array, q: Array, *, weights: Array = None, skipna: bool = False
    ) -> Quantiles:
        """Return the exact quantiles of each channel."""
