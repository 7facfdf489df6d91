"""Quantiles that may have been found by a sketch, or keep one so that they can be merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from normcore.layout.namespace import Array
from normcore.statistics.brackets import Quantiles, no_sketch_error
from normcore.statistics.quantile_interpolation import as_quantiles
from normcore.statistics.quantile_sketch import QuantileSketch
from normcore.statistics.statistic import Channels, state_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from normcore.statistics.kernels import StatisticKernels

__all__ = ["METHODS", "MergeableQuantiles"]

#: How quantiles may be found.
METHODS = ("exact", "sketch")

_SKETCH = "sketch_"  # begins the names of the sketch's state


class MergeableQuantiles(Quantiles):
    """Quantiles of each channel, and the sketch from which those of more data follow.

    Parameters
    ----------
    q, values, count, infinite : as those of :class:`Quantiles`
    sketch : QuantileSketch, optional
        Of the same data; without one, quantiles cannot be merged.
    rank_error : float64 array of shape (C,), optional
        Guaranteed for each value, as a fraction of the count: that of the sketch, or 0 where the
        values are exact, as by default.

    Examples
    --------
    >>> import normcore as nc
    >>> one = nc.RobustScaler(quantiles="sketch").fit([[1.0], [2.0]])
    >>> other = nc.RobustScaler(quantiles="sketch").fit([[3.0]])
    >>> one.merge(other).center_  # their statistics are MergeableQuantiles
    array([2.])
    """

    __module__ = "normcore"
    __slots__ = ("rank_error", "sketch")
    name: ClassVar[str] = Quantiles.name  # one kind in files, with or without a sketch

    def __init__(
        self,
        q: Array,
        values: Array,
        count: Array,
        infinite: Array,
        sketch: QuantileSketch | None = None,
        rank_error: Array = None,
    ) -> None:
        super().__init__(q, values, count, infinite)
        self.sketch = sketch
        self.rank_error = np.zeros(count.shape[0]) if rank_error is None else rank_error

    @classmethod
    def of(cls, sketch: QuantileSketch, q: ArrayLike) -> MergeableQuantiles:
        """Return the quantiles of a sketch.

        Parameters
        ----------
        sketch : QuantileSketch
            Which is kept.
        q : float or array of shape (R,)
            The ranks, in [0, 1].
        """
        ranks = as_quantiles(q)
        return cls(
            ranks,
            sketch.quantile(ranks),
            sketch.count,
            sketch.infinite,
            sketch,
            sketch.rank_error,
        )

    @classmethod
    def observe(
        cls,
        backend: StatisticKernels,
        x: Array,
        *,
        weights: Array = None,
        skipna: bool = False,
        q: ArrayLike = (0.25, 0.5, 0.75),
        method: str = "exact",
        error: float = 0.01,
        keep_sketch: bool = False,
    ) -> MergeableQuantiles:
        """Return the quantiles of an ``(N, C, S)`` view at ``q``, on the host.

        Parameters
        ----------
        backend, x, weights, skipna
            As for :meth:`Statistic.observe`.
        q : float or array of shape (R,)
            The ranks, in [0, 1].
        method : {"exact", "sketch"}
            A sketch finds them within a rank error, and can be merged.
        error : float
            Rank error of a sketch, as a fraction of the number of values.
        keep_sketch : bool
            Keep a sketch beside exact quantiles.

        Raises
        ------
        ValueError
            If ``q`` leaves [0, 1], ``error`` is not in [1e-6, 1), or ``method`` is another; if a
            sketch is given weights that are not whole numbers.
        """
        if method not in METHODS:
            raise ValueError(f"method must be 'exact' or 'sketch', got {method!r}")
        sketch = None
        if method == "sketch" or keep_sketch:
            sketch = QuantileSketch.observe(backend, x, weights=weights, skipna=skipna, error=error)
            if method == "sketch":
                return cls.of(sketch, q)
        exact = backend.quantiles(x, q, weights=weights, skipna=skipna).to_host()
        return cls(exact.q, exact.values, exact.count, exact.infinite, sketch)

    def merge(self, other: Quantiles) -> MergeableQuantiles:
        """Return the quantiles of both pieces of data, by their sketches.

        Parameters
        ----------
        other : Quantiles
            At the same ranks, with a sketch of the same error where both saw data.

        Raises
        ------
        ValueError
            If both saw data, and one has no sketch or other ranks.
        """
        self._check_mergeable(other)
        if not isinstance(other, MergeableQuantiles):
            other = MergeableQuantiles(other.q, other.values, other.count, other.infinite)
        for one, another in ((self, other), (other, self)):
            if not one.count.any():
                return another
        if self.sketch is None or other.sketch is None:
            raise no_sketch_error()
        if not np.array_equal(self.q, other.q):
            raise ValueError(f"cannot merge quantiles at {self.q} and {other.q}")
        return self.of(self.sketch.merge(other.sketch), self.q)

    def select(self, channels: Channels) -> MergeableQuantiles:
        """Return the statistic of some of the channels; as for :meth:`Statistic.select`."""
        return type(self)(
            self.q,
            self.values[:, channels],
            self.count[channels],
            self.infinite[channels],
            self.sketch and self.sketch.select(channels),
            self.rank_error[channels],
        )

    @classmethod
    def side_by_side(cls, groups: Sequence[Quantiles]) -> MergeableQuantiles:
        """Return the statistic of groups of channels; as for :meth:`Statistic.side_by_side`."""
        plain = Quantiles.side_by_side(groups)
        found = cls(plain.q, plain.values, plain.count, plain.infinite)
        parts = [group for group in groups if isinstance(group, cls)]
        sketches = [part.sketch for part in parts if part.sketch is not None]
        if len(sketches) == len(groups):
            found.sketch = QuantileSketch.side_by_side(sketches)
            found.rank_error = np.concatenate([part.rank_error for part in parts])
        return found

    def to_state(self) -> dict[str, np.ndarray]:
        """Return the whole state as a dict of float64 NumPy arrays."""
        state = super().to_state()
        if self.sketch is not None:
            state["rank_error"] = self.rank_error
            for name, array in self.sketch.to_state().items():
                state[_SKETCH + name] = array
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> MergeableQuantiles:
        """Return the statistic of a state; as for :meth:`Statistic.from_state`.

        Raises
        ------
        ValueError
            If an array is missing or has another shape, or if quantiles and sketch disagree.
        """
        plain = Quantiles.from_state(state)
        found = cls(plain.q, plain.values, plain.count, plain.infinite)
        if "rank_error" in state:
            found.rank_error = state_array(state, "rank_error", 1, "quantiles")
            found.sketch = QuantileSketch.from_state(
                {key.removeprefix(_SKETCH): state[key] for key in state if key.startswith(_SKETCH)}
            )
            _check_agreement(found, found.sketch)
        return found

    def to_host(self) -> MergeableQuantiles:
        """Return the statistic itself, which is in NumPy arrays."""
        return self


def _check_agreement(found: MergeableQuantiles, sketch: QuantileSketch) -> None:
    """Refuse quantiles that are not of the data of their sketch."""
    for name in ("count", "infinite"):
        own, its = getattr(found, name), getattr(sketch, name)
        if not np.array_equal(own, its, equal_nan=True):
            raise ValueError(f"the {name} of quantiles is {own}, that of their sketch {its}")
    exact = not found.rank_error.any()
    if not exact and not np.array_equal(found.rank_error, sketch.rank_error, equal_nan=True):
        raise ValueError(
            f"the rank error of quantiles is {found.rank_error}, that of their sketch "
            f"{sketch.rank_error}"
        )
    low, high = sketch.quantile([0.0, 1.0]) if exact else [sketch.quantile(found.q)] * 2
    within = (low <= found.values) & (found.values <= high) | np.isnan(low) & np.isnan(found.values)
    if not within.all():
        raise ValueError("the quantiles are not those of their sketch")
