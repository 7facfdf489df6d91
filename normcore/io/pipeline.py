"""Fit a scaler to a table, and transform one table into another, batch by batch.

A table is a file, a directory, a stream, or an object of Python's that has the Arrow C stream
interface::

    import normcore as nc

    scaler = nc.StandardScaler()
    nc.fit_source("train.csv", scaler)
    nc.transform_source("test.csv", "test_scaled.parquet", scaler)

A thread reads ahead, another one writes behind, and the kernels run between them. What is kept for
a second pass is bounded by ``memory_limit``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from normcore.io.columns import chosen_columns, other_columns, scaler_columns, written_fields
from normcore.io.csv.options import CsvOptions
from normcore.io.opening import Source, open_table
from normcore.io.output_options import OutputOptions
from normcore.io.passes import Passes
from normcore.io.report import Progress, ProgressCallback, Report
from normcore.io.sink import Sink, Target, check_outputs
from normcore.io.streaming.memory import MEMORY_LIMIT
from normcore.io.streaming.spool import Spool
from normcore.io.table import TableSource

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler

__all__ = [
    "Progress",
    "ProgressCallback",
    "Report",
    "fit_source",
    "fit_transform_source",
    "transform_source",
]


def fit_source(
    source: Source,
    scaler: Scaler,
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
    csv: CsvOptions | None = None,
) -> Report:
    """Fit a scaler to the numeric columns of a table.

    The result is that of a fit in memory. Scalers whose
    :attr:`~normcore.scaling.scaler.Scaler.exact_streaming` is False need all values at once: where
    their columns do not fit in ``memory_limit``, those that learn quantiles read the table again,
    twice or more often, and for others, or a table that can be read only once, that is an error.

    Parameters
    ----------
    source : path, "-", or object
        A file, a directory of files, or a pattern of names as ``part-*.parquet``; "-" is standard
        input. Or what has the Arrow C stream interface: a table, frame or reader of pyarrow,
        polars, pandas or DuckDB; or a :class:`pyarrow.dataset.Dataset`.
    scaler : Scaler
        What it had learned before is forgotten; after an error it is as it was.
    columns : sequence of str, optional
        The columns to normalize, by name or as patterns (``"x_*"``); all numeric ones by default.
    exclude : sequence of str, optional
        Columns to leave out, likewise.
    memory_limit : int
        Bytes that the process should stay below, whatever the size of the table.
    batch_rows : int, optional
        Rows to hold at a time; by default what the limit on memory allows.
    progress : callable, optional
        Called with a :class:`Progress` after each batch.
    csv : CsvOptions, optional
        How CSV files are read.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the table is malformed, has no rows, holds infinity, lacks a column, was changed
        meanwhile, or needs more memory.
    OSError
        If the table cannot be read.

    Examples
    --------
    >>> import normcore as nc
    >>> import pyarrow as pa
    >>> table = pa.table({"height": [1.5, 2.5], "note": ["x", "y"]})
    >>> scaler = nc.StandardScaler()
    >>> report = nc.fit_source(table, scaler)
    >>> report.columns, report.passed_through, scaler.mean_
    (('height',), ('note',), array([2.]))
    """
    _check_parameters(scaler)
    with _opened(source, csv) as table:
        names = chosen_columns(table, columns, exclude)
        passes = Passes(table, memory_limit, batch_rows, progress)
        with Spool(table, passes.budget, "nothing", Path()) as spool:
            fitted, before = passes.fit(names, names, scaler, spool)
        scaler.__dict__ = fitted.__dict__
        return Report(names, other_columns(table, names), before, notes=table.notes)


def transform_source(
    source: Source,
    sink: Target,
    scaler: Scaler,
    *,
    inverse: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
    csv: CsvOptions | None = None,
    output: OutputOptions | None = None,
) -> Report:
    """Write a copy of a table with the columns that a scaler knows transformed.

    All other columns pass through as they are. A file appears, or replaces an existing one, when
    it is complete.

    Parameters
    ----------
    source : path, "-", or object
        As in :func:`fit_source`.
    sink : path, "-", callable or writer of pyarrow's
        The suffix of a path decides the format. "-" is standard output, as CSV unless ``output``
        says otherwise. A callable is given one record batch after the other, in a thread; so is
        the ``write_batch`` of a writer, which stays open.
    scaler : Scaler
        Fitted. Its feature names are the columns it transforms; without names, it takes the
        numeric columns in their order.
    inverse : bool
        Whether to undo the transform instead.
    memory_limit, batch_rows, progress, csv
        As in :func:`fit_source`.
    output : OutputOptions, optional
        How the output is written; by default as the source is, where the formats agree.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the table is malformed, holds infinity, lacks a column, or was changed meanwhile; if
        the output's format cannot hold it, or the output is the input.
    OSError
        If the table cannot be read, or the output not be written.

    Examples
    --------
    >>> import normcore as nc
    >>> import pyarrow as pa
    >>> table = pa.table({"height": [1.5, 2.5], "note": ["x", "y"]})
    >>> scaler, batches = nc.StandardScaler(), []
    >>> report = nc.fit_source(table, scaler)
    >>> report = nc.transform_source(table, batches.append, scaler)
    >>> pa.Table.from_batches(batches).to_pydict()
    {'height': [-1.0, 1.0], 'note': ['x', 'y']}
    """
    to = Sink(sink, output)
    with _opened(source, csv) as table:
        check_outputs(table, to.path)
        names = scaler_columns(table, scaler)
        to.check_fields(written_fields(table, names))
        numeric = _numeric(table, names, to)
        passes = Passes(table, memory_limit, batch_rows, progress)
        # Whether a column of text is one of numbers is only known when all of it was read.
        known = to.is_text or table.settle(numeric)
        keep: Literal["nothing", "file"] = "nothing" if known else "file"
        with Spool(table, passes.budget, keep, _directory(to)) as spool:
            if spool.keeps:
                passes.read(numeric, spool)
            before, after = passes.transform(numeric, names, scaler, to, spool, inverse=inverse)
        return Report(names, other_columns(table, names), before, after, table.notes)


def fit_transform_source(
    source: Source,
    sink: Target,
    scaler: Scaler,
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    save: str | os.PathLike[str] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
    csv: CsvOptions | None = None,
    output: OutputOptions | None = None,
) -> Report:
    """Fit a scaler to a table and write the transformed table.

    A table that is slow to read, or can be read only once, is read once: what ``memory_limit``
    does not hold waits in a temporary file beside the output.

    Parameters
    ----------
    scaler : Scaler
        What it had learned before is forgotten; after an error it is as it was.
    save : path, optional
        Where to save the fitted scaler once the output is written.
    source, sink, columns, exclude, memory_limit, batch_rows, progress, csv, output
        As in :func:`fit_source` and :func:`transform_source`, whose errors are raised before
        anything is read where that is possible.

    Returns
    -------
    Report

    Examples
    --------
    >>> import normcore as nc
    >>> import pyarrow as pa
    >>> from normcore import io
    >>> batches, table = [], pa.table({"height": [1.5, 2.5]})
    >>> report = io.fit_transform_source(table, batches.append, nc.MinMaxScaler())
    >>> pa.Table.from_batches(batches).to_pydict()
    {'height': [0.0, 1.0]}
    """
    to = Sink(sink, output)
    _check_parameters(scaler)
    with _opened(source, csv) as table:
        check_outputs(table, to.path, save)
        names = chosen_columns(table, columns, exclude)
        to.check_fields(written_fields(table, names))
        numeric = _numeric(table, names, to)
        passes = Passes(table, memory_limit, batch_rows, progress)
        if not to.is_text:
            table.settle(numeric)
        with Spool(table, passes.budget, passes.kept_in(numeric), _directory(to)) as spool:
            fitted, tally = passes.fit(numeric, names, scaler, spool)
            before, after = passes.transform(
                numeric, names, fitted, to, spool, inverse=False, before=tally
            )
        report = Report(names, other_columns(table, names), before, after, table.notes)
    if save is not None:
        fitted.save(save)
    scaler.__dict__ = fitted.__dict__
    return report


@contextmanager
def _opened(source: Source, csv: CsvOptions | None) -> Iterator[TableSource]:
    table = open_table(source, csv=csv)
    try:
        yield table
    finally:
        if table is not source:
            table.close()


def _check_parameters(scaler: Scaler) -> None:
    """Refuse parameters that make no sense before a file is opened; others may have no check."""
    check = getattr(scaler, "_check_parameters", None)
    if check is not None:
        check()


def _numeric(table: TableSource, names: tuple[str, ...], sink: Sink) -> tuple[str, ...]:
    """Return the columns that are needed as numbers."""
    return tuple(field.name for field in table.fields) if sink.numbers_only else names


def _directory(sink: Sink) -> Path:
    """Return where a temporary file may be as large as the table."""
    return sink.directory or Path(tempfile.gettempdir())
