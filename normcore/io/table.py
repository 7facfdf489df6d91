"""What a file format is: a source of batches of rows, and a sink for them.

To support another format, subclass :class:`TableSource` and register it for a suffix::

    @normcore.hookimpl
    def normcore_register(registry):
        registry.source(".tsv", "my_package:Tsv")

Memory stays bounded because nothing here ever holds more than a batch.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from normcore import registration
from normcore.registration.registry import PluginError
from normcore.saving.atomic_output import atomic_output

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import DTypeLike

__all__ = [
    "Field",
    "MissingLibrary",
    "TableBatch",
    "TableSource",
    "TableWriter",
    "choose_batch_rows",
    "float_dtype",
    "open_table",
    "source_class",
]

BATCH_BYTES = 16 << 20
MAX_BATCH_ROWS = 1 << 16


class MissingLibrary(ImportError):
    """A library that an extra of the distribution brings is not installed."""

    def __init__(self, library: str, purpose: str) -> None:
        super().__init__(
            f'{purpose} needs {library}: pip install "normcore-arrays[cli]"', name=library
        )


class Field(NamedTuple):
    """A column of a table."""

    name: str
    #: The float dtype in which the column is normalized; None if it does not hold numbers.
    dtype: np.dtype | None
    #: What the column holds, in words, for messages.
    kind: str = "number"


def float_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype of normalized values: floats up to 64 bits keep theirs."""
    dtype = np.dtype(dtype)
    narrow = dtype.kind == "f" and dtype.itemsize <= 8
    return dtype.newbyteorder("=") if narrow else np.dtype(np.float64)


