"""A mergeable sketch of quantiles, with a guaranteed rank error.

References
----------
Z. Karnin, K. Lang and E. Liberty, "Optimal quantile approximation in streams", FOCS 2016: levels
whose capacities fall geometrically.

P. K. Agarwal et al., "Mergeable summaries", ACM Transactions on Database Systems 38 (2013): the
error of merged compactors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from normcore.layout.namespace import Array
from normcore.layout.tiling import blocks
from normcore.statistics.quantile_interpolation import as_quantiles, interpolated, neighbours
from normcore.statistics.quantile_sketch_checks import check_possible
from normcore.statistics.quantile_sketch_guarantee import capacity_for, check_error, deviation
from normcore.statistics.quantile_sketch_kernel import (
    LEVELS,
    exact_size,
    merged,
    observed,
    values_at_ranks,
)
from normcore.statistics.statistic import Channels, Statistic, state_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from normcore.statistics.kernels import StatisticKernels

__all__ = ["QuantileSketch"]

_BLOCK = 1 << 16  # values that are read at once, of all channels ...
_RUN = 256  # ... and of one, at least
_SUMS = ("count", "infinite", "low", "high", "variance")
_COUNT, _INFINITE, _LOW, _HIGH, _VARIANCE = range(len(_SUMS))


class QuantileSketch(Statistic):
    """Quantiles of each channel within a rank error, from a bounded number of its values.

    The quantile q of n values is one whose rank is within ``error * n`` of ``q * n``, each with a
    probability of at least 99%, whatever the values, their order and the tree of merging. Up to
    :attr:`exact_size` values of a channel (3072 for an error of 0.01) are kept as they are, and
    give exact quantiles. Of more, a channel keeps about ``24 / error`` values, and 64 more each
    time that their number doubles.

    Sketches of the same data in the same pieces have the same bits; those of the same data in other
    pieces agree within their errors. The errors of different pieces are independent, and the error
    that is stated of them merged relies on that. A sketch that is merged with its own copy keeps
    its error, and says so; of copies that were merged with other sketches before, it knows nothing.

    Parameters
    ----------
    error : float
        The rank error that is guaranteed, as a fraction of the number of values.
    values : float64 array
        Values of each channel, level by level, ascending in each; one at level h stands for 2**h.
    sizes : int64 array of shape (C, LEVELS)
        Number of values of each level.
    coins : uint64 array of shape (C,)
        State of the generator.
    sums : float64 array of shape (5, C)
        Number of values, number of infinite ones, smallest and largest value, and the sum of the
        squared weights of all compactions.

    Examples
    --------
    >>> import normcore as nc
    >>> sketch = nc.QuantileSketch.empty(1, error=0.01)
    >>> sketch.error
    0.01
    """

    __module__ = "normcore"
    __slots__ = ("coins", "error", "sizes", "sums", "values")
    name: ClassVar[str] = "quantile_sketch"

    def __init__(
        self,
        error: float,
        values: np.ndarray,
        sizes: np.ndarray,
        coins: np.ndarray,
        sums: np.ndarray,
    ) -> None:
        self.error = error
        self.values, self.sizes, self.coins, self.sums = values, sizes, coins, sums

    @classmethod
    def empty(
        cls, num_channels: int, xp: ModuleType = np, *, error: float = 0.01
    ) -> QuantileSketch:
        """Return the sketch of no data, neutral in :meth:`merge` whatever its error.

        As for :meth:`Statistic.empty`; `error` as for :meth:`observe`.
        """
        sums = np.zeros((len(_SUMS), num_channels))
        sums[_LOW], sums[_HIGH] = np.inf, -np.inf
        sizes = np.zeros((num_channels, LEVELS), dtype=np.int64)
        coins = np.zeros(num_channels, dtype=np.uint64)
        return cls(check_error(error), np.empty(0), sizes, coins, sums)

    @classmethod
    def observe(
        cls,
        backend: StatisticKernels,
        x: Array,
        *,
        weights: Array = None,
        skipna: bool = False,
        error: float = 0.01,
        seed: int = 0,
    ) -> QuantileSketch:
        """Return the sketch of an ``(N, C, S)`` view, made on the host.

        Parameters
        ----------
        error : float
            Rank error, as a fraction of the number of values.
        seed : int
            Of the coins that are tossed, in [0, 2**64).
        backend, x, skipna
            As for :meth:`Statistic.observe`.
        weights : array of shape (N, S), optional
            Whole numbers, which say how often each value is repeated.

        Raises
        ------
        ValueError
            If ``error`` is not in [1e-6, 1), or a weight is not a whole number from 0 to 2**53.
        """
        if weights is not None:
            return cls._observe_repeated(backend, x, weights, skipna, error, seed)
        num_samples, num_channels, num_inner = x.shape
        sketch, absent = cls._of_columns(
            _columns(backend, x), num_channels, num_samples * num_inner, error, seed
        )
        if not skipna:
            sketch.sums[_COUNT, absent > 0] = np.nan
        return sketch

    @classmethod
    def of_values(cls, values: np.ndarray, *, error: float = 0.01, seed: int = 0) -> QuantileSketch:
        """Return the sketch, of one channel, of a vector; the others as for :meth:`observe`.

        Parameters
        ----------
        values : array of shape (n,)
            In NumPy. NaN is skipped.
        """
        column = np.asarray(values, dtype=np.float64)[None, :]
        return cls._of_columns(iter([column]), 1, column.size, error, seed)[0]

    @classmethod
    def _of_columns(
        cls, columns: Iterator[np.ndarray], num_channels: int, size: int, error: float, seed: int
    ) -> tuple[QuantileSketch, np.ndarray]:
        """Return the sketch of blocks of channels, and how often there is NaN in each."""
        capacity = capacity_for(check_error(error))
        values, sizes, coins, sums, absent = observed(columns, num_channels, size, capacity, seed)
        return cls(error, values, sizes, coins, sums), absent

    @classmethod
    def _observe_repeated(
        cls,
        backend: StatisticKernels,
        x: Array,
        weights: Array,
        skipna: bool,
        error: float,
        seed: int,
    ) -> QuantileSketch:
        """Sketch the values for each binary digit of their weights, as so many levels higher."""
        host = np.asarray(backend.release(x, np.empty(0))).transpose(0, 2, 1)
        host = host.reshape(-1, x.shape[1])
        given = np.asarray(backend.release(weights, np.empty(0)), dtype=np.float64).reshape(-1)
        if not bool(np.all((given >= 0) & (given <= 2.0**53) & (given == np.floor(given)))):
            raise ValueError(
                "a sketch of quantiles takes whole weights, which repeat values; exact quantiles "
                "take others"
            )
        repeats = given.astype(np.int64)
        total = cls.empty(x.shape[1], error=error)
        for digit in range(int(repeats.max(initial=0)).bit_length()):
            chosen = host[(repeats >> digit & 1).astype(bool), :, None]
            coins = (seed + digit) % 2**64  # of the same values, their digits err otherwise
            part = cls.observe(backend, chosen, skipna=skipna, error=error, seed=coins)
            total = total.merge(part._heavier(digit))
        return total

    def _heavier(self, digits: int) -> QuantileSketch:
        """Return the sketch of the same values, each ``2**digits`` times."""
        sums = self.sums.copy()
        for row, power in ((_COUNT, digits), (_INFINITE, digits), (_VARIANCE, 2 * digits)):
            sums[row] = np.ldexp(sums[row], power)
        return type(self)(
            self.error, self.values, np.roll(self.sizes, digits, axis=1), self.coins, sums
        )

    @property
    def num_channels(self) -> int:
        """The number of channels, C."""
        return len(self.sizes)

    @property
    def count(self) -> np.ndarray:
        """Number of values of each channel; NaN where there was NaN that was not to be skipped."""
        return self.sums[_COUNT]

    @property
    def infinite(self) -> np.ndarray:
        """Number of infinite values of each channel."""
        return self.sums[_INFINITE]

    @property
    def exact_size(self) -> int:
        """Number of values of a channel below which nothing is lost."""
        return exact_size(capacity_for(self.error))

    @property
    def rank_error(self) -> np.ndarray:
        """The rank error that each channel has by now, with 99% confidence for each quantile.

        A fraction of its number of values, at most :attr:`error`; 0 where quantiles are exact.
        """
        ranks = deviation(self.sums[_VARIANCE])
        return np.divide(ranks, self.count, out=np.zeros(self.num_channels), where=ranks > 0)

    def quantile(self, q: ArrayLike) -> np.ndarray:
        """Return quantiles of each channel.

        Parameters
        ----------
        q : float or array of shape (R,)
            In [0, 1].

        Returns
        -------
        float64 array of shape (R, C)
            Interpolated linearly between neighbours, as exact ones; NaN in a channel without
            values. The ends, 0 and 1, are exact.

        Raises
        ------
        ValueError
            If ``q`` leaves [0, 1].
        """
        q = as_quantiles(q)[:, None]
        count = np.nan_to_num(self.count)
        ranks = np.stack(neighbours(q, count)[:2])
        found = self.at_ranks(ranks.reshape(2 * len(q), self.num_channels)).reshape(ranks.shape)
        values = interpolated(found[0], found[1], q, count)
        return np.where(self.count > 0, values + 0.0, np.nan)  # -0.0 reads as 0.0

    def at_ranks(self, ranks: np.ndarray) -> np.ndarray:
        """Return the values at some ranks of each channel.

        Parameters
        ----------
        ranks : float64 array of shape (R, C)
            Whole numbers from 0 to the count less one.

        Returns
        -------
        float64 array of shape (R, C)
            Values that were seen; NaN in a channel without any.
        """
        found = values_at_ranks(self.values, self.sizes, ranks)
        found = np.where((ranks == 0) & (self.count > 0), self.sums[_LOW], found)
        return np.where(ranks == self.count - 1, self.sums[_HIGH], found)

    def merge(self, other: Self) -> QuantileSketch:
        """Return the sketch of both pieces of data; as for :meth:`Statistic.merge`.

        Raises
        ------
        ValueError
            If the channels or the errors differ.
        """
        self._check_mergeable(other)
        for one, another in ((self, other), (other, self)):
            if not one.count.any():
                return another
        if self.error != other.error:
            raise ValueError(f"cannot merge sketches of errors {self.error} and {other.error}")
        joined = type(self)(
            self.error, *merged([self._parts(), other._parts()], capacity_for(self.error))
        )
        # Sketches that tossed the same coins saw the same values, and err alike: errors add up.
        variances = self.sums[_VARIANCE], other.sums[_VARIANCE]
        alike = (self.coins == other.coins) & (variances[0] > 0) & (variances[1] > 0)
        if not alike.any():
            return joined
        joined.sums[_VARIANCE] += np.where(alike, 2.0 * np.sqrt(variances[0] * variances[1]), 0.0)
        # What is seen twice is what was seen once, each value for two, without another error.
        twice = alike & (self.count == other.count)
        parts = [self._heavier(1).select(twice), joined.select(~twice)]
        order = np.concatenate([np.flatnonzero(twice), np.flatnonzero(~twice)])
        return QuantileSketch.side_by_side(parts).select(np.argsort(order))

    def select(self, channels: Channels) -> QuantileSketch:
        """Return the sketch of some of the channels; as for :meth:`Statistic.select`."""
        pieces = self.pieces()
        chosen = [pieces[c] for c in np.arange(self.num_channels)[channels]]
        return type(self)(
            self.error,
            np.concatenate([np.empty(0), *chosen]),
            self.sizes[channels],
            self.coins[channels],
            self.sums[:, channels],
        )

    @classmethod
    def side_by_side(cls, groups: Sequence[Self]) -> QuantileSketch:
        """Return the sketch of groups of channels; as for :meth:`Statistic.side_by_side`."""
        return cls(
            groups[0].error,
            np.concatenate([group.values for group in groups]),
            np.concatenate([group.sizes for group in groups]),
            np.concatenate([group.coins for group in groups]),
            np.concatenate([group.sums for group in groups], axis=1),
        )

    def to_host(self) -> Self:
        """Return the sketch itself, which is in NumPy arrays."""
        return self

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        top = int(np.flatnonzero(self.sizes.any(axis=0)).max(initial=0))
        return {
            "error": np.array(self.error),
            "values": self.values,
            "sizes": self.sizes[:, : top + 1].astype(np.float64),
            "coins": np.stack([self.coins >> np.uint64(32), self.coins & _LOW_HALF]).astype(
                np.float64
            ),
            **dict(zip(_SUMS, self.sums, strict=True)),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> QuantileSketch:
        """Return the sketch of a state; as for :meth:`Statistic.from_state`.

        Raises
        ------
        ValueError
            If an array is missing, or states what no sketch holds.
        """
        kind = "a sketch of quantiles"
        error = check_error(float(state_array(state, "error", 0, kind)))
        values = state_array(state, "values", 1, kind)
        sizes = state_array(state, "sizes", 2, kind)
        coins = state_array(state, "coins", 2, kind)
        sums = [state_array(state, name, 1, kind) for name in _SUMS]
        num_channels = len(sizes)
        if (
            sizes.shape[1] > LEVELS
            or coins.shape != (2, num_channels)
            or any(each.shape != (num_channels,) for each in sums)
        ):
            raise ValueError(f"the arrays of {kind} do not fit together")
        for name, array, limit in (("sizes", sizes, 2.0**53), ("coins", coins, 2.0**32)):
            if not bool(np.all((array >= 0) & (array < limit) & (array == np.floor(array)))):
                raise ValueError(f"the {name} of {kind} must be whole numbers below {limit:.0f}")
        if values.size != sizes.sum():
            raise ValueError(
                f"{kind} has {values.size} values, but its levels should hold {sizes.sum():.0f}"
            )
        levels = np.zeros((num_channels, LEVELS), dtype=np.int64)
        levels[:, : sizes.shape[1]] = sizes
        high, low = coins.astype(np.uint64)
        sketch = cls(error, values, levels, high << np.uint64(32) | low, np.stack(sums))
        check_possible(sketch)
        return sketch

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.values, self.sizes, self.coins, self.sums

    def pieces(self) -> list[np.ndarray]:
        """Return the values of each channel."""
        ends = np.cumsum(self.sizes.sum(axis=1))
        return np.split(self.values, ends[:-1])[: self.num_channels]

    def __repr__(self) -> str:
        return f"QuantileSketch(error={self.error}, count={self.count})"


_LOW_HALF = np.uint64(0xFFFFFFFF)


def _columns(backend: StatisticKernels, x: Array) -> Iterator[np.ndarray]:
    """Yield the values of each channel on the host, block by block, as float64 (C, P).

    Each block lies where the one before did, as fresh memory takes as long as the copy.
    """
    buffer = np.empty(0)
    for rows, inner in blocks(x.shape, max(_BLOCK, _RUN * x.shape[1])):
        host = np.asarray(backend.release(x[rows, :, inner], np.empty(0))).transpose(1, 0, 2)
        if buffer.size < host.size:
            buffer = np.empty(host.size)
        columns = buffer[: host.size].reshape(host.shape)
        columns[...] = host
        yield columns.reshape(x.shape[1], -1)
