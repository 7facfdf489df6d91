"""Fit a scaler to a table in a file, and transform one file into another, batch by batch.

These functions are what the command line runs::

    from normcore.io import fit_file, transform_file

    scaler = nc.StandardScaler()
    fit_file("train.csv", scaler)
    transform_file("test.csv", "test_scaled.parquet", scaler)
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from normcore.io.columns import chosen_columns, other_columns, scaler_columns
from normcore.io.digits import LostDigits
from normcore.io.table import TableBatch, TableSource, open_table, source_class
from normcore.io.tally import Tally
from normcore.saving.atomic_output import check_paths

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler

__all__ = [
    "Progress",
    "ProgressCallback",
    "ReadOptions",
    "Report",
    "fit_file",
    "fit_transform_file",
    "transform_file",
]


class Progress(NamedTuple):
    """How far a run has come; totals are None where they are not known."""

    step: str
    rows: int
    total_rows: int | None
    bytes: int
    total_bytes: int


ProgressCallback = Callable[[Progress], object]


class ReadOptions(TypedDict):
    """How a table is read, as :func:`fit_file` says."""

    header: bool | None
    batch_rows: int | None
    progress: ProgressCallback | None


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
    """

    columns: tuple[str, ...]
    passed_through: tuple[str, ...]
    before: Tally
    after: Tally | None = None


def fit_file(
    data: str | os.PathLike[str],
    scaler: Scaler,
    *,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
) -> Report:
    """Fit a scaler to the numeric columns of a table.

    Memory stays bounded for scalers that have ``partial_fit``; for others the columns are loaded.

    Parameters
    ----------
    data : path of a table
    scaler : Scaler
        What it had learned before is forgotten; after an error it is as it was.
    columns : sequence of str, optional
        The columns to normalize; all numeric ones by default.
    header : bool, optional
        Whether the first line of a CSV file holds the names of the columns, which are else f0,
        f1, ... By default it does, and a number among them is an error.
    batch_rows : int, optional
        Rows to hold at a time.
    progress : callable, optional
        Called with a :class:`Progress` after each batch.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the table is malformed, has no rows, holds infinity, or lacks a column.
    OSError
        If the file cannot be read.
    """
    with open_table(data, header=header) as table:
        names = chosen_columns(table, columns)
        tally = Tally(len(names))
        # The copy learns, so that an error half-way leaves the scaler as it was.
        learner = copy.copy(scaler)
        matrices = _matrices(table, names, tally, batch_rows, progress)
        if hasattr(learner, "partial_fit"):
            for index, x in enumerate(matrices):
                learn = learner.partial_fit if index else learner.fit
                learn(_Frame(names, x))
        else:
            x = _concatenated(matrices, table.num_rows, len(names))
            if len(x):
                learner.fit(_Frame(names, x))
        if tally.num_rows == 0:
            raise ValueError(f"{table.path} has columns but no rows; there is nothing to fit to")
        scaler.__dict__ = learner.__dict__
        return Report(names, other_columns(table, names), tally)


def transform_file(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    scaler: Scaler,
    *,
    inverse: bool = False,
    header: bool | None = None,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
) -> Report:
    """Write a copy of a table with the columns that a scaler knows transformed.

    Memory stays bounded. All other columns pass through as they are. The output appears, or
    replaces an existing file, when it is complete.

    Parameters
    ----------
    data : path of a table
    output : path of the result
        Its suffix decides the format.
    scaler : Scaler
        Fitted. Its feature names are the columns it transforms; without names, it takes the
        numeric columns in their order.
    inverse : bool
        Whether to undo the transform instead.
    header, batch_rows, progress
        As in :func:`fit_file`.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the table is malformed, holds infinity, or lacks a column; if the output's format
        cannot hold it, or the output is the input.
    OSError
        If a file cannot be read or written.
    """
    options: ReadOptions = {"header": header, "batch_rows": batch_rows, "progress": progress}
    return _transform_file(data, output, scaler, options, inverse=inverse)


def _transform_file(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    scaler: Scaler,
    options: ReadOptions,
    *,
    inverse: bool = False,
    fitted_rows: int | None = None,
) -> Report:
    check_paths(data, output)
    sink = source_class(output)
    with open_table(data, header=options["header"]) as table:
        names = scaler_columns(table, scaler)
        sink.check_fields(table.fields)
        report = Report(names, other_columns(table, names), Tally(len(names)), Tally(len(names)))
        numeric = names
        if sink.numbers_only:
            numeric = tuple(field.name for field in table.fields)
        with sink.writer(output) as writer:
            for batch in table.batches(numeric, batch_rows=options["batch_rows"]):
                with _path_in_errors(table):
                    writer.write(_transformed(batch, table, names, scaler, inverse, report))
                _report_progress(options["progress"], "transform", table, report.before.num_rows)
            # Before the output takes its name.
            _check_rows(table, report.before.num_rows, table.num_rows, "it says that it has")
            _check_rows(table, report.before.num_rows, fitted_rows, "the scaler was fitted to")
    return report


