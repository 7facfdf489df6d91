"""Moments of many channels of equally many values, in little more than half the memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from normcore.statistics.moments import Moments
from normcore.statistics.statistic import Channels

__all__ = ["MomentsOfEqualCounts"]

# Rows of a state: counts in two parts; then what is kept of each channel; and the exponent.
_COUNTS, _SUMS, _EXPONENT = slice(0, 2), slice(2, 6), 6


class MomentsOfEqualCounts(Moments):
    """Moments of channels that have `count` values each; :attr:`parts` is made when asked for.

    Group norm of many small groups would otherwise fill more memory than its input does with
    counts that are all the same, and exponents that are 0.

    Parameters
    ----------
    count : float
    num_channels : int
        What they have :meth:`put` tells.
    """

    __slots__ = ("_count", "_sums", "_whole")

    def __init__(self, count: float, num_channels: int) -> None:
        self.wide = None
        self._count = count
        self._sums = np.zeros((_EXPONENT - _SUMS.start, num_channels))
        self._whole: np.ndarray | None = None

    def __reduce__(self) -> tuple[Callable[..., Moments], tuple[np.ndarray]]:
        return Moments, (self.parts,)

    def put(self, first: int, moments: Moments) -> None:
        """Set the moments of the channels from the first one on."""
        parts = moments.parts
        channels = slice(first, first + parts.shape[1])
        plain = np.all(parts[0] == self._count) and not (parts[1].any() or parts[_EXPONENT].any())
        if self._whole is None and plain:
            self._sums[:, channels] = parts[_SUMS]
            return
        self._whole = self.parts
        self._whole[:, channels] = parts

    @property
    def parts(self) -> np.ndarray:
        """State of all channels, of shape (7, C)."""
        return self._expanded(slice(None)) if self._whole is None else self._whole

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return self._sums.shape[1]

    def select(self, channels: Channels) -> Moments:  # type: ignore[override]
        """Return the moments of some channels."""
        whole = self._whole
        return Moments(self._expanded(channels) if whole is None else whole[:, channels])

    def merge(self, other: Moments) -> Moments:  # type: ignore[override]
        """Return the moments of both."""
        return Moments(self.parts).merge(other)

    def _expanded(self, channels: Channels) -> np.ndarray:
        sums = self._sums[:, channels]
        parts = np.zeros((_EXPONENT + 1, sums.shape[1]))
        parts[0], parts[_SUMS] = self._count, sums
        return parts
