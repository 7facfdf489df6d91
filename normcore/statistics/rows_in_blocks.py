"""Views observed as blocks of rows of float64, for statistics that are told their values."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from types import ModuleType

import numpy as np

from normcore.layout.infinite_input import InfiniteInput
from normcore.layout.namespace import Array, array_namespace
from normcore.layout.tiling import Block, blocks
from normcore.statistics.statistic import StatisticT
from normcore.threads.for_each import for_each

__all__ = ["observed_rows"]

# Elements of a block: on the host what a thread holds of it stays in a cache, and on a device one
# is enough work for all of it.
_BLOCK, _DEVICE_BLOCK = 1 << 15, 1 << 22
# Blocks merge within ranges, and these in order, so that threads do not matter.
_RANGES = 64


def observed_rows(
    of_rows: Callable[..., StatisticT],
    x: Array,
    weights: Array,
    merge: Callable[[StatisticT, StatisticT], StatisticT] | None,
) -> StatisticT:
    """Return the statistic of an ``(N, C, S)`` view, on the host.

    Parameters
    ----------
    of_rows : callable
        ``of_rows(xp, values)`` of tables (n, C), on the host; with weights also ``weights=``,
        (n, 1).
    merge : callable or None
        Without one the view is one block.

    Raises
    ------
    InfiniteInput
        If a value is infinite.
    """
    xp = array_namespace(x)
    on_host = isinstance(x, np.ndarray)

    def observe(block: Block) -> StatisticT:
        values = _table(xp, x[block[0], :, block[1]])
        if bool(xp.any(xp.isinf(values))):
            raise InfiniteInput
        if weights is None:
            return of_rows(xp, values)
        beside = xp.reshape(xp.astype(weights[block[0], block[1]], xp.float64), (-1, 1))
        return of_rows(xp, values, weights=beside)

    parts = list(blocks(x.shape, _BLOCK if on_host else _DEVICE_BLOCK))
    if merge is None or len(parts) < 2:
        return observe((slice(None), slice(None)))
    num_ranges = min(len(parts), _RANGES)
    found: list[StatisticT | None] = [None] * num_ranges

    def observe_range(index: int) -> None:
        first, last = (each * len(parts) // num_ranges for each in (index, index + 1))
        found[index] = reduce(merge, map(observe, parts[first:last]))

    for_each(observe_range, num_ranges, in_threads=on_host)
    return reduce(merge, (each for each in found if each is not None))


def _table(xp: ModuleType, view: Array) -> Array:
    """Return a view as a float64 table of its channels, which cannot be written into in NumPy."""
    if view.shape[2] == 1:
        table = view[:, :, 0]
    else:
        table = xp.reshape(xp.permute_dims(view, (0, 2, 1)), (-1, view.shape[1]))
    if not isinstance(table, np.ndarray):
        return xp.astype(table, xp.float64)
    table = table.view() if table.dtype == np.float64 else table.astype(np.float64)
    table.flags.writeable = False  # it may be the user's
    return table
