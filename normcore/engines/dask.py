"""The engine of Dask: one graph for each pass, and a tree that merges eight states at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from normcore.package.needed_library import needed

with needed("the engine 'dask' needs Dask", "dask", "dask"):
    import dask
from dask.core import get_deps
from dask.task_spec import Alias, DataNode, GraphNode, List, TaskRef
from dask.task_spec import Task as Node

from normcore.engines import dask_runs
from normcore.engines.dask_runs import Key
from normcore.engines.dask_tables import DaskTable, graph_of, opened_table
from normcore.engines.engine import Description, Engine
from normcore.engines.mapping import ScaledPieces
from normcore.engines.task import (
    Piece,
    State,
    Task,
    failures_named,
    release_memory_of_arrow,
)
from normcore.layout.namespace import Array

if TYPE_CHECKING:
    from contextlib import ExitStack

__all__ = ["FAN_IN", "DaskEngine"]

#: States that are merged at a time.
FAN_IN = 8


class _Pending(NamedTuple):
    """States that are still to be computed: their keys for each block of columns."""

    graph: dict[Any, object]
    blocks: list[list[Key]]
    labels: dict[Key, str]  # what errors call the pieces, by the keys of their states
    run: str


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
        table = _table(X, by_feature=task.scaler._by_feature)
        run, pieces = uuid.uuid4().hex[:12], table.pieces()
        parts = table.weights(weights, len(pieces[0]))
        # A graph of keys: delayed objects for each task would take ten times as long to make.
        graph: dict[Any, Any] = graph_of(
            [chunk for block in pieces for chunk, _ in block] + (parts or [])
        )
        shared = TaskRef(f"task-{run}")
        graph[shared.key] = DataNode(shared.key, task)  # once, and not with each piece
        blocks: list[list[Key]] = []
        labels: dict[Key, str] = {}
        for block in pieces:
            blocks.append([])
            for row, (chunk, piece) in enumerate(block):
                key = f"observe-{run}", len(labels)
                weight: Any = None if parts is None else parts[row]
                if hasattr(weight, "key"):
                    weight = TaskRef(weight.key)
                graph[key] = Node(key, _partial, shared, TaskRef(chunk.key), weight, *piece)
                labels[key] = piece.label
                blocks[-1].append(key)
        _fuse_chunks(graph, labels, [chunk.key for block in pieces for chunk, _ in block])
        return _Pending(graph, blocks, labels, run)

    def merge(self, task: Task, partials: _Pending) -> _Pending:
        """See :meth:`Engine.merge`."""
        run, graph, roots = partials.run, partials.graph, []
        for keys in partials.blocks:
            while len(keys) > 1:
                merged: list[Key] = []
                for start in range(0, len(keys), FAN_IN):
                    merged.append((f"merge-{run}", len(graph)))
                    states = List(*map(TaskRef, keys[start : start + FAN_IN]))
                    graph[merged[-1]] = Node(merged[-1], _merge, TaskRef(f"task-{run}"), states)
                keys = merged
            roots.append(keys)
        return partials._replace(blocks=roots)

    def finalize(self, task: Task, merged: _Pending) -> list[State]:
        """See :meth:`Engine.finalize`."""
        roots = [root for keys in merged.blocks for root in keys]
        return dask_runs.computed(merged.graph, roots, merged.labels, self.watch)

    def map(self, X: Array, scaled: ScaledPieces, container: str) -> Array:
        """See :meth:`Engine.map`."""
        return _table(X, by_feature=scaled.by_feature).mapped(scaled, container)

    def distribute(self, items: Sequence[object]) -> Array:
        """See :meth:`Engine.distribute`."""
        return [dask.delayed(item, pure=False, traverse=False) for item in items]

    def pieces(self, X: Array) -> Iterator[Array]:
        """See :meth:`Engine.pieces`."""
        (pieces,) = _table(X, by_feature=False).pieces()
        for chunk, piece in pieces:
            with failures_named(piece.label):
                rows = chunk.compute()
            yield rows

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


def _table(X: Array, *, by_feature: bool = True) -> DaskTable:
    """Return a table that was taken, in pieces that can be looked at each by itself."""
    table = opened_table(X)
    assert table is not None
    return table if by_feature else table.of_whole_rows()


def _fuse_chunks(graph: dict[Any, Any], observing: Iterable[Key], chunks: list[object]) -> None:
    """Have each chunk made by the task that observes it, if that is all it is made for.

    A worker otherwise makes chunks ahead, and holds them until it observes them.
    """
    _, dependents = get_deps(graph)
    for key, chunk in zip(observing, chunks, strict=True):
        making: list[GraphNode] = []
        ahead, last = chunk, cast(object, key)
        while dependents.get(ahead) == {last} and isinstance(graph.get(ahead), Node | Alias):
            making.append(graph.pop(ahead))
            if len(making[-1].dependencies) != 1:
                break
            last, (ahead,) = ahead, making[-1].dependencies
        if making:
            task, _, *rest = graph[key].args
            made = GraphNode.fuse(*reversed(making), key=chunk)
            needed = list(made.dependencies)
            values = List(*map(TaskRef, needed))
            graph[key] = Node(key, _made_and_observed, task, _Recipe(made, needed), values, *rest)


class _Recipe:
    """How a chunk is made, which Dask is not to look into."""

    def __init__(self, node: GraphNode, needed: list[object]) -> None:
        self._node, self._needed = node, needed

    def made(self, values: list[object]) -> Array:
        """Return the chunk, from the results of the tasks that it needs."""
        return self._node(dict(zip(self._needed, values, strict=True)))


def _made_and_observed(
    task: Task, recipe: _Recipe, values: list[object], weights: Array, *piece: Any
) -> State:
    """Return the state of a chunk, of which nothing is left then, not even in Arrow's pool."""
    state = _partial(task, recipe.made(values), weights, *piece)
    release_memory_of_arrow()
    return state


def _partial(
    task: Task, chunk: Array, weights: Array, label: str, first: int, last: int | None
) -> State:
    return task.partial(chunk, Piece(label, first, last), weights)


def _merge(task: Task, states: list[State]) -> State:
    return task.merge(states)
