"""What every statistic of channels can do: a commutative monoid that observes, merges and saves."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias, TypeVar

import numpy as np

from normcore.layout.namespace import Array, array_namespace, to_numpy
from normcore.statistics.declared import broken, called, check_fields, check_merges

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


class Statistic(ABC):  # noqa: B024  (either declares, or overrides what is declared for)
    """What a fit remembers of each channel; a commutative monoid under :meth:`merge`.

    One of one's own says what it keeps, in :attr:`neutral`, how it comes from values, in
    :meth:`of_rows`, and how two of it merge: ``merge(self, other)``. Threads, streams, files,
    clusters, sparse matrices and saving follow from these three. Where pieces do not merge, it has
    no ``merge``, and the scaler says ``mergeable = False``.

    Parameters
    ----------
    **fields : float64 arrays
        Each of :attr:`neutral`, which become attributes. The last axis is that of the channels.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> class LogMoments(nc.Statistic):
    ...     name = "log_moments"
    ...     neutral = {"count": 0.0, "total": 0.0}
    ...
    ...     @classmethod
    ...     def of_rows(cls, xp, x):
    ...         logs = xp.log(x)
    ...         seen = ~xp.isnan(logs)
    ...         total = xp.sum(xp.where(seen, logs, xp.zeros_like(logs)), axis=0)
    ...         return cls(count=xp.sum(xp.astype(seen, xp.float64), axis=0), total=total)
    ...
    ...     def merge(self, other):
    ...         return LogMoments(count=self.count + other.count, total=self.total + other.total)
    >>> logs = [LogMoments.of_rows(np, np.array([[each]])) for each in (1.0, np.e)]
    >>> logs[0].merge(logs[1]).total
    array([1.])
    """

    __module__ = "normcore"

    #: Names the statistic in saved files.
    name: ClassVar[str] = ""
    #: The fields, and what each holds of no data: a number, or an array of those that a channel
    #: has many of, such as the counts of a histogram.
    neutral: ClassVar[Mapping[str, ArrayLike]] = {}

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if cls.neutral and "merge" in vars(cls):
            setattr(cls, "merge", check_merges(cls, cls.merge))  # noqa: B010  (a method)

    def __init__(self, **fields: Array) -> None:
        if fields.keys() != self.neutral.keys():
            given, declared = (", ".join(each) or "none" for each in (fields, self.neutral))
            raise TypeError(f"{type(self).__name__} has the fields {declared}; given: {given}")
        for name, value in fields.items():
            setattr(self, name, value)

    @classmethod
    def of_rows(cls, xp: ModuleType, x: Array) -> Self:
        """Return the statistic of some rows of a table.

        Parameters
        ----------
        xp : namespace
            NumPy, or the array-API namespace of ``x``.
        x : float64 array of shape (n, C)
            NaN is missing, and nothing is infinite. To be read, not written; called in several
            threads at once.
        weights : float64 array of shape (n, 1)
            How much each row counts, of a statistic that takes it: a keyword, only where given.
        """
        raise NotImplementedError(
            f"{cls.__name__} is told no values: define of_rows(cls, xp, x), or observe"
        )

    @classmethod
    def empty(cls, num_channels: int, xp: ModuleType = np) -> Self:
        """Return the statistic of no data, neutral in :meth:`merge`.

        Parameters
        ----------
        num_channels : int
            C.
        xp : namespace, default=numpy
            Whose arrays it holds.
        """
        fields = {}
        for name, value in cls.neutral.items():
            one = xp.asarray(value, dtype=xp.float64)[..., None]
            fields[name] = xp.broadcast_to(one, (*one.shape[:-1], num_channels)) + 0.0
        return cls(**fields)

    @classmethod
    def observe(
        cls, backend: StatisticKernels, x: Array, *, weights: Array = None, skipna: bool = False
    ) -> Self:
        """Return the statistic of an ``(N, C, S)`` view: here by :meth:`of_rows`, in blocks.

        Parameters
        ----------
        backend : Backend
            Whose kernels observe, where there are any for it.
        x : array of shape (N, C, S)
            Of the backend's own kind.
        weights : array of shape (N, S), optional
            How much each position counts: float64, or bool where it counts or not.
        skipna : bool
            Whether NaN counts as missing, as it does for :meth:`of_rows`; otherwise it propagates.

        Raises
        ------
        InfiniteInput
            If a value is infinite.
        TypeError
            If there are weights, and it takes none.
        """
        from normcore.statistics.rows_in_blocks import observed_rows  # which needs this module

        if weights is not None and "weights" not in inspect.signature(cls.of_rows).parameters:
            raise TypeError(f"{cls.__name__} takes no weights: its of_rows has no such parameter")
        merge = None if cls.merge is Statistic.merge else cls.merge
        return observed_rows(cls._of_rows_on_host, x, weights, merge)

    @classmethod
    def _of_rows_on_host(cls, xp: ModuleType, x: Array, **weights: Array) -> Self:
        """Return :meth:`of_rows`, checked, in NumPy arrays."""
        found: Self = called(partial(broken, cls, "of_rows"), cls.of_rows, xp, x, **weights)
        check_fields(found, cls, "of_rows", x.shape[1])
        return found.to_host()

    def merge(self, other: Self) -> Self:
        """Return the statistic of both pieces of data; the operands stay as they are.

        What :meth:`of_rows` returned is in NumPy by then.

        Parameters
        ----------
        other : Statistic
            Of the same kind and number of channels.

        Raises
        ------
        ValueError
            If the numbers of channels differ.
        TypeError
            If ``other`` is another kind of statistic.
        """
        raise TypeError(
            f"{type(self).__name__} does not merge: define merge(self, other), or say "
            "mergeable = False on the scaler"
        )

    def select(self, channels: Channels) -> Self:
        """Return the statistic of some of the channels.

        Parameters
        ----------
        channels : int array, bool array of shape (C,) or slice
            Which, in the order in which they are wanted.
        """
        return type(self)(**{name: getattr(self, name)[..., channels] for name in self.neutral})

    @classmethod
    def side_by_side(cls, groups: Sequence[Self]) -> Self:
        """Return the statistic of all channels from those of groups of them, in order.

        A statistic whose state is not one of arrays that end with the channels overrides this.

        Parameters
        ----------
        groups : sequence of Statistic
            At least one, all of this kind.
        """
        if len(groups) == 1:
            return groups[0]
        states = [group.to_state() for group in groups]
        joined = {key: np.concatenate([each[key] for each in states], -1) for key in states[0]}
        return cls.from_state(joined)

    @classmethod
    def of_zeros(cls, count: np.ndarray) -> Self | None:
        """Return the statistic of so many zeros in each channel, if that need not be observed.

        Parameters
        ----------
        count : float64 array of shape (C,)
            How many there are, or the sum of their weights.
        """
        return None

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        return {name: np.asarray(to_numpy(getattr(self, name)), float) for name in self.neutral}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """Return the statistic of a state that :meth:`to_state` gave.

        Parameters
        ----------
        state : mapping of str to array
            What :meth:`to_state` returned, arrays also as lists.

        Raises
        ------
        ValueError
            If an array is missing or has another shape.
        """
        fields = {}
        kind, num_channels = cls.name or cls.__name__, None
        for name, value in cls.neutral.items():
            shape = np.shape(value)
            fields[name] = array = state_array(state, name, len(shape) + 1, kind)
            num_channels = array.shape[-1] if num_channels is None else num_channels
            if array.shape != (*shape, num_channels):
                raise ValueError(
                    f"{name!r} of {kind} has shape {array.shape}, not {(*shape, num_channels)}"
                )
        return cls(**fields)

    def check_finite(self) -> None:  # noqa: B027  (not all hold values)
        """Refuse a statistic of data with NaN that was not skipped, or with infinity.

        Raises
        ------
        ValueError
            Which names the first such channel.
        """

    @property
    def num_channels(self) -> int:
        """The number of channels, C."""
        return int(getattr(self, next(iter(self.neutral))).shape[-1])

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
