"""The engine of Dask: one graph for each pass, and a tree that merges eight states at a time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import dask

from normcore.engines import dask_runs
from normcore.engines.dask_tables import Delayed, opened_table
from normcore.engines.engine import Description, Engine
from normcore.engines.mapping import ScaledPieces
from normcore.engines.task import State, Task
from normcore.layout.namespace import Array

if TYPE_CHECKING:
    from contextlib import ExitStack

__all__ = ["FAN_IN", "DaskEngine"]

#: States that are merged at a time.
FAN_IN = 8


class _Pending(NamedTuple):
    """States that are still to be computed: those of blocks of columns, and of their pieces."""

    blocks: list[list[Delayed]]
    partials: list[Delayed]
    labels: list[str]


class DaskEngine(Engine[_Pending]):
    """Runs tasks where the chunks, partitions and delayed objects of Dask are.

    Dask's own configuration and the client of the process decide where that is.

    Parameters
    ----------
    scheduler : str, optional
        Address of a scheduler that the command line connects to; without one it starts worker
        processes on this machine, and ends them.
    """

    def __init__(self, scheduler: str | None = None) -> None:
        super().__init__(scheduler)
        self._stack: ExitStack | None = None

    @classmethod
    def takes(cls, X: Array) -> bool:
        """See :meth:`Engine.takes`."""
        return opened_table(X) is not None

    def describe(self, X: Array, owner: str) -> Description:
        """See :meth:`Engine.describe`."""
        return _table(X).describe(owner)

    def partial(self, task: Task, X: Array, weights: Array = None) -> _Pending:
        """See :meth:`Engine.partial`."""
        table = _table(X)
        if task.names is None and not task.scaler._by_feature:
            table = table.of_whole_rows()
        run = uuid.uuid4().hex[:12]
        # Once in the graph, and not with each piece.
        node = dask.delayed(task, pure=False, traverse=False)
        observe = dask.delayed(_partial, pure=False, traverse=False)
        parts = table.weights(weights)
        blocks: list[list[Delayed]] = []
        partials: list[Delayed] = []
        labels: list[str] = []
        for pieces in table.pieces():
            block = []
            for row, (chunk, piece) in enumerate(pieces):
                name = f"observe-{run}-{len(partials)}"
                weight = None if parts is None else parts[row]
                state = observe(node, chunk, piece, weight, dask_key_name=name)
                block.append(state)
                partials.append(state)
                labels.append(piece.label)
            blocks.append(block)
        return _Pending(blocks, partials, labels)

    def merge(self, task: Task, partials: _Pending) -> _Pending:
        """See :meth:`Engine.merge`."""
        run = uuid.uuid4().hex[:12]
        node = dask.delayed(task, pure=False, traverse=False)
        merge = dask.delayed(_merge, pure=False, traverse=False)
        roots = []
        for number, block in enumerate(partials.blocks):
            level, states = 0, block
            while len(states) > 1:
                level += 1
                states = [
                    merge(
                        node,
                        states[i : i + FAN_IN],
                        dask_key_name=f"merge-{run}-{number}-{level}-{i}",
                    )
                    for i in range(0, len(states), FAN_IN)
                ]
            roots.append(states)
        return partials._replace(blocks=roots)

    def finalize(self, task: Task, merged: _Pending) -> list[State]:
        """See :meth:`Engine.finalize`."""
        roots = [root for block in merged.blocks for root in block]
        return dask_runs.computed(roots, merged.partials, merged.labels)

    def map(self, X: Array, scaled: ScaledPieces, container: str) -> Array:
        """See :meth:`Engine.map`."""
        table = _table(X)
        if not scaled.by_feature:
            table = table.of_whole_rows()
        return table.mapped(scaled, container)

    def distribute(self, items: Sequence[object]) -> Array:
        """See :meth:`Engine.distribute`."""
        return [dask.delayed(item, pure=False, traverse=False) for item in items]

    def __enter__(self) -> Self:
        self._stack = dask_runs.connected(self.scheduler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stack is not None:
            self._stack.close()
            self._stack = None


def _table(X: Array) -> Any:
    table = opened_table(X)
    assert table is not None
    return table


def _partial(task: Task, chunk: Array, piece: Any, weights: Array) -> State:
    return task.partial(chunk, piece, weights)


def _merge(task: Task, states: list[State]) -> State:
    return task.merge(states)
