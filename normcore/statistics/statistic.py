"""What every statistic of channels can do: a commutative monoid that observes, merges and saves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias, TypeVar

import numpy as np

from normcore.layout.namespace import Array, array_namespace

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from normcore.statistics.kernels import StatisticKernels

__all__ = [
    "Channels",
    "Statistic",
    "StatisticT",
    "check_count",
    "refuse_channels",
    "state_array",
    "where_valid",
]

#: Some of the channels: an index array, a mask, or a slice.
Channels: TypeAlias = np.ndarray | Sequence[int] | slice

StatisticT = TypeVar("StatisticT", bound="Statistic")


class Statistic(ABC):
    """What a fit remembers of each channel; a commutative monoid under :meth:`merge`.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> one = nc.functional.extrema(np.array([[1.0], [5.0]]), channel_axis=1)
    >>> one.merge(nc.Extrema.empty(1)).max  # the empty one changes nothing
    array([5.])
    """

    #: Names the statistic in saved files.
    name: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def empty(cls, num_channels: int, xp: ModuleType = np) -> Self:
        """Return the statistic of no data, neutral in :meth:`merge`."""

    @classmethod
    @abstractmethod
    def observe(
        cls, backend: StatisticKernels, x: Array, *, weights: Array = None, skipna: bool = False
    ) -> Self:
        """Return the statistic of an ``(N, C, S)`` view, by the backend's kernel."""

    @abstractmethod
    def merge(self, other: Self) -> Self:
        """Return the statistic of both pieces of data; the operands stay as they are.

        Raises
        ------
        ValueError
            If the numbers of channels differ.
        TypeError
            If ``other`` is another kind of statistic.
        """

    @abstractmethod
    def select(self, channels: Channels) -> Self:
        """Return the statistic of some of the channels (an index array or a slice)."""

    @classmethod
    def side_by_side(cls, groups: Sequence[Self]) -> Self:
        """Return the statistic of all channels from those of groups of them, in order.

        A statistic whose state is not one of arrays that end with the channels overrides this.
        """
        if len(groups) == 1:
            return groups[0]
        states = [group.to_state() for group in groups]
        joined = {key: np.concatenate([each[key] for each in states], -1) for key in states[0]}
        return cls.from_state(joined)

    @classmethod
    def of_zeros(cls, count: np.ndarray) -> Self | None:
        """Return the statistic of so many zeros in each channel, if that need not be observed."""
        return None

    @abstractmethod
    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """Return the statistic of a state that :meth:`to_state` gave.

        Raises
        ------
        ValueError
            If an array is missing or has another shape.
        """

    def check_finite(self) -> None:  # noqa: B027  (not all hold values)
        """Refuse a statistic of data with NaN that was not skipped, or with infinity.

        Raises
        ------
        ValueError
            Which names the first such channel.
        """

    @property
    @abstractmethod
    def num_channels(self) -> int:
        """The number of channels, C."""

    def to_host(self) -> Self:
        """Return the statistic in NumPy arrays."""
        return type(self).from_state(self.to_state())

    def _check_mergeable(self, other: object) -> None:
        if not (isinstance(other, type(self)) or isinstance(self, type(other))):
            raise TypeError(f"cannot merge {type(self).__name__} with {type(other).__name__}")
        assert isinstance(other, Statistic)
        if other.num_channels != self.num_channels:
            raise ValueError(
                f"cannot merge statistics of {self.num_channels} and {other.num_channels} channels"
            )

    def __eq__(self, other: object) -> bool:
        if not (isinstance(other, type(self)) or isinstance(self, type(other))):
            return NotImplemented
        assert isinstance(other, Statistic)
        mine, theirs = self.to_state(), other.to_state()
        return mine.keys() == theirs.keys() and all(
            np.array_equal(mine[key], theirs[key], equal_nan=True) for key in mine
        )

    __hash__: ClassVar[None] = None  # type: ignore[assignment]


def state_array(
    state: Mapping[str, ArrayLike], key: str, ndim: int | None, kind: str
) -> np.ndarray:
    """Return an array of a saved state of a statistic of this kind; ValueError if there is none."""
    try:
        array = np.array(state[key], dtype=np.float64)
    except KeyError:
        raise ValueError(f"the state of {kind} lacks {key!r}") from None
    except (TypeError, ValueError):
        raise ValueError(f"{key!r} of {kind} is no array of numbers") from None
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{key!r} of {kind} has shape {array.shape}, expected {ndim} dimensions")
    return array


def check_count(count: np.ndarray, kind: str) -> None:
    """Refuse a state whose counts are negative or infinite; NaN stands for data with NaN."""
    if (count < 0).any() or np.isinf(count).any():
        raise ValueError(f"the counts of {kind} must be finite and not negative, not {count}")


def refuse_channels(wrong: np.ndarray, reason: str) -> None:
    """Refuse a state in which something is wrong in some channels; the last axis is theirs."""
    found = np.flatnonzero(wrong.any(axis=tuple(range(wrong.ndim - 1))))
    if found.size:
        raise ValueError(f"{reason} in channel {found[0]}")


def where_valid(valid: Array, values: Array) -> Array:
    """Return values where they are valid, NaN elsewhere."""
    xp = array_namespace(values)
    return xp.where(valid, values, xp.full_like(values, float("nan")))
