"""Fits scalers to files by an engine: whoever runs a task opens the files itself."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normcore.engines.table import STATE_BYTES, check_mergeable, exact_quantiles
from normcore.engines.task import (
    ROWS,
    SOME,
    ObserveTask,
    Piece,
    SketchTask,
    State,
    Task,
    counted_rows,
    failures_named,
    merged_states,
)
from normcore.io.columns import are_named, check_axis, chosen_columns, other_columns
from normcore.io.fitting import refuse_infinity, shares_statistic, values_of
from normcore.io.opening import Source, open_table
from normcore.io.quantile_passes import learns_quantiles
from normcore.io.report import Progress, ProgressCallback, Report
from normcore.io.streaming.memory import MEMORY_LIMIT, Budget
from normcore.io.tally import Tally
from normcore.layout.namespace import Array
from normcore.statistics import Extrema, Moments

if TYPE_CHECKING:
    from normcore.engines.engine import Engine
    from normcore.io.csv.options import CsvOptions
    from normcore.io.table import TableSource
    from normcore.scaling.scaler import Scaler
    from normcore.statistics import Statistic

__all__ = ["FilePiece", "fit_files"]

# Row groups are one piece until they have so many rows, and so is a file of so many bytes.
_PIECE_ROWS, _PIECE_BYTES = 1 << 20, 16 << 20
# The states that a merge has before it, its result, and one that waits to be sent.
_STATES_AT_WORK = 10
_MOMENTS, _EXTREMA = "moments", "extrema"


class FilePiece(NamedTuple):
    """A file, or some of its row groups, as whoever opens it is to find it."""

    path: str
    csv: CsvOptions | None = None
    groups: tuple[int, ...] | None = None
    first_row: int = 0


def fit_files(
    source: Source,
    scaler: Scaler,
    engine: Engine[Any],
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
    csv: CsvOptions | None = None,
) -> Report:
    """Fit a scaler to the numeric columns of files that an engine's workers read.

    Parameters
    ----------
    source : path
        A file, a directory of files or a pattern of names, which workers see under the same names.
    scaler : Scaler
        What it had learned before is forgotten; after an error it is as it was.
    engine : Engine
    memory_limit : int
        Bytes that each thread of a worker should stay below, with what its process shares.
    progress : callable, optional
        Called now and then with a :class:`Progress`, whose rows and bytes are those of the pieces
        that are finished in a pass, on the average.
    columns, exclude, batch_rows, csv
        As in :func:`normcore.io.fit_source`.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If a file is malformed, holds infinity, or lacks a column, or all are without rows.
    TypeError
        If the scaler needs all values at once.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import normcore as nc
    >>> from normcore.engines import fit_files
    >>> from normcore.engines.dask import DaskEngine
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.npy", "b.npy"):
    ...         np.save(os.path.join(folder, name), np.ones((4, 2)))
    ...     scaler = nc.MaxAbsScaler()
    ...     report = fit_files(folder, scaler, DaskEngine())
    >>> scaler.max_abs_
    array([1., 1.])
    """
    scaler._check_parameters()
    budget = Budget(memory_limit)
    if not isinstance(source, str | os.PathLike) or str(source) == "-":
        raise TypeError("an engine reads files: give the path of a file, a directory or a pattern")
    table = open_table(source, csv=csv)
    try:
        check_axis(table, scaler)
        names = chosen_columns(table, columns, exclude)
        pieces = list(_pieces(table, csv))
        _refuse_keys(pieces[0], names)
        named = are_named(table, names)
        num_rows, num_bytes = table.num_rows, table.num_bytes
        notes, others = table.notes, other_columns(table, names)
    finally:
        table.close()
    X = engine.distribute(pieces)
    tally = Tally(len(names))

    def run(task: Task | None) -> list[State]:
        """Run a task on the columns; the first one finds what the report tells too."""
        first = tally.num_rows == 0
        whole = _FileTask(scaler, names, task, budget.batch_bytes, batch_rows, counts=first)
        known = tally.num_rows or num_rows
        with _watching(engine, progress, len(pieces), known, num_bytes):
            states = engine.run(whole, X)
        if first and _MOMENTS in states[0]:
            tally.num_rows = int(states[0][ROWS]["seen"])
            tally.moments = Moments.from_state(states[0][_MOMENTS])
            tally.extrema = Extrema.from_state(states[0][_EXTREMA])
        return states

    statistic: Statistic | None
    if shares_statistic(scaler):
        run(None)
        statistic = tally.statistic(scaler.statistic)
    elif learns_quantiles(scaler):
        room = _state_bytes(budget)
        statistic, _ = exact_quantiles(run, scaler, names, len(names), num_rows, room)
    else:
        check_mergeable(scaler, "distributed")
        task = ObserveTask(scaler, names, len(names))
        statistic = task.statistic(run(task))
    if not tally.num_rows:
        raise ValueError(f"{source} has columns but no rows; there is nothing to fit to")
    fitted = copy.copy(scaler).fit_statistic(
        statistic,
        tally.num_rows,
        len(names),
        np.array(names, dtype=object) if named else None,
    )
    scaler.__dict__ = fitted.__dict__
    return Report(names, others, tally, None, notes)


class _FileTask(Task):
    """What is to be found in the columns of files, batch by batch.

    Parameters
    ----------
    inner : Task or None
        What is to be found in a batch.
    batch_bytes : int
        Of a batch at most.
    batch_rows : int, optional
        Likewise.
    counts : bool
        Whether to find moments and extrema too.
    """

    def __init__(
        self,
        scaler: Scaler,
        names: Sequence[str],
        inner: Task | None,
        batch_bytes: int,
        batch_rows: int | None,
        *,
        counts: bool,
    ) -> None:
        super().__init__(scaler, names, len(names))
        self._inner, self._counts = inner, counts
        self._batch_bytes, self._batch_rows = batch_bytes, batch_rows
        if counts and isinstance(inner, SketchTask):
            inner.finds_extrema = False  # which are found for the report too

    def partial(self, chunk: Array, piece: Piece = SOME, weights: Array = None) -> State:
        """See :meth:`Task.partial`."""
        with failures_named(chunk.path):
            return self.observed(chunk, piece, weights)

    def observed(self, chunk: FilePiece, piece: Piece, weights: Array) -> State:
        """See :meth:`Task.observed`."""
        names = tuple(self.names or ())
        tally = Tally(len(names), self.scaler.backend)
        found: State | None = None
        with _opened(chunk) as table:
            table.batch_bytes = self._batch_bytes
            chosen_columns(table, names)  # as they were when the pieces were made
            for batch in table.batches(names, others=False, batch_rows=self._batch_rows):
                if not batch.num_rows:
                    continue
                batch.first_row += chunk.first_row
                x = values_of(batch, names, by_column=self._inner is None)
                place = tally.add(x) if self._counts else None
                if place is not None:
                    refuse_infinity(x, place, batch, table, names)
                if self._inner is not None:
                    state = self._inner.observed(x, SOME, None)
                    found = state if found is None else self._inner.merge([found, state])
        found = found or counted_rows(tally.num_rows)
        if self._counts:
            found |= {_MOMENTS: tally.moments.to_state(), _EXTREMA: tally.extrema.to_state()}
        return found

    def merged(self, name: str, states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """See :meth:`Task.merged`."""
        kinds: dict[str, type[Statistic]] = {_MOMENTS: Moments, _EXTREMA: Extrema}
        if name in kinds:
            return merged_states(kinds[name], states)
        assert self._inner is not None
        return self._inner.merged(name, states)


@contextmanager
def _watching(
    engine: Engine[Any],
    progress: ProgressCallback | None,
    num_pieces: int,
    num_rows: int | None,
    num_bytes: int | None,
) -> Iterator[None]:
    """Tell how far a pass has come, by how many of its pieces are finished."""
    if progress is None:
        yield
        return

    def tell(num_done: int) -> None:
        rows, nbytes = ((whole or 0) * num_done // num_pieces for whole in (num_rows, num_bytes))
        progress(Progress("fit", rows, num_rows, nbytes, num_bytes))

    engine.watch = tell
    try:
        tell(0)
        yield
        tell(num_pieces)
    finally:
        engine.watch = None


def _state_bytes(budget: Budget) -> int:
    """Return what a state of exact quantiles may take, beside the batches of a worker."""
    return min((budget.whole + 14 * budget.batch_bytes) // _STATES_AT_WORK, STATE_BYTES)


def _pieces(table: TableSource, csv: CsvOptions | None) -> Iterator[FilePiece]:
    """Yield the files of a table, those of row groups in several pieces."""
    if not table.files:
        raise TypeError(f"{table.name} is not of files, which an engine reads")
    for file in table.files:
        path = os.path.abspath(file)
        runs: list[tuple[list[int], int]] = []
        if os.path.getsize(path) > _PIECE_BYTES:
            with open_table(path, csv=csv) as opened:
                runs = list(opened.runs(_PIECE_ROWS)) if hasattr(opened, "runs") else []
        if not runs:
            yield FilePiece(path, csv)
        first_row = 0
        for groups, num_rows in runs:
            yield FilePiece(path, csv, tuple(groups), first_row)
            first_row += num_rows


def _opened(piece: FilePiece) -> TableSource:
    table = open_table(piece.path, csv=piece.csv)
    if piece.groups is not None:
        table.groups = piece.groups  # type: ignore[attr-defined]
    return table


def _refuse_keys(piece: FilePiece, names: Sequence[str]) -> None:
    """Refuse columns that the paths of files give, which no single file has."""
    with _opened(piece) as table:
        own = {field.name for field in table.fields}
    for name in names:
        if name not in own:
            raise ValueError(
                f"column {name!r} is a part of the files' paths, which an engine does not read"
            )
