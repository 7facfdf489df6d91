"""Fit and transform files: what :mod:`normcore.io.pipeline` does, with fewer options.

::

    from normcore.io import fit_file, transform_file

    scaler = nc.StandardScaler()
    fit_file("train.csv", scaler)
    transform_file("test.csv", "test_scaled.parquet", scaler)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from normcore.io.csv.options import CsvOptions
from normcore.io.pipeline import fit_source, fit_transform_source, transform_source
from normcore.io.report import ProgressCallback, Report

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler

__all__ = ["fit_file", "fit_transform_file", "transform_file"]


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

    Memory stays bounded; see :func:`~normcore.io.pipeline.fit_source`.

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

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import normcore as nc
    >>> from normcore import io
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "x.npy")
    ...     np.save(path, [[0.0], [4.0]])
    ...     scaler = nc.StandardScaler()
    ...     report = io.fit_file(path, scaler)
    >>> report.columns, scaler.mean_
    (('x0',), array([2.]))
    """
    return fit_source(
        data,
        scaler,
        columns=columns,
        batch_rows=batch_rows,
        progress=progress,
        csv=_csv_options(header),
    )


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

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import normcore as nc
    >>> from normcore import io
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, scaled = os.path.join(folder, "x.npy"), os.path.join(folder, "y.npy")
    ...     np.save(path, [[0.0], [4.0]])
    ...     scaler = nc.StandardScaler().fit([[0.0], [4.0]])
    ...     report = io.transform_file(path, scaled, scaler)
    ...     np.load(scaled)
    array([[-1.],
           [ 1.]])
    """
    return transform_source(
        data,
        output,
        scaler,
        inverse=inverse,
        batch_rows=batch_rows,
        progress=progress,
        csv=_csv_options(header),
    )


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
    """Fit a scaler to a table and write the transformed table.

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

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import normcore as nc
    >>> from normcore import io
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, scaled = os.path.join(folder, "x.npy"), os.path.join(folder, "y.npy")
    ...     np.save(path, [[0.0], [4.0]])
    ...     report = io.fit_transform_file(path, scaled, nc.MinMaxScaler())
    ...     np.load(scaled)
    array([[0.],
           [1.]])
    """
    return fit_transform_source(
        data,
        output,
        scaler,
        columns=columns,
        save=save,
        batch_rows=batch_rows,
        progress=progress,
        csv=_csv_options(header),
    )


def _csv_options(header: bool | None) -> CsvOptions | None:
    return None if header is None else CsvOptions(header=header)
