"""Fits scalers by exact quantiles to tables that memory does not hold, in several passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from normcore.io.streaming.memory import Budget
from normcore.io.table import TableSource

if TYPE_CHECKING:
    from normcore.layout.namespace import Array
    from normcore.scaling.quantile_learner import QuantileLearner
    from normcore.scaling.scaler import Scaler
    from normcore.statistics import MergeableQuantiles, QuantileSketch

__all__ = ["QuantilePasses", "learns_quantiles"]

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
        from normcore.statistics.reread_quantiles import RereadQuantiles

        # A batch more or less is no matter, and lets any table be read.
        half = max(budget.left // 2, budget.batch_bytes)
        error = 2 / table.num_rows**0.5 if table.num_rows else _USUAL_ERROR
        error = max(error, _SKETCH_BYTES * num_columns / half, _LEAST_ERROR)
        ranks = scaler.ranks()
        assert ranks is not None
        self._backend = select_backend(np.empty((0, 0)), scaler.backend)
        self._passes = RereadQuantiles(
            self._backend, ranks, num_columns, min(error, _MOST_ERROR), half // 8
        )
        self._scaler = scaler
        self._kept: QuantileSketch | None = None
        if scaler.keep_sketch:
            self._kept = QuantileSketch.empty(num_columns, error=scaler.quantile_error)

    def sketch(self, x: np.ndarray) -> None:
        """Observe rows of the first pass."""
        from normcore.statistics import QuantileSketch

        view = self._view(x)
        self._passes.sketch(view)
        if self._kept is not None:
            more = QuantileSketch.observe(
                self._backend, view, skipna=True, error=self._scaler.quantile_error
            )
            self._kept = self._kept.merge(more)

    def begin(self) -> bool:
        """Begin another pass; False if none is needed."""
        return self._passes.begin()

    def add(self, x: np.ndarray) -> None:
        """Observe rows of a later pass."""
        self._passes.observe(self._view(x))

    def end(self) -> None:
        """End a pass that was begun."""
        self._passes.end()

    def statistic(self) -> MergeableQuantiles:
        """Return what was found."""
        from normcore.statistics import MergeableQuantiles

        found = self._passes.quantiles()
        return MergeableQuantiles(found.q, found.values, found.count, found.infinite, self._kept)

    def _view(self, x: np.ndarray) -> Array:
        return self._backend.adopt(x)[:, :, None]
