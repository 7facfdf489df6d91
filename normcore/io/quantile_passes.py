"""Fits scalers by exact quantiles to tables that memory does not hold, in several passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from normcore.io.streaming.memory import Budget
from normcore.io.table import TableSource

if TYPE_CHECKING:
    from normcore.layout.namespace import Array
    from normcore.scaling.quantile_learner import QuantileLearner
    from normcore.scaling.scaler import Scaler
    from normcore.statistics import MergeableQuantiles, QuantileSketch
    from normcore.statistics.kept_brackets import KeptBrackets
    from normcore.statistics.reread_quantiles import RereadQuantiles

__all__ = ["QuantilePasses", "learns_quantiles", "sketch_error"]

_LEARNING = frozenset({"fit", "_fit", "_observed", "observe", "_learn", "fit_statistic"})
# Rank errors of the sketch, within which it depends on the table and the memory.
_LEAST_ERROR, _MOST_ERROR, _USUAL_ERROR = 1e-6, 0.05, 1e-3
# Bytes of a sketch of rank error 1, while it is made and merged.
_SKETCH_BYTES = 24 * 8 * 4


def learns_quantiles(scaler: Scaler) -> TypeGuard[QuantileLearner]:
    """Whether a scaler learns exact quantiles and nothing else.

    A subclass that observes otherwise than the class that says which quantiles may see other
    values.
    """
    from normcore.scaling.quantile_learner import QuantileLearner

    if not isinstance(scaler, QuantileLearner) or scaler.quantiles != "exact":
        return False
    for kind in type(scaler).__mro__:
        if "ranks" in kind.__dict__:
            return scaler.ranks() is not None
        if not _LEARNING.isdisjoint(kind.__dict__):
            break
    return False


class QuantilePasses:
    """The quantiles of columns: sketched in the first pass, found exactly in those that follow.

    Parameters
    ----------
    scaler : QuantileLearner
    table : TableSource
        Can be read again.
    num_columns : int
    budget : Budget
        Half of what is left goes to the sketch, half to what later passes keep.
    """

    def __init__(
        self, scaler: QuantileLearner, table: TableSource, num_columns: int, budget: Budget
    ) -> None:
        from normcore.array_backend.selection import select_backend  # slow to import
        from normcore.statistics import QuantileSketch
        from normcore.statistics.reread_quantiles import sampling_stride

        # A batch more or less is no matter, and lets any table be read.
        half = max(budget.left // 2, budget.batch_bytes)
        self._stride = sampling_stride(table.num_rows)
        self._error = sketch_error(table.num_rows, num_columns, half, self._stride)
        self._max_values = half // 8
        self._backend = select_backend(np.empty((0, 0)), scaler.backend)
        self._scaler = scaler
        self._sketch = QuantileSketch.empty(num_columns, error=self._error)
        self._kept: QuantileSketch | None = None
        if scaler.keep_sketch:
            self._kept = QuantileSketch.empty(num_columns, error=scaler.quantile_error)
        self._passes: RereadQuantiles | None = None
        self._seen: KeptBrackets | None = None

    def sketch(self, x: np.ndarray | Sequence[np.ndarray]) -> None:
        """Observe rows of the first pass, in one array or column by column."""
        from normcore.statistics.reread_quantiles import sampled_rows

        if isinstance(x, np.ndarray):
            some = sampled_rows(x, self._stride)
        else:
            some = np.stack([sampled_rows(column, self._stride) for column in x]).T
        self._sketch = self._sketch.merge(self._observed(some, self._error))
        if self._kept is not None:
            whole = x if isinstance(x, np.ndarray) else np.stack(x).T
            self._kept = self._kept.merge(self._observed(whole, self._scaler.quantile_error))

    def _observed(self, x: np.ndarray, error: float) -> QuantileSketch:
        from normcore.statistics import QuantileSketch

        return QuantileSketch.observe(self._backend, self._view(x), skipna=True, error=error)

    def begin(self, count: np.ndarray) -> bool:
        """Begin another pass; False if none is needed.

        Parameters
        ----------
        count : float64 array of shape (C,)
            Number of values of each column.
        """
        from normcore.statistics.kept_brackets import KeptBrackets
        from normcore.statistics.reread_quantiles import RereadQuantiles

        if self._passes is None:
            ranks = self._scaler.ranks()
            assert ranks is not None
            self._passes = RereadQuantiles(
                self._backend, ranks, self._sketch, self._max_values, count
            )
        plan = self._passes.plan()
        self._seen = None if plan is None else KeptBrackets(plan)
        return plan is not None

    def add(self, x: np.ndarray | Sequence[np.ndarray]) -> None:
        """Observe rows of a later pass, in one array or column by column."""
        assert self._seen is not None
        if isinstance(x, np.ndarray):
            self._seen.observe(self._backend, self._view(x))
            return
        for channel, column in enumerate(x):
            view = self._backend.adopt(column)[None, None, :]
            self._seen.observe(self._backend, view, slice(channel, channel + 1))

    def end(self) -> None:
        """End a pass that was begun."""
        assert self._seen is not None
        assert self._passes is not None
        self._passes.learn(self._seen)

    def statistic(self) -> MergeableQuantiles:
        """Return what was found."""
        assert self._passes is not None
        found, kind = self._passes.quantiles(), self._scaler.statistic
        return kind(found.q, found.values, found.count, found.infinite, self._kept)

    def _view(self, x: np.ndarray) -> Array:
        return self._backend.adopt(x)[:, :, None]


def sketch_error(num_rows: int | None, num_columns: int, max_bytes: int, stride: int = 1) -> float:
    """Return the rank error of the sketch of a first pass.

    What the sketch and the next pass take is then least together, if memory holds it.
    """
    error = 2 / (num_rows / stride) ** 0.5 if num_rows else _USUAL_ERROR
    error = max(error, _SKETCH_BYTES * num_columns / max_bytes, _LEAST_ERROR)
    return min(error, _MOST_ERROR)
