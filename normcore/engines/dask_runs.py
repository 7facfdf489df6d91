"""Computes states by Dask, whatever its scheduler, and finds the piece that failed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import dask
from dask.base import get_scheduler
from dask.callbacks import Callback

from normcore.engines.dask_tables import Delayed
from normcore.engines.task import State, raise_failed

__all__ = ["CONNECT_SECONDS", "computed", "connected"]

#: How long a scheduler may take to answer.
CONNECT_SECONDS = 10


def computed(
    roots: Sequence[Delayed], partials: Sequence[Delayed], labels: Sequence[str]
) -> list[State]:
    """Return what the roots of trees are.

    Parameters
    ----------
    roots, partials : sequence of Delayed
        The partials are the leaves.
    labels : sequence of str
        What errors call the pieces that these are of.
    """
    client = _client()
    if client is not None:
        return _computed_by_client(client, roots, partials, labels)
    suspects = _Suspects({each.key: number for number, each in enumerate(partials)})
    try:
        with suspects:
            return list(dask.compute(*roots))
    except Exception as error:
        for number in sorted(suspects.found):
            again = error if len(suspects.found) == 1 else _failure(partials[number])
            if again is not None:
                raise_failed(labels[number], again)
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

    def __init__(self, numbers: Mapping[str, int]) -> None:
        super().__init__()
        self._numbers = numbers
        self.found: set[int] = set()

    def _finish(self, graph: Any, state: Mapping[str, Any], errored: bool) -> None:
        if not errored:
            return
        seen, ahead = set(), list(state["running"])
        while ahead:
            key = ahead.pop()
            if key in seen:
                continue
            seen.add(key)
            if key in self._numbers:
                self.found.add(self._numbers[key])
            else:
                ahead.extend(state["dependents"].get(key, ()))


def _client() -> Any:
    """Return the client of distributed that Dask computes by, if it does."""
    if "distributed" not in sys.modules:
        return None
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "compute") else None


def _computed_by_client(
    client: Any, roots: Sequence[Delayed], partials: Sequence[Delayed], labels: Sequence[str]
) -> list[State]:
    from distributed import KilledWorker, as_completed

    merged = client.compute(list(roots))
    leaves = client.compute(list(partials))
    numbers = {future.key: number for number, future in enumerate(leaves)}
    waiting = as_completed(leaves)
    del leaves  # a state is forgotten once it is merged
    try:
        for future in waiting:
            if future.status == "finished":
                continue
            label = labels[numbers[future.key]]
            try:
                future.result()
            except KilledWorker as error:
                raise MemoryError(
                    f"{label}: the workers that took it ended, most likely for want of memory; "
                    "make partitions smaller, or give workers more"
                ) from error
            except Exception as error:
                raise_failed(label, error)
        return client.gather(merged)
    except BaseException:
        client.cancel([*merged, *waiting.futures])
        raise


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
