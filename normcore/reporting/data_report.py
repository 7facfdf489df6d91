"""Reports on data: what each column holds, and the scaler that suits it."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict, Unpack

from normcore.array_backend.abstract import Backend
from normcore.io.csv.options import CsvOptions
from normcore.io.missing_library import MissingLibrary
from normcore.io.passes import Passes
from normcore.io.report import ProgressCallback
from normcore.io.streaming.memory import MEMORY_LIMIT
from normcore.layout.namespace import Array
from normcore.package.public_names import __version__
from normcore.reporting.applying import column_scaler, command_lines, python_lines
from normcore.reporting.column import ColumnReport, Json
from normcore.reporting.column_scaler import ColumnScaler
from normcore.reporting.page import rendered
from normcore.reporting.sources import opened_table
from normcore.reporting.survey import survey
from normcore.saving.atomic_output import atomic_output
from normcore.scaling.containers.sparse import is_sparse

__all__ = ["DataReport", "recommend", "report"]

#: Of the JSON: raised where a name changes or goes.
JSON_VERSION = 1


@dataclass(frozen=True)
class DataReport:
    """What each column of a table holds, and the scaler that suits it.

    Made by :func:`normcore.report`; notebooks show it as a page.

    Attributes
    ----------
    source : str
        How messages call the table; the path of a file.
    is_file : bool
        Whether it is one.
    num_rows : int
    columns : tuple of ColumnReport
    has_names : bool
        Whether the names of the columns are the table's, or made up for those of an array.
    notes : tuple of str
    csv : CsvOptions or None
        How the file was read, if that was said.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> report = nc.report(np.random.default_rng(0).normal(size=(500, 2)))
    >>> report.num_rows, [column.recommendation.scaler for column in report.columns]
    (500, ['standard', 'standard'])
    """

    source: str
    is_file: bool
    num_rows: int
    columns: tuple[ColumnReport, ...]
    has_names: bool = True
    notes: tuple[str, ...] = ()
    csv: CsvOptions | None = None

    @property
    def scaler(self) -> ColumnScaler:
        """The scalers that are recommended as one estimator, not fitted."""
        return column_scaler(self.columns, self.has_names)

    def to_dict(self) -> dict[str, Json]:
        """Return everything as what JSON holds; NaN and infinity are None."""
        content: dict[str, Json] = {
            "format": "normcore-report",
            "version": JSON_VERSION,
            "normcore": __version__,
            "source": self.source,
            "rows": self.num_rows,
            "notes": list(self.notes),
            "columns": [column.to_dict() for column in self.columns],
            "python": python_lines(),
            "commands": [*self._commands],
        }
        return _strict(content)  # type: ignore[return-value]

    @property
    def json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    @cached_property
    def html(self) -> str:
        """The report as one page that needs nothing else.

        Raises
        ------
        MissingLibrary
            If Jinja2 is not installed.
        """
        return rendered(self, python_lines(), self._commands)

    @property
    def _commands(self) -> list[str]:
        return list(command_lines(self.columns, self.source, self.csv)) if self.is_file else []

    def save(
        self, path: str | os.PathLike[str], *, format: Literal["html", "json"] | None = None
    ) -> None:
        """Write the page or the JSON to a file, which appears when it is complete.

        Parameters
        ----------
        path : path
        format : {"html", "json"}, optional
            By default JSON where the name ends with ``.json``, and else the page.

        Raises
        ------
        ValueError
            If there is no such format.
        OSError
            If the file cannot be written; one that was there is as it was.
        """
        if format is None:
            format = "json" if Path(path).suffix.lower() == ".json" else "html"
        if format not in ("html", "json"):
            raise ValueError(f"format must be 'html' or 'json', not {format!r}")
        content = self.json if format == "json" else self.html
        with atomic_output(path) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="\n")

    def _repr_html_(self) -> str:
        try:
            page = html.escape(self.html)
        except MissingLibrary:
            return f"<pre>{html.escape(repr(self))}</pre>"
        # A page of its own, so that neither it nor the notebook changes the other's style.
        return (
            f'<iframe title="normcore report" style="width:100%;height:640px;border:0" '
            f'srcdoc="{page}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<DataReport of {self.source}: {self.num_rows} rows, {len(self.columns)} columns>"


def report(
    X: Array,
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    batch_rows: int | None = None,
    progress: ProgressCallback | None = None,
    csv: CsvOptions | None = None,
    backend: str | Backend | None = None,
) -> DataReport:
    """Look at every column of a table, and recommend a scaler for it.

    The table is read twice, batch by batch; one that can be read only once, or slowly, is kept
    meanwhile, in memory as far as ``memory_limit`` allows and then in a temporary file. Moments,
    extrema and counts are exact; quartiles are those of a sketch, and the second pass counts how
    far they are off. Columns without numbers get a line.

    Parameters
    ----------
    X : path, array, data frame, sparse matrix, Arrow table or stream, or iterable of batches
    columns, exclude : sequence of str, optional
        The columns of the report, and those to leave out, by name or as patterns (``"x_*"``); all
        by default.
    memory_limit : int
        Bytes that the process should stay below, whatever the size of the table.
    batch_rows : int, optional
        Rows to hold at a time.
    progress : callable, optional
        Called with a :class:`~normcore.io.Progress` after each batch.
    csv : CsvOptions, optional
        How CSV files are read.
    backend : str or Backend, optional

    Returns
    -------
    DataReport

    Raises
    ------
    ValueError
        If the table is malformed, lacks a column, or was changed meanwhile.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> report = nc.report(np.random.default_rng(0).lognormal(size=(500, 1)))
    >>> report.columns[0].recommendation.scaler
    'power'
    """
    table = opened_table(X, csv)
    try:
        passes = Passes(table, memory_limit, batch_rows, progress)
        num_rows, found = survey(
            table,
            passes,
            columns=columns,
            exclude=exclude,
            backend=backend,
            keep_zeros=is_sparse(X),
        )
    finally:
        if table is not X:
            table.close()
    is_file = isinstance(X, (str, os.PathLike)) and X != "-"
    return DataReport(
        table.name, is_file, num_rows, tuple(found), table.has_names, tuple(table.notes), csv
    )


class ReportOptions(TypedDict, total=False):
    """The parameters of :func:`report`."""

    columns: Sequence[str] | None
    exclude: Sequence[str] | None
    memory_limit: int
    batch_rows: int | None
    progress: ProgressCallback | None
    csv: CsvOptions | None
    backend: str | Backend | None


def recommend(X: Array, **options: Unpack[ReportOptions]) -> ColumnScaler:
    """Return the scalers that suit the columns of a table, as one estimator that is not fitted.

    Parameters
    ----------
    X : path, array, data frame, sparse matrix, Arrow table or stream, or iterable of batches
    **options
        Those of :func:`report`.

    Returns
    -------
    ColumnScaler

    Examples
    --------
    >>> import normcore as nc
    >>> nc.recommend([[1.0, 0.0], [2.0, 1.0], [4.0, 0.0], [3.0, 1.0]])
    ColumnScaler(transformers=[('standard', StandardScaler(), [0])])
    """
    return report(X, **options).scaler


def _strict(value: Json) -> Json:
    """Return a value without floats that JSON does not have."""
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
