"""Extrema of channels: count, smallest and largest value."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from normcore.layout.namespace import Array, array_namespace, to_numpy
from normcore.statistics.statistic import (
    Channels,
    Statistic,
    check_count,
    refuse_channels,
    state_array,
    where_valid,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from normcore.statistics.kernels import StatisticKernels

__all__ = ["Extrema"]


class Extrema(Statistic):
    """Count, minimum and maximum of each channel.

    Parameters
    ----------
    count, min, max : float64 arrays of shape (C,)
        Where the count is 0, +inf and -inf, the neutral elements; they read as NaN.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> x = np.array([[1.0], [5.0], [3.0]])
    >>> extrema = nc.functional.extrema(x, channel_axis=1)
    >>> extrema.min, extrema.max, extrema.count
    (array([1.]), array([5.]), array([3.]))
    """

    __module__ = "normcore"
    __slots__ = ("_max", "_min", "count")
    name: ClassVar[str] = "extrema"

    def __init__(self, count: Array, min: Array, max: Array) -> None:
        self.count, self._min, self._max = count, min, max

    @classmethod
    def empty(cls, num_channels: int, xp: ModuleType = np) -> Self:
        """Return the extrema of no data; as for :meth:`Statistic.empty`."""
        zero = xp.zeros(num_channels, dtype=xp.float64)
        return cls(zero, zero + float("inf"), zero - float("inf"))

    @classmethod
    def observe(
        cls, backend: StatisticKernels, x: Array, *, weights: Array = None, skipna: bool = False
    ) -> Extrema:
        """Return the extrema of an ``(N, C, S)`` view; as for :meth:`Statistic.observe`.

        Raises
        ------
        TypeError
            If there are weights: extrema take none.
        """
        if weights is not None:
            raise TypeError("extrema take no weights")
        return backend.extrema(x, skipna=skipna)

    @property
    def num_channels(self) -> int:
        """The number of channels, C."""
        return int(self.count.shape[0])

    @property
    def min(self) -> Array:
        """Smallest value of each channel; NaN where the count is 0."""
        return where_valid(self.count > 0, self._min)

    @property
    def max(self) -> Array:
        """Largest value of each channel; NaN where the count is 0."""
        return where_valid(self.count > 0, self._max)

    def merge(self, other: Self) -> Self:
        """Return the extrema of both; as for :meth:`Statistic.merge`."""
        self._check_mergeable(other)
        xp = array_namespace(self.count)
        return type(self)(
            self.count + other.count,
            xp.minimum(self._min, other._min),
            xp.maximum(self._max, other._max),
        )

    def select(self, channels: Channels) -> Self:
        """Return the extrema of some of the channels; as for :meth:`Statistic.select`."""
        return type(self)(self.count[channels], self._min[channels], self._max[channels])

    @classmethod
    def of_zeros(cls, count: np.ndarray) -> Self:
        """Return the extrema of so many zeros; as for :meth:`Statistic.of_zeros`."""
        count = count.astype(np.float64)
        some = np.where(count > 0, 0.0, np.inf)
        return cls(count, some, -some)

    def to_state(self) -> dict[str, np.ndarray]:
        """Return count, min and max as NumPy arrays."""
        return {
            "count": to_numpy(self.count),
            "min": to_numpy(self._min),
            "max": to_numpy(self._max),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """Return the extrema of a state; as for :meth:`Statistic.from_state`.

        Raises
        ------
        ValueError
            If its arrays do not fit together.
        """
        arrays = [state_array(state, key, 1, "extrema") for key in ("count", "min", "max")]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError("the arrays of extrema have different lengths")
        count, least, largest = arrays
        check_count(count, "extrema")
        refuse_channels(count != np.floor(count), "the count of extrema is no whole number")
        refuse_channels((count > 0) & (least > largest), "the minimum exceeds the maximum")
        refuse_channels(
            (count == 0) & ~((least == np.inf) & (largest == -np.inf)),
            "there are extrema of nothing",
        )
        return cls(count, least, largest)

    def check_finite(self) -> None:
        """Refuse statistics of data with NaN that was not skipped, or with infinity."""
        state = self.to_state()
        count, least, largest = state["count"], state["min"], state["max"]
        finite = np.isfinite(least) & np.isfinite(largest)
        refuse_channels(~((count == 0) | finite) | np.isnan(count), "an extremum is not finite")

    def __repr__(self) -> str:
        return f"Extrema(count={self.count}, min={self.min}, max={self.max})"