def fit_transform_file(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    scaler: Scaler,
    *,
    columns: Sequence[str] | None = None,
    save: str | os.PathLike[str] | None = None,
    header: bool | None = None,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
) -> Report:
    """Fit a scaler to a table and write the transformed table, reading it twice.

    Parameters
    ----------
    scaler : Scaler
        What it had learned before is forgotten; after an error it is as it was.
    save : path, optional
        Where to save the fitted scaler once the output is written.
    data, output, columns, header, batch_rows, progress
        As in :func:`fit_file` and :func:`transform_file`, whose errors are raised before
        anything is read where that is possible.

    Returns
    -------
    Report
    """
    check_paths(data, output, save)
    with open_table(data, header=header) as table:
        chosen_columns(table, columns)
        source_class(output).check_fields(table.fields)
    learner = copy.copy(scaler)  # so that an error in any step leaves the scaler as it was
    options: ReadOptions = {"header": header, "batch_rows": batch_rows, "progress": progress}
    fit = fit_file(data, learner, columns=columns, **options)
    report = _transform_file(data, output, learner, options, fitted_rows=fit.before.num_rows)
    if save is not None:
        learner.save(save)
    scaler.__dict__ = learner.__dict__
    return report


def _transformed(
    batch: TableBatch,
    table: TableSource,
    names: tuple[str, ...],
    scaler: Scaler,
    inverse: bool,
    report: Report,
) -> TableBatch:
    assert report.after is not None
    x = batch.matrix(names)
    _count_in(x, batch, table, names, report.before)
    if batch.num_rows:
        y = scaler.inverse_transform(x) if inverse else scaler.transform(_framed(names, x, scaler))
        y = np.asarray(y)
        if y.shape != x.shape:
            raise ValueError(f"the scaler made an array of shape {y.shape} of one of {x.shape}")
    else:
        y = x
    report.after.add(y)
    return batch.with_matrix(names, y)


def _matrices(
    table: TableSource,
    names: tuple[str, ...],
    tally: Tally,
    batch_rows: int | None,
    progress: ProgressCallback | None,
) -> Iterator[np.ndarray]:
    for batch in table.batches(names, others=False, batch_rows=batch_rows):
        with _path_in_errors(table):
            x = batch.matrix(names)
        _count_in(x, batch, table, names, tally)
        if batch.num_rows:
            yield x
        _report_progress(progress, "fit", table, tally.num_rows)
    _check_rows(table, tally.num_rows, table.num_rows, "it says that it has")


def _check_rows(table: TableSource, rows: int, expected: int | None, whose: str) -> None:
    if expected is not None and rows != expected:
        raise ValueError(
            f"{table.path}: {rows:,} rows were read, but {whose} {expected:,}; the file is damaged "
            "or was changed meanwhile"
        )


@contextmanager
def _path_in_errors(table: TableSource) -> Iterator[None]:
    try:
        yield
    except LostDigits as error:
        raise ValueError(f"{table.path}: {error}") from error


def _count_in(
    x: np.ndarray, batch: TableBatch, table: TableSource, names: tuple[str, ...], tally: Tally
) -> None:
    place = tally.add(x)
    if place is not None:
        row, column = place
        value = "infinity" if x[row, column] > 0 else "-infinity"
        raise ValueError(
            f"{table.path}: column {names[column]!r} holds {value}, first in row "
            f"{batch.first_row + row + 1} of the data; remove the row or leave the cell empty"
        )


def _report_progress(
    progress: ProgressCallback | None, step: str, table: TableSource, rows: int
) -> None:
    if progress is not None:
        done = min(table.bytes_read, table.num_bytes)
        progress(Progress(step, rows, table.num_rows, done, table.num_bytes))


def _concatenated(
    matrices: Iterator[np.ndarray], num_rows: int | None, num_columns: int
) -> np.ndarray:
    """Put all rows into one array, column after column in memory."""
    if num_rows is None:
        parts = list(matrices)
        if not parts:
            return np.empty((0, num_columns))
        whole = np.empty((sum(map(len, parts)), num_columns), parts[0].dtype, order="F")
        start = len(whole)
        while parts:  # each part is freed as soon as it is copied
            part = parts.pop()
            start -= len(part)
            whole[start : start + len(part)] = part
        return whole
    whole = np.empty((0, num_columns))
    start = 0
    for x in matrices:
        if not start:
            whole = np.empty((num_rows, num_columns), x.dtype, order="F")
        if start + len(x) <= num_rows:  # more rows are an error at the end
            whole[start : start + len(x)] = x
        start += len(x)
    return whole


class _Frame:
    """A matrix with column names, as far as scalers ask a data frame for them."""

    def __init__(self, columns: Sequence[str], values: np.ndarray) -> None:
        self.columns = columns
        self.shape = values.shape
        self._values = values

    def to_numpy(self) -> np.ndarray:
        return self._values


def _framed(names: tuple[str, ...], x: np.ndarray, scaler: Scaler) -> np.ndarray | _Frame:
    return x if getattr(scaler, "feature_names_in_", None) is None else _Frame(names, x)
