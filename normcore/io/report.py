"""What a run tells while it goes on, and what it has done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from normcore.io.tally import Tally

__all__ = ["Progress", "ProgressCallback", "Report"]


class Progress(NamedTuple):
    """How far a run has come.

    Attributes
    ----------
    step : str
        "fit" or "transform"; "read" where a table is read first, and then transformed or, for a
        report, gone through again ("count").
    rows : int
        Done in this step.
    total_rows : int or None
        None where it is not known.
    bytes : int
        Read of the file, roughly.
    total_bytes : int or None
        None where it is not known.

    Examples
    --------
    >>> import normcore as nc
    >>> import pyarrow as pa
    >>> seen = []
    >>> table = pa.table({"height": [1.5, 2.5]})
    >>> report = nc.fit_source(table, nc.StandardScaler(), progress=seen.append)
    >>> seen[-1].step, seen[-1].rows
    ('fit', 2)
    """

    step: str
    rows: int
    total_rows: int | None
    bytes: int
    total_bytes: int | None


#: Called after each batch, by the thread that called the function it was given to.
ProgressCallback: TypeAlias = Callable[[Progress], object]


@dataclass
class Report:
    """What was done.

    Attributes
    ----------
    columns : tuple of str
        Those that were normalized.
    passed_through : tuple of str
        All others.
    before : Tally
        What the columns held.
    after : Tally or None
        What they hold in the output.
    notes : tuple of str
        What a user should know of the table, as that an index column was left alone.

    Examples
    --------
    >>> import normcore as nc
    >>> import pyarrow as pa
    >>> report = nc.fit_source(pa.table({"height": [1.5, 2.5]}), nc.StandardScaler())
    >>> report.columns, report.after is None
    (('height',), True)
    """

    columns: tuple[str, ...]
    passed_through: tuple[str, ...]
    before: Tally
    after: Tally | None = None
    notes: tuple[str, ...] = ()
