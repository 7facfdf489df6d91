"""Opens tables: finds the class for a file, a directory, a stream or an object of Python's."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias, TypeGuard

from normcore import registration
from normcore.io.csv.options import CsvOptions
from normcore.io.missing_library import MissingLibrary
from normcore.io.table import TableSource
from normcore.registration.registry import PluginError

if TYPE_CHECKING:
    import pyarrow.dataset

__all__ = ["ArrowStreamable", "Source", "is_dataset", "open_table", "source_class"]

#: How a message of an Arrow stream begins.
ARROW_STREAM = b"\xff\xff\xff\xff"


class ArrowStreamable(Protocol):
    """A table of any library that has the Arrow C stream interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a capsule."""


#: What can be read as a table.
Source: TypeAlias = (
    "str | os.PathLike[str] | ArrowStreamable | pyarrow.dataset.Dataset | TableSource"
)


def source_class(path: str | os.PathLike[str], suffix: str | None = None) -> type[TableSource]:
    """Return the class registered for the suffix of a file name.

    Parameters
    ----------
    path : path
    suffix : str, optional
        The suffix, if the name is not to decide; with or without its dot.

    Raises
    ------
    ValueError
        If there is none; the known ones are listed.
    MissingLibrary
        If it needs a library that is not installed.
    """
    known = [row.name for row in registration.registrations() if row.kind == "source"]
    name = Path(path).name.lower() if suffix is None else f".{suffix.lower().lstrip('.')}"
    matching = [each for each in known if name.endswith(each)]
    if not matching:
        given = f"{path}: the file format follows from the suffix of the name, which"
        if suffix is not None:
            given = f"there is no format {suffix!r}; it"
        raise ValueError(f"{given} must be one of {', '.join(sorted(known))}")
    try:
        return registration.source(max(matching, key=len))
    except PluginError as error:
        if isinstance(error.__cause__, MissingLibrary):
            raise error.__cause__ from None
        raise


def open_table(
    source: Source,
    *,
    header: bool | None = None,
    csv: CsvOptions | None = None,
) -> TableSource:
    """Open a table for reading.

    Parameters
    ----------
    source : path, "-", or object
        A file, a directory of files, or a pattern of names as ``part-*.parquet``; "-" is standard
        input, CSV or an Arrow stream. Or what has the Arrow C stream interface: a table, frame or
        reader of pyarrow, polars, pandas or DuckDB; or a :class:`pyarrow.dataset.Dataset`.
    header : bool, optional
        The same as ``csv=CsvOptions(header=header)``.
    csv : CsvOptions, optional
        How CSV files are read.

    Raises
    ------
    ValueError
        If the format is unknown, the file is empty, or it is not what its suffix says.
    OSError
        If the file cannot be read.
    TypeError
        If the object is no table.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from normcore import io
    >>> table = io.open_table(pa.table({"height": [1.5, 2.5], "note": ["x", "y"]}))
    >>> [field.name for field in table.fields], table.num_rows
    (['height', 'note'], 2)
    """
    if header is not None:
        if csv is not None:
            raise ValueError("header= is a part of csv=; give only one of them")
        csv = CsvOptions(header=header)
    if isinstance(source, (str, os.PathLike)):
        return _open_standard_input(csv) if source == "-" else _open_path(source, csv)
    if csv is not None:
        raise ValueError("csv= is for CSV files, not for objects of Python's")
    if isinstance(source, TableSource):
        return source
    if is_dataset(source):
        from normcore.io.arrow.dataset import ScannedDataset

        return ScannedDataset(source)
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        num_axes = getattr(source, "ndim", 1) if hasattr(type(source), "dtype") else 1
        if num_axes > 1:
            raise TypeError(
                f"cannot read a table from {type(source).__name__}: an array of {num_axes} axes "
                "is a stream with a row for each element; give it to fit or transform of a scaler"
            )
        from normcore.io.arrow.stream import ArrowStream

        return ArrowStream(source)
    raise TypeError(
        f"cannot read a table from {type(source).__name__}: neither a path nor a table, frame or "
        "reader with __arrow_c_stream__"
    )


def is_dataset(source: object) -> TypeGuard[pyarrow.dataset.Dataset]:
    """Whether ``source`` is a dataset of pyarrow."""
    dataset = sys.modules.get("pyarrow.dataset")
    return dataset is not None and isinstance(source, dataset.Dataset)


def _open_path(path: str | os.PathLike[str], csv: CsvOptions | None) -> TableSource:
    name, path = path, Path(path)
    if path.is_dir() and _is_one_table(path):
        return _open_as(source_class(path), name, csv)
    if path.is_dir() or (not path.exists() and any(c in str(name) for c in "*?[")):
        from normcore.io.arrow.dataset import Dataset

        return Dataset(path, csv=csv)
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(name))
    if not path.is_file():
        raise ValueError(f"{name} is not a regular file; it would be read more than once")
    with open(path, "rb"):  # without permission, the error names the file
        pass
    return _open_as(source_class(path), name, csv)


def _is_one_table(directory: Path) -> bool:
    """Whether a directory has the suffix of a format whose tables are directories."""
    try:
        return source_class(directory).is_directory
    except ValueError:  # no suffix of a format
        return False


def _open_as(
    format_: type[TableSource], source: str | os.PathLike[str] | BinaryIO, csv: CsvOptions | None
) -> TableSource:
    if format_.is_text:
        return format_(source, csv=csv)  # type: ignore[call-arg]
    if csv is not None:
        only_header = csv == CsvOptions(header=csv.header)
        options = "--header, --no-header and header=" if only_header else "options of CSV"
        raise ValueError(f"{source}: {options} are for CSV files alone")
    return format_(source)


def _open_standard_input(csv: CsvOptions | None) -> TableSource:
    raw: io.RawIOBase | BinaryIO
    try:
        # Of one's own: a thread that waits for input must not hold what Python closes at its end.
        raw = io.FileIO(sys.stdin.fileno(), closefd=False)
    except (OSError, AttributeError):  # standard input is replaced
        raw = sys.stdin.buffer
    stream = io.BufferedReader(raw)  # type: ignore[type-var]
    if stream.peek(len(ARROW_STREAM))[: len(ARROW_STREAM)] == ARROW_STREAM:
        from normcore.io.arrow.stream import ArrowStream

        return ArrowStream(stream)
    return _open_as(source_class(".csv"), stream, csv)
