"""Computes states by Dask, whatever its scheduler, and finds the piece that failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import dask
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from normcore.engines.task import State, raise_failed

__all__ = ["CONNECT_SECONDS", "computed", "connected"]

#: How long a scheduler may take to answer.
CONNECT_SECONDS = 10


def computed(
    graph: dict[str, object], roots: Sequence[str], labels: Mapping[str, str]
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
    """
    layered = HighLevelGraph({roots[0]: graph}, {roots[0]: set()})

    def delayed(key: str) -> Delayed:
        return Delayed(key, layered, layer=roots[0])

    client = _client()
    if client is not None:
        return _computed_by_client(client, [delayed(root) for root in roots], labels)
    suspects = _Suspects(labels)
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
    """Knows the pieces that a task which was running at a failure was for."""

    def __init__(self, leaves: Mapping[str, str]) -> None:
        super().__init__()
        self._leaves = leaves
        self.found: set[str] = set()

    def _finish(self, graph: Any, state: Mapping[str, Any], errored: bool) -> None:
        if errored:
            self.found = _reached(
                state["running"], lambda key: state["dependents"].get(key, ()), self._leaves
            )


def _reached(
    keys: Iterable[Any], dependents: Callable[[Any], Iterable[Any]], leaves: Container[str]
) -> set[str]:
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
    client: Any, roots: Sequence[Delayed], labels: Mapping[str, str]
) -> list[State]:
    from distributed import KilledWorker

    merged = client.compute(list(roots))
    try:
        return client.gather(merged)
    except Exception as error:
        keys = [future.key for future in merged if future.status == "error"]
        blamed = client.run_on_scheduler(_blamed, keys=keys, leaves=set(labels))
        if not blamed:
            raise
        label = labels[min(blamed)]
        if isinstance(error, KilledWorker):
            raise MemoryError(
                f"{label}: the workers that took it ended, most likely for want of memory; "
                "make partitions smaller, or give workers more"
            ) from error
        raise_failed(label, error)
    finally:
        client.cancel(merged)  # what is not done, if it was interrupted


def _blamed(dask_scheduler: Any, keys: Sequence[str], leaves: set[str]) -> set[str]:
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
    """
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