def choose_batch_rows(num_columns: int, batch_rows: int | None = None) -> int:
    """Return the number of rows to hold at a time, by default about 16 MiB of float64.

    Raises
    ------
    ValueError
        If ``batch_rows`` is not positive.
    """
    if batch_rows is None:
        return min(max(BATCH_BYTES // (8 * max(num_columns, 1)), 16), MAX_BATCH_ROWS)
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be positive, not {batch_rows}")
    return batch_rows


class TableBatch(ABC):
    """Some consecutive rows of a table.

    Attributes
    ----------
    first_row : int
        Index of the first one in the table, counting from 0.
    num_rows : int
    """

    first_row: int
    num_rows: int

    @abstractmethod
    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """Return numeric columns as a new or read-only float array, shape (num_rows, len(names)).

        Missing values are NaN. Float columns keep their precision, all others become float64.

        Raises
        ------
        LostDigits
            If a column holds whole numbers that float64 cannot.
        """

    @abstractmethod
    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> TableBatch:
        """Return a batch with these columns replaced, each in its own float dtype.

        What was missing stays missing; all other columns stay as they are.
        """

    @abstractmethod
    def to_arrow(self) -> pyarrow.RecordBatch:
        """Return all columns as Arrow."""


class TableWriter(ABC):
    """Takes batches, all of the same columns; made by :meth:`TableSource.writer`."""

    @abstractmethod
    def write(self, batch: TableBatch) -> None:
        """Append the rows of a batch."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file. Called once, also after a failure, when the file is then removed."""


class TableSource(ABC):
    """A table in a file.

    Subclasses set ``fields`` and ``num_rows`` (None if unknown) in their constructor, which reads
    no more than it needs for that, and implement :meth:`batches` and :meth:`sink`.

    Parameters
    ----------
    path : path of the file

    Attributes
    ----------
    fields : tuple of Field
        The columns; names are unique.
    num_rows : int or None
    num_bytes : int
        Size of the file.
    bytes_read : int
        How far :meth:`batches` has come in the file, roughly.
    """

    #: How messages call the format.
    format: ClassVar[str] = "table"
    #: Whether files of this format may begin with a line of names; such classes take ``header``.
    has_header_line: ClassVar[bool] = False
    #: Whether files of this format hold numbers and nothing else.
    numbers_only: ClassVar[bool] = False

    fields: tuple[Field, ...] = ()
    num_rows: int | None = None
    bytes_read: int = 0

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.num_bytes = self.path.stat().st_size
        if self.num_bytes == 0:
            raise ValueError(f"{self.path} is empty")

    @abstractmethod
    def batches(
        self, numeric: Sequence[str], *, others: bool = True, batch_rows: int | None = None
    ) -> Iterator[TableBatch]:
        """Read the table from its beginning; at least one batch comes, if need be of zero rows.

        Parameters
        ----------
        numeric : sequence of str
            The columns that :meth:`TableBatch.matrix` will be asked for.
        others : bool
            Whether the other columns are wanted too, exactly as they are in the file.
        batch_rows : int, optional
            At most this many rows at a time.

        Raises
        ------
        ValueError
            Where the file is not what it claims to be, naming the file and the place.
        """

    @classmethod
    @abstractmethod
    def sink(cls, path: Path) -> TableWriter:
        """Return a writer of a new file; may wait for the first batch to learn the columns."""

    @classmethod
    def check_fields(cls, fields: Sequence[Field]) -> None:
        """Find out before any work whether a file of this format can hold a table.

        Raises
        ------
        ValueError
            If it cannot hold one of the columns.
        """
        text = [field.name for field in fields if field.dtype is None]
        if cls.numbers_only and text:
            more = f" and {len(text) - 5} more" if len(text) > 5 else ""
            raise ValueError(
                f"{cls.format} files hold numbers only, but these columns would pass through: "
                f"{', '.join(map(repr, text[:5]))}{more}; write .csv, .parquet or .arrow instead"
            )

    @classmethod
    @contextmanager
    def writer(cls, path: str | os.PathLike[str]) -> Iterator[TableWriter]:
        """Write a table: the file appears, or is replaced, when the block ends without an error."""
        with atomic_output(path) as temporary:
            sink = cls.sink(temporary)
            try:
                yield sink
            except BaseException:
                # What went wrong first is what the caller wants to see.
                with suppress(Exception):
                    sink.close()
                raise
            sink.close()

    def close(self) -> None:  # noqa: B027
        """Let go of the file; many formats keep none open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _set_fields(self, fields: Sequence[Field]) -> None:
        seen: dict[str, int] = {}
        for number, field in enumerate(fields, 1):
            first = seen.setdefault(field.name, number)
            if first != number:
                raise ValueError(
                    f"{self.path}: columns {first} and {number} are both named {field.name!r}; "
                    "rename one of them"
                )
        self.fields = tuple(fields)


def source_class(path: str | os.PathLike[str]) -> type[TableSource]:
    """Return the class registered for the suffix of a file name.

    Raises
    ------
    ValueError
        If there is none; the known ones are listed.
    MissingLibrary
        If it needs a library that is not installed.
    """
    known = [row.name for row in registration.registrations() if row.kind == "source"]
    name = Path(path).name.lower()
    matching = [suffix for suffix in known if name.endswith(suffix)]
    if not matching:
        raise ValueError(
            f"{path}: the file format follows from the suffix of the name, which must be one of "
            f"{', '.join(sorted(known))}"
        )
    try:
        return registration.source(max(matching, key=len))
    except PluginError as error:
        if isinstance(error.__cause__, MissingLibrary):
            raise error.__cause__ from None
        raise


def open_table(path: str | os.PathLike[str], *, header: bool | None = None) -> TableSource:
    """Open a table for reading.

    Parameters
    ----------
    path : path of the table
    header : bool, optional
        Whether the first line of a CSV file holds the names of the columns, which are else f0,
        f1, ... By default it does, and must not look like data.

    Raises
    ------
    ValueError
        If the format is unknown, the file is empty, or it is not what its suffix says.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(path))
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; it would be read more than once")
    with open(path, "rb"):  # without permission, the error names the file
        pass
    source = source_class(path)
    options: dict[str, Any] = {} if header is None else {"header": header}
    if options and not source.has_header_line:
        raise ValueError(f"{path}: --header, --no-header and header= are for CSV files alone")
    return source(path, **options)
