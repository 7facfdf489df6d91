"""A table of an engine as scalers take it: observed in passes, mapped when it is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.engines.mapping import ScaledPieces
from normcore.engines.task import KEPT, ROWS, BracketTask, ObserveTask, SketchTask, State, Task
from normcore.engines.weighted_task import weighted_quantiles
from normcore.io.quantile_passes import learns_quantiles, sketch_error
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.containers.table import PiecewiseTable
from normcore.statistics import MergeableQuantiles, Statistic
from normcore.statistics.reread_quantiles import (
    RereadQuantiles,
    ValuesChanged,
    sampling_stride,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from normcore.engines.engine import Engine
    from normcore.scaling.learning import Learning
    from normcore.scaling.transforming import Transforming

__all__ = ["STATE_BYTES", "EngineTable", "check_mergeable", "exact_quantiles"]

#: What a state of a sketch or of brackets takes at most, unless less is asked for.
STATE_BYTES = 32 << 20


class EngineTable(PiecewiseTable):
    """A table whose pieces an engine reaches.

    Parameters
    ----------
    engine : Engine
    X : table of the engine
    owner : str
        Name of the class in whose name errors speak.
    """

    def __init__(self, engine: Engine[Any], X: Array, owner: str) -> None:
        self._engine, self._X, self._owner = engine, X, owner
        found = engine.describe(X, owner)
        self.kind = found.kind  # type: ignore[misc]
        self.names = found.names
        self.shape = found.num_rows or 0, found.num_columns
        self._known_rows = found.num_rows
        self._containers = found.containers
        self._container = "default"
        self.num_rows = 0
        if not found.num_columns:
            input_validation.check_shape(np.empty((1, 0)), owner)

    def observed(self, scaler: Learning, weights: Array) -> Statistic | None:
        """Return the scaler's statistic, merged from those of the pieces."""
        if learns_quantiles(scaler):  # type: ignore[arg-type]
            statistic, rows = exact_quantiles(
                lambda task: self._engine.run(task, self._X, weights),
                scaler,
                self.names,
                self.shape[1],
                self._known_rows,
                weighted=weights is not None,
            )
            self._finish(rows, weights)
            return statistic
        check_mergeable(scaler, self.kind)
        task = ObserveTask(scaler, self.names, self.shape[1])  # type: ignore[arg-type]
        states = self._engine.run(task, self._X, weights)
        self._finish(states[0][ROWS], weights)
        return task.statistic(states)

    def _finish(self, rows: dict[str, np.ndarray], weights: Array) -> None:
        self.num_rows = int(rows["seen"])
        if not self.num_rows:
            input_validation.check_shape(np.empty((0, self.shape[1])), self._owner)
        if weights is not None:
            if not rows["heaviest"]:
                raise ValueError("Sample weights must contain at least one non-zero number.")
            input_validation.check_sum_of_weights(float(rows["weight"]), float(rows["heaviest"]))

    def mapped(
        self,
        scaler: Transforming,
        inverse: bool,
        copy: bool,
        out: Array,
        chosen: np.ndarray | None,
    ) -> Array:
        """Return the table whose pieces are scaled, by what is learned now."""
        if out is not None:
            raise TypeError(f"out= is for arrays; {self.kind} data is scaled when it is computed")
        pieces = ScaledPieces(scaler, inverse, chosen, self.names)
        return self._engine.map(self._X, pieces, "default" if inverse else self._container)

    def check_container(self, container: str) -> None:
        """Refuse containers that this table does not become."""
        if container not in self._containers:
            super().check_container(container)
        self._container = container


def check_mergeable(scaler: Learning, kind: str) -> None:
    """Refuse a scaler that does not learn from pieces what it would from the whole.

    Raises
    ------
    TypeError
        Saying what to do.
    """
    if scaler.statistic is None or scaler.exact_streaming:
        return
    name = type(scaler).__name__
    if getattr(scaler, "quantiles", None) == "exact":
        raise TypeError(
            f"{name} needs all values of a column at once for what it learns, unless "
            f"quantiles='sketch', which {kind} data takes"
        )
    raise TypeError(
        f"{name} needs all values of a column at once, which {kind} data does not give; fit it to "
        "an array in memory, of some of the rows if need be"
    )


def exact_quantiles(
    run: Callable[[Task], list[State]],
    scaler: Any,
    names: input_validation.Names | None,
    num_columns: int,
    num_rows: int | None,
    state_bytes: int = STATE_BYTES,
    *,
    weighted: bool = False,
) -> tuple[MergeableQuantiles | None, dict[str, np.ndarray]]:
    """Return exact quantiles of a table, in two passes or more, and how many rows there are.

    Parameters
    ----------
    run : callable
        Returns what a task finds in all of the table.
    scaler : QuantileLearner
    names, num_columns, num_rows
        As in a :class:`~normcore.engines.engine.Description`.
    state_bytes : int
        Of a state at most.
    weighted : bool
        Whether ``run`` gives tasks the weights of rows.

    Raises
    ------
    ValueError
        If it holds infinity, or other values in another pass.
    """
    find = weighted_quantiles if weighted else _quantiles
    try:
        return find(run, scaler, names, num_columns, num_rows, state_bytes)
    except ValuesChanged as changed:
        raise ValueError(
            f"X is not the same in each pass: {changed}; keep it (.persist()), or use "
            "quantiles='sketch', which takes one pass"
        ) from changed


def _quantiles(
    run: Callable[[Task], list[State]],
    scaler: Any,
    names: input_validation.Names | None,
    num_columns: int,
    num_rows: int | None,
    state_bytes: int,
) -> tuple[MergeableQuantiles | None, dict[str, np.ndarray]]:
    stride = sampling_stride(num_rows)
    error = sketch_error(num_rows, num_columns, state_bytes, stride)
    first = SketchTask(scaler, names, num_columns, error, stride)
    states = run(first)
    sketch = first.sketch(states)
    if sketch is None:
        return None, states[0][ROWS]
    backend = select_backend(np.empty((0, 0)), scaler.backend)
    passes = RereadQuantiles(backend, scaler.ranks(), sketch, state_bytes // 8, first.count(states))
    while (plan := passes.plan()) is not None:
        task = BracketTask(scaler, names, num_columns, plan)
        passes.learn(task.brackets(run(task)))
    found = passes.quantiles()
    kept = first.sketch(states, KEPT)
    exact = scaler.statistic(found.q, found.values, found.count, found.infinite, kept)
    return exact, states[0][ROWS]
