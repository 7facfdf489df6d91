"""Two passes over a table, and what they say of its columns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from normcore.array_backend.abstract import Backend
from normcore.io.columns import chosen_columns
from normcore.io.digits import LostDigits
from normcore.io.passes import Passes
from normcore.io.streaming.spool import Spool
from normcore.io.table import TableSource
from normcore.reporting.column import ColumnReport
from normcore.reporting.describing import Description
from normcore.reporting.first_look import FirstLook

__all__ = ["survey"]


def survey(
    table: TableSource,
    passes: Passes,
    *,
    columns: Sequence[str] | None,
    exclude: Sequence[str] | None,
    backend: str | Backend | None,
    keep_zeros: bool,
) -> tuple[int, list[ColumnReport]]:
    """Return the number of rows of a table, and what there is to say of its columns.

    Parameters
    ----------
    table : TableSource
    passes : Passes
        Over this table.
    columns, exclude, backend
        As of :func:`normcore.reporting.report`.
    keep_zeros : bool
        Whether the scalers should map zero to zero.
    """
    fields = _looked_at(table, columns, exclude)
    lost: dict[str, str] = {}
    while True:
        names = tuple(name for name, numeric in fields.items() if numeric and name not in lost)
        keep = passes.kept_in(names)
        try:
            with Spool(table, passes.budget, keep, Path(tempfile.gettempdir())) as spool:
                found = _two_passes(table, passes, names, spool, backend, keep_zeros)
            break
        except _Rounded as error:
            if not table.reread:
                raise ValueError(f"{table.name}: {error.cause}") from error.cause
            lost[error.cause.column] = str(error.cause)
    return found.num_rows, found.columns(
        {place: field for place, field in enumerate(table.fields) if field.name in fields}, lost
    )


class _Rounded(Exception):
    """A column holds numbers that no float64 is."""

    def __init__(self, cause: LostDigits) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _looked_at(
    table: TableSource, columns: Sequence[str] | None, exclude: Sequence[str] | None
) -> dict[str, bool]:
    """Return the columns of the report, and whether they are taken as numbers."""
    if columns is not None or exclude is not None:
        if columns is None:
            columns = [field.name for field in table.fields if field.dtype is not None]
        return dict.fromkeys(chosen_columns(table, columns, exclude), True)
    return {
        field.name: field.dtype is not None and (field.by_default or field.kind in _TRUTH)
        for field in table.fields
    }


_TRUTH = ("bool", "truth values")


def _two_passes(
    table: TableSource,
    passes: Passes,
    names: tuple[str, ...],
    spool: Spool,
    backend: str | Backend | None,
    keep_zeros: bool,
) -> Description:
    first = FirstLook(len(names), table.num_rows, backend)
    if not names:
        return Description(names, first, _count(table, passes, spool), backend)
    with passes.looking("read", names, spool) as batches:
        for batch in batches:
            try:
                x = batch.matrix(names)
            except LostDigits as error:
                raise _Rounded(error) from error
            first.add(x, batch.null_counts(names))
            del batch, x
    found = Description(names, first, first.tally.num_rows, backend, keep_zeros=keep_zeros)
    if first.tally.num_rows:
        with passes.looking("count", names, spool, again=True) as batches:
            for batch in batches:
                found.second.add(batch.matrix(names))
                del batch
    return found


def _count(table: TableSource, passes: Passes, spool: Spool) -> int:
    """Return the number of rows of a table without a column of numbers."""
    if table.num_rows is not None:
        return table.num_rows
    with passes.looking("read", (), spool) as batches:
        return sum(batch.num_rows for batch in batches)
