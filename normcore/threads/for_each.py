"""Calls in Python, one for each item, in threads that have the caller's context."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context

from normcore.threads.settings import run

__all__ = ["for_each"]


def for_each(visit: Callable[[int], object], num_items: int, *, in_threads: bool = True) -> None:
    """Call ``visit`` with every index below ``num_items``, in some threads or in this one alone.

    Context variables are the caller's, such as NumPy's errstate.
    """
    context = copy_context()

    def work(start: int, stop: int) -> None:
        def part() -> None:
            for index in range(start, stop):
                visit(index)

        context.copy().run(part)

    if in_threads:
        run(work, num_items)
    else:
        work(0, num_items)
