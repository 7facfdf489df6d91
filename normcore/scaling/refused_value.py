"""The place of a finite value that a map or a statistic takes for infinite."""

from __future__ import annotations

from collections.abc import Callable

from normcore.array_backend.abstract import InfiniteInput
from normcore.layout.namespace import Array, array_namespace
from normcore.scaling.input_validation import Names, column_label

__all__ = ["name_refused_value"]


def name_refused_value(
    error: InfiniteInput, call: Callable[[Array], object], x: Array, names: Names | None
) -> None:
    """Add to the error of a table without infinities which value it is about.

    ``call`` raises that error of some rows too, in which NaN may stand for any value. Where it
    does not, as where it depends on the rest of the table, the error stays as it is.
    """
    xp = array_namespace(x)

    def refuses(table: Array) -> bool:
        try:
            call(table)
        except InfiniteInput:
            return True
        return False

    try:
        row = _first(lambda start, stop: refuses(x[start:stop, :]), x.shape[0])
        values = xp.astype(x[row : row + 1, :], xp.float64)
        nan = xp.full_like(values, float("nan"))

        def alone(start: int, stop: int) -> Array:
            return xp.concat([nan[:, :start], values[:, start:stop], nan[:, stop:]], axis=1)

        column = _first(lambda start, stop: refuses(alone(start, stop)), x.shape[1])
        if not refuses(alone(column, column + 1)):
            return
    except Exception:  # what goes wrong with parts of the table is beside the point
        return
    label = column_label(column, names)
    what = str(error) or "X holds a value that is too large"
    error.args = (f"{what}: it is {float(values[0, column])!r} in {label}, first at row {row}",)


def _first(refused: Callable[[int, int], bool], count: int) -> int:
    """Return the first place that is refused, if those from start to stop can be asked about."""
    start, stop = 0, count
    while stop - start > 1:
        middle = (start + stop) // 2
        if refused(start, middle):
            stop = middle
        else:
            start = middle
    return start
