"""Statistics of order: brackets around ranks, and the exact quantiles they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from normcore.layout.namespace import Array, array_namespace, to_numpy
from normcore.statistics.statistic import (
    Channels,
    Statistic,
    check_count,
    refuse_channels,
    state_array,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from normcore.statistics.kernels import StatisticKernels

__all__ = ["Brackets", "Quantiles", "no_sketch_error"]


class Brackets(Statistic):
    """What lies below, on and inside two values of each channel, for R ranks.

    NaN is not counted (where it is not skipped, the count of its channel is NaN), -0.0 equals
    0.0, and a value v counts as

    ====================================  ===============================
    v < lower                             below
    v == lower                            equal_lower
    lower < v < upper                     inside_count, and v is kept
    v == upper, where upper > lower       equal_upper
    v > upper                             count only
    ====================================  ===============================

    so a bracket of equal ends counts and keeps nothing.

    Parameters
    ----------
    lower, upper : float64 arrays of shape (R, C)
    below, equal_lower, inside_count, equal_upper : float64 arrays of shape (R, C)
        Numbers of values, or sums of their weights.
    count : float64 array of shape (C,)
        The same of all values.
    infinite : float64 array of shape (C,)
        Number of infinite values, each once where it weighs anything.
    inside : R lists of C arrays of one dimension, float64 or the floating dtype of the data
        The kept values, in any order.
    inside_weights : likewise, or None
        Their weights; None where every value weighs 1.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> x = np.array([1.0, 2.0, 3.0, 4.0, 9.0]).reshape(5, 1, 1)
    >>> low, high = np.array([[2.0]]), np.array([[4.0]])
    >>> brackets = nc.get_backend("cpu").brackets(x, low, high)
    >>> brackets.below, brackets.inside_count, brackets.count
    (array([[1.]]), array([[1.]]), array([5.]))
    """

    __module__ = "normcore"
    __slots__ = (
        "below", "count", "equal_lower", "equal_upper", "infinite", "inside", "inside_count",
        "inside_weights", "lower", "upper",
    )  # fmt: skip
    name: ClassVar[str] = "brackets"

    def __init__(
        self,
        lower: Array,
        upper: Array,
        below: Array,
        equal_lower: Array,
        inside_count: Array,
        equal_upper: Array,
        count: Array,
        infinite: Array,
        inside: list[list[Array]],
        inside_weights: list[list[Array]] | None = None,
    ) -> None:
        self.lower, self.upper = lower, upper
        self.below, self.equal_lower = below, equal_lower
        self.inside_count, self.equal_upper = inside_count, equal_upper
        self.count, self.infinite = count, infinite
        self.inside, self.inside_weights = inside, inside_weights

    @classmethod
    def empty(cls, num_channels: int, xp: ModuleType = np) -> Brackets:
        """Return the statistic of no data and no ranks; as for :meth:`Statistic.empty`."""
        none = xp.zeros((0, num_channels), dtype=xp.float64)
        zero = xp.zeros(num_channels, dtype=xp.float64)
        return cls(none, none, none, none, none, none, zero, zero, [])

    @classmethod
    def observe(
        cls,
        backend: StatisticKernels,
        x: Array,
        *,
        weights: Array = None,
        skipna: bool = False,
        lower: Array = None,
        upper: Array = None,
    ) -> Brackets:
        """Return the statistic of an ``(N, C, S)`` view between ``lower`` and ``upper``.

        As for :meth:`Statistic.observe`; the two as for :meth:`normcore.Backend.brackets`.
        """
        return backend.brackets(x, lower, upper, weights=weights, skipna=skipna)

    @property
    def num_channels(self) -> int:
        """The number of channels, C."""
        return int(self.count.shape[0])

    @property
    def num_ranks(self) -> int:
        """The number of brackets of each channel, R."""
        return int(self.lower.shape[0])

    def merge(self, other: Brackets) -> Brackets:
        """Return the statistic of both pieces of data; as for :meth:`Statistic.merge`.

        Raises
        ------
        ValueError
            If the channels or the brackets differ.
        """
        return self.merge_all([self, other])

    @classmethod
    def merge_all(cls, parts: Iterable[Brackets]) -> Brackets:
        """Merge many at once, copying the kept values once.

        Parameters
        ----------
        parts : iterable of Brackets
            At least one.
        """
        given = list(parts)
        first = given[0]
        for other in given[1:]:
            first._check_mergeable(other)
        used = [part for part in given if part.num_ranks] or [first]
        first = used[0]
        xp = array_namespace(first.count)
        for other in used[1:]:
            for mine, theirs in ((first.lower, other.lower), (first.upper, other.upper)):
                if mine.shape != theirs.shape or not bool(xp.all(mine == theirs)):
                    raise ValueError("cannot merge brackets of different ends")
        if len({part.inside_weights is None for part in used}) > 1:
            raise ValueError("cannot merge weighted and unweighted brackets")
        sums = {
            name: sum((getattr(part, name) for part in used[1:]), getattr(first, name))
            for name in _SUMS
        }
        pairs = [
            [(rank, channel) for channel in range(first.num_channels)]
            for rank in range(first.num_ranks)
        ]

        def gather(name: str) -> list[list[Array]]:
            lists = [getattr(part, name) for part in used]
            return [[xp.concat([each[r][c] for each in lists]) for r, c in row] for row in pairs]

        weights = None if first.inside_weights is None else gather("inside_weights")
        return cls(
            first.lower, first.upper, inside=gather("inside"), inside_weights=weights, **sums
        )

    def select(self, channels: Channels) -> Brackets:
        """Return the statistic of some of the channels; as for :meth:`Statistic.select`."""
        chosen = np.arange(self.num_channels)[channels]
        weights = self.inside_weights
        return type(self)(
            inside=[[row[c] for c in chosen] for row in self.inside],
            inside_weights=weights and [[row[c] for c in chosen] for row in weights],
            **{name: getattr(self, name)[..., channels] for name in _ENDS + _SUMS},
        )

    def to_host(self) -> Brackets:
        """Return the statistic in NumPy arrays."""
        if isinstance(self.count, np.ndarray):
            return self
        weights = self.inside_weights
        return type(self)(
            inside=[[to_numpy(each) for each in row] for row in self.inside],
            inside_weights=weights and [[to_numpy(each) for each in row] for row in weights],
            **{name: to_numpy(getattr(self, name)) for name in _ENDS + _SUMS},
        )

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        host = self.to_host()
        state = {name: getattr(host, name) for name in _ENDS + _SUMS}
        flat = [each for row in host.inside for each in row]
        state["inside_lengths"] = np.array([len(each) for each in flat], dtype=np.float64)
        state["inside"] = np.concatenate([np.empty(0), *flat])
        if host.inside_weights is not None:
            flat = [each for row in host.inside_weights for each in row]
            state["inside_weights"] = np.concatenate([np.empty(0), *flat])
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Brackets:
        """Return the statistic of a state; as for :meth:`Statistic.from_state`."""
        arrays = _arrays(state, (*_ENDS, *_SUMS, "inside_lengths", "inside"), "brackets")
        shape = arrays["lower"].shape
        lengths = arrays["inside_lengths"]
        if (
            len(shape) != 2
            or any(arrays[name].shape != shape for name in _ENDS + _SUMS[:4])
            or any(arrays[name].shape != shape[1:] for name in _SUMS[4:])
            or lengths.shape != (shape[0] * shape[1],)
            or not ((lengths >= 0) & (lengths == np.floor(lengths)) & (lengths < 2.0**53)).all()
            or arrays["inside"].shape != (int(lengths.sum()),)
        ):
            raise ValueError("the arrays of brackets do not fit together")
        for name in _SUMS[:5]:
            check_count(arrays[name], "brackets")
        _check_infinite(arrays["infinite"], "brackets")
        if (arrays["lower"] > arrays["upper"]).any():
            raise ValueError("a bracket ends below its beginning")
        weights = None
        if "inside_weights" in state:
            weights = _arrays(state, ("inside_weights",), "brackets")["inside_weights"]
            if weights.shape != arrays["inside"].shape:
                raise ValueError("the arrays of brackets do not fit together")
        ends = np.cumsum(lengths).astype(np.intp)

        def split(values: np.ndarray) -> list[list[np.ndarray]]:
            pieces = np.split(values, ends[:-1]) if ends.size else []
            return [pieces[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]

        return cls(
            inside=split(arrays["inside"]),
            inside_weights=None if weights is None else split(weights),
            **{name: arrays[name] for name in _ENDS + _SUMS},
        )


class Quantiles(Statistic):
    """Exact quantiles of each channel: what an exact fit remembers.

    Parameters
    ----------
    q : float64 array of shape (R,)
        In [0, 1].
    values : float64 array of shape (R, C)
        NaN in a channel without values.
    count : float64 array of shape (C,)
        Number of values, or sum of their weights.
    infinite : float64 array of shape (C,)
        Number of infinite values.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> quantiles = nc.functional.quantiles(np.arange(5.0)[:, None], [0.25, 0.5], channel_axis=1)
    >>> quantiles.values
    array([[1.],
           [2.]])
    """

    __module__ = "normcore"
    __slots__ = ("count", "infinite", "q", "values")
    name: ClassVar[str] = "quantiles"

    def __init__(self, q: Array, values: Array, count: Array, infinite: Array) -> None:
        self.q, self.values, self.count, self.infinite = q, values, count, infinite

    @classmethod
    def empty(cls, num_channels: int, xp: ModuleType = np) -> Quantiles:
        """Return the quantiles of no data at no ranks; as for :meth:`Statistic.empty`."""
        zero = xp.zeros(num_channels, dtype=xp.float64)
        none = xp.zeros((0, num_channels), dtype=xp.float64)
        return cls(zero[:0], none, zero, zero)

    @classmethod
    def observe(
        cls,
        backend: StatisticKernels,
        x: Array,
        *,
        weights: Array = None,
        skipna: bool = False,
        q: ArrayLike = (0.25, 0.5, 0.75),
    ) -> Quantiles:
        """Return the quantiles of an ``(N, C, S)`` view at ``q``.

        As for :meth:`Statistic.observe`; `q` as for :meth:`normcore.functional.quantiles`.
        """
        return backend.quantiles(x, q, weights=weights, skipna=skipna)

    @property
    def num_channels(self) -> int:
        """The number of channels, C."""
        return int(self.count.shape[0])

    def merge(self, other: Quantiles) -> Quantiles:
        """Return the side that saw data, where the other saw none; as for :meth:`Statistic.merge`.

        Raises
        ------
        ValueError
            If both saw data: quantiles alone do not say what those of the union are.
        """
        self._check_mergeable(other)
        for one, another in ((self, other), (other, self)):
            if not bool(array_namespace(one.count).any(one.count != 0)):
                return another
        raise no_sketch_error()

    @classmethod
    def side_by_side(cls, groups: Sequence[Quantiles]) -> Quantiles:
        """Return the statistic of groups of channels; as for :meth:`Statistic.side_by_side`."""
        if len(groups) == 1:
            return groups[0]
        joined = (
            np.concatenate([getattr(group, name) for group in groups], axis=-1)
            for name in ("values", "count", "infinite")
        )
        return cls(groups[0].q, *joined)

    def select(self, channels: Channels) -> Quantiles:
        """Return the statistic of some of the channels; as for :meth:`Statistic.select`."""
        return type(self)(
            self.q, self.values[:, channels], self.count[channels], self.infinite[channels]
        )

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        return {name: to_numpy(getattr(self, name)) for name in _QUANTILES}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Quantiles:
        """Return the statistic of a state; as for :meth:`Statistic.from_state`."""
        q, values, count, infinite = _arrays(state, _QUANTILES, "quantiles").values()
        if (
            q.ndim != 1
            or count.ndim != 1
            or values.shape != (q.size, count.size)
            or infinite.shape != count.shape
        ):
            raise ValueError("the arrays of quantiles do not fit together")
        check_count(count, "quantiles")
        _check_infinite(infinite, "quantiles")
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"the ranks of quantiles must lie in [0, 1], not {q}")
        ordered = values[np.argsort(q, kind="stable")]
        with np.errstate(invalid="ignore"):
            refuse_channels(ordered[1:] < ordered[:-1], "quantiles are not in the order of ranks")
        refuse_channels((count == 0) & ~np.isnan(values), "there are quantiles of nothing")
        return cls(q, values, count, infinite)

    def check_finite(self) -> None:
        """Refuse statistics of data with NaN that was not skipped, or with infinity."""
        state = self.to_state()
        count, known = state["count"], np.isfinite(state["values"]).all(axis=0)
        wrong = ~((count == 0) | known) | np.isnan(count) | (state["infinite"] != 0)
        refuse_channels(wrong, "a quantile is not finite")

    def __repr__(self) -> str:
        return f"Quantiles(q={self.q}, values={self.values}, count={self.count})"


def _check_infinite(infinite: np.ndarray, kind: str) -> None:
    if not ((infinite >= 0) & (infinite == np.floor(infinite)) & np.isfinite(infinite)).all():
        raise ValueError(f"the numbers of infinite values of {kind} cannot be {infinite}")


def no_sketch_error() -> ValueError:
    """Return what to raise where quantiles alone would have to be merged."""
    return ValueError(
        "an exact fit keeps no sketch of the data, so two of them cannot be merged; fit all the "
        "data at once, or ask for a sketch with quantiles='sketch' or keep_sketch=True"
    )


_ENDS = ("lower", "upper")
_SUMS = ("below", "equal_lower", "inside_count", "equal_upper", "count", "infinite")
_QUANTILES = ("q", "values", "count", "infinite")


def _arrays(
    state: Mapping[str, ArrayLike], names: Iterable[str], kind: str
) -> dict[str, np.ndarray]:
    return {name: state_array(state, name, None, kind) for name in names}
