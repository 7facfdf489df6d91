"""Computes states by Dask, whatever its scheduler, and finds the piece that failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import dask
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from normcore.engines.task import State, raise_failed
from normcore.package.needed_library import needed

__all__ = ["CONNECT_SECONDS", "Key", "computed", "connected"]

#: Of a task in a graph: a name that a run has for some of its tasks, and a number.
Key: TypeAlias = tuple[str, int]

#: How long a scheduler may take to answer.
CONNECT_SECONDS = 10
# Between looks at how many pieces are observed.
_LOOK_SECONDS = 0.2


def computed(
    graph: Mapping[Any, object],
    roots: Sequence[Key],
    labels: Mapping[Key, str],
    watch: Callable[[int], object] | None = None,
) -> list[State]:
    """Return what the roots of trees are.

    Parameters
    ----------
    graph : dict
        Of tasks by their keys.
    roots : sequence of str
        Keys.
    labels : dict
        What errors call the pieces that the leaves are of, by the keys of these.
    watch : callable, optional
        Called with the number of leaves that are computed, now and then.
    """
    layered = HighLevelGraph({"merged": graph}, {"merged": set()})

    def delayed(key: Key) -> Delayed:
        return Delayed(key, layered, layer="merged")

    client = _client()
    if client is not None:
        return _computed_by_client(client, [delayed(root) for root in roots], labels, watch)
    suspects = _Suspects(labels, watch)
    try:
        with suspects:
            return list(dask.compute(*map(delayed, roots)))
    except Exception as error:
        for key in sorted(suspects.found):
            again = error if len(suspects.found) == 1 else _failure(delayed(key))
            if again is not None:
                raise_failed(labels[key], again)
        raise


def _failure(partial: Delayed) -> Exception | None:
    """Return how a piece fails, if it does: of several that ran, it is not said which did."""
    try:
        partial.compute()
    except Exception as error:
        return error
    return None


class _Suspects(Callback):  # type: ignore[misc]
    """Counts pieces, and knows those that a task which was running at a failure was for."""

    def __init__(self, leaves: Mapping[Key, str], watch: Callable[[int], object] | None) -> None:
        super().__init__()
        self._leaves, self._watch = leaves, watch
        self._num_done = 0
        self.found: set[Key] = set()

    def _posttask(self, key: Any, result: Any, graph: Any, state: Any, worker: Any) -> None:
        if self._watch is not None and key in self._leaves:
            self._num_done += 1
            self._watch(self._num_done)

    def _finish(self, graph: Any, state: Mapping[str, Any], errored: bool) -> None:
        if errored:
            dependents = state.get("dependents", {})  # there is no state of a graph that cannot run
            self.found = _reached(
                state.get("running", ()), lambda key: dependents.get(key, ()), self._leaves
            )


def _reached(
    keys: Iterable[Any], dependents: Callable[[Any], Iterable[Any]], leaves: Container[Key]
) -> set[Key]:
    """Return the leaves that depend on some tasks."""
    found, seen, ahead = set(), set(), list(keys)
    while ahead:
        key = ahead.pop()
        if key in seen:
            continue
        seen.add(key)
        if key in leaves:
            found.add(key)
        else:
            ahead.extend(dependents(key))
    return found


def _client() -> Any:
    """Return the client of distributed that Dask computes by, if it does."""
    if "distributed" not in sys.modules:
        return None
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "compute") else None


def _computed_by_client(
    client: Any,
    roots: Sequence[Delayed],
    labels: Mapping[Key, str],
    watch: Callable[[int], object] | None,
) -> list[State]:
    from distributed import KilledWorker

    merged = client.compute(list(roots))
    try:
        if watch is not None:
            _watched(client, merged, labels, watch)
        return client.gather(merged)
    except Exception as error:
        keys = [future.key for future in merged if future.status == "error"]
        blamed = client.run_on_scheduler(_blamed, keys=keys, leaves=set(labels))
        if not blamed:
            raise
        label = labels[min(blamed)]
        if isinstance(error, KilledWorker):
            # What pieces share, as the task, may have been where the workers ended.
            which = f"{label}: the workers that took it" if len(blamed) == 1 else "the workers"
            raise MemoryError(
                f"{which} ended, most likely for want of memory; make partitions smaller, or give "
                "workers more"
            ) from error
        raise_failed(label, error)
    finally:
        client.cancel(merged)  # what is not done, if it was interrupted


def _watched(
    client: Any, merged: list[Any], labels: Mapping[Key, str], watch: Callable[[int], object]
) -> None:
    """Tell how many pieces are observed, until all is done."""
    from distributed import wait

    group, ahead = next(iter(labels))[0], len(labels)
    while True:
        try:
            wait(merged, timeout=_LOOK_SECONDS)
        except TimeoutError:
            found = client.run_on_scheduler(_num_ahead, group=group)
            ahead = ahead if found is None else found
            watch(len(labels) - ahead)
        else:
            return


def _num_ahead(dask_scheduler: Any, group: str) -> int | None:
    """Return how many tasks of a group are still to be done; None where there are none."""
    found = dask_scheduler.task_groups.get(group)
    if found is None:
        return None
    return sum(
        found.states.get(state, 0)
        for state in ("waiting", "queued", "processing", "no-worker", "erred")
    )


def _blamed(dask_scheduler: Any, keys: Sequence[Key], leaves: set[Key]) -> set[Key]:
    """Return the leaves that failed, or depend on what did, on the scheduler."""
    tasks = dask_scheduler.tasks
    causes = [tasks[key].exception_blame or tasks[key] for key in keys if key in tasks]

    def dependents(key: Any) -> list[Any]:
        return [each.key for each in tasks[key].dependents] if key in tasks else []

    return _reached([cause.key for cause in causes], dependents, leaves)


def connected(address: str | None) -> ExitStack:
    """Connect this process to a scheduler, or start workers here; closing it ends these.

    Raises
    ------
    TimeoutError
        If the scheduler does not answer.
    ModuleNotFoundError
        If distributed is missing.
    """
    with needed("workers of Dask need distributed", "dask", "distributed"):
        from distributed import Client, LocalCluster

    stack = ExitStack()
    try:
        if address is None:
            cluster = stack.enter_context(
                LocalCluster(processes=True, dashboard_address=None, host="127.0.0.1")
            )
            address = cluster.scheduler_address
        stack.enter_context(Client(address, timeout=CONNECT_SECONDS))
    except BaseException as error:
        stack.close()
        if isinstance(error, OSError):
            raise TimeoutError(
                f"no scheduler of Dask answers at {address} within {CONNECT_SECONDS} seconds"
            ) from error
        raise
    return stack
