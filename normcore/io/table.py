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
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal, Self

from normcore.io.batch import BATCH_BYTES, Field, TableBatch, TableWriter
from normcore.io.output_options import OutputOptions
from normcore.saving.atomic_output import atomic_output

if TYPE_CHECKING:
    import pyarrow

__all__ = ["TableSource"]


class TableSource(ABC):
    """A table that can be read in batches: a file, or several, or a stream.

    Subclasses set ``fields`` and ``num_rows`` (None if unknown) in their constructor, which reads
    no more than it needs for that, and implement :meth:`batches`; file formats implement
    :meth:`sink` too. One that is not of a single file sets what it has of the attributes below
    instead of calling the constructor here.

    Parameters
    ----------
    path : path of the file, or a binary file that is read once

    Attributes
    ----------
    name : str
        How messages call the table; the path of a file.
    fields : tuple of Field
        The columns; names are unique.
    notes : tuple of str
        What a user should know of the table, as that an index column is left alone.
    num_rows : int or None
    num_bytes : int or None
        Size of the file.
    bytes_read : int
        How far :meth:`batches` has come in the file, roughly.
    batch_bytes : int
        A batch should hold no more bytes, and a source have no more than a few batches at work;
        may be set before :meth:`batches` is called.
    reread : bool
        Whether :meth:`batches` can be called more than once.
    has_names : bool
        Whether the names of the columns are in the table, or made up as those of an array.
    settled : bool
        Whether the types of the columns that are not numbers are known. Those of text may become
        so when all batches were read; see :meth:`restore`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from normcore import io
    >>> source = io.open_table(pa.table({"height": [1.5, 2.5]}))
    >>> isinstance(source, io.TableSource), source.num_rows
    (True, 2)
    """

    #: How messages call the format.
    format: ClassVar[str] = "table"
    #: Whether files of this format are text with a delimiter: cells keep their characters in it,
    #: and constructors take ``csv``, a CsvOptions or None.
    is_text: ClassVar[bool] = False
    #: Whether files of this format hold numbers and nothing else.
    numbers_only: ClassVar[bool] = False
    #: Whether a table of this format is a directory, not one of the files in a directory.
    is_directory: ClassVar[bool] = False
    #: Where batches are kept that are needed again: nowhere, if reading the file again is as
    #: quick; in memory as far as they fit, else the file is read again; or, if that is slow, in
    #: memory and then in a temporary file.
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "file"

    fields: tuple[Field, ...] = ()
    notes: tuple[str, ...] = ()
    num_rows: int | None = None
    num_bytes: int | None = None
    bytes_read: int = 0
    batch_bytes: int = BATCH_BYTES
    reread: bool = True
    has_names: bool = True
    settled: bool = True

    #: The file; "-" if it is not one.
    path: Path = Path("-")
    #: What is read instead of a path.
    stream: BinaryIO | None = None

    def __init__(self, path: str | os.PathLike[str] | BinaryIO) -> None:
        if not isinstance(path, (str, os.PathLike)):
            self.stream, self.name, self.reread = path, "standard input", False
            return
        self.path = Path(path)
        self.name = str(path)
        self.num_bytes = self.path.stat().st_size
        if self.num_bytes == 0:
            raise ValueError(f"{self.name} is empty")

    @property
    def files(self) -> Sequence[Path]:
        """The files that are read."""
        return () if self.path == Path("-") else (self.path,)

    def fingerprint(self) -> Hashable:
        """Return what changes when the data does: the identity, size and date of its files.

        Raises
        ------
        OSError
            If a file is gone.
        """
        found = []
        for file in self.files:
            status = file.stat()
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

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

    def example(self, name: str) -> str:
        """Return a cell of a column that is not of numbers and where it is, in words, if known.

        Parameters
        ----------
        name : str
            Of the column.
        """
        return ""

    def settle(self, numeric: Sequence[str]) -> bool:
        """Find out what types the columns have that are not asked for as numbers.

        For sinks that have types, of sources whose text may be numbers: :meth:`batches` gives the
        columns these types afterwards.

        Parameters
        ----------
        numeric : sequence of str
            The columns that :meth:`batches` will be asked for as numbers.

        Returns
        -------
        bool
            Whether it is known; else it is once all batches were read, see :meth:`restore`.
        """
        return self.settled

    def kept_bytes(self, numeric: Sequence[str]) -> int:
        """Return about how many bytes all batches take; `numeric` as for :meth:`batches`."""
        return self.num_bytes or 0

    def restore(self, first_row: int, data: pyarrow.RecordBatch) -> TableBatch:
        """Return rows as a batch again that :meth:`TableBatch.to_arrow` gave and that were kept.

        A source whose types :attr:`settled` only at its end gives the columns their types here.

        Parameters
        ----------
        first_row : int
            Index of the first of them in the table.
        data : pyarrow.RecordBatch
            What was kept.
        """
        from normcore.io.arrow.batch import ArrowBatch  # needs pyarrow

        return ArrowBatch(first_row, data)

    @property
    def model(self) -> TableSource:
        """The table whose compression and so on an output keeps."""
        return self

    @classmethod
    def sink(cls, path: Path) -> TableWriter:
        """Return a writer of a new file; may wait for the first batch to learn the columns.

        Parameters
        ----------
        path : Path
        """
        raise ValueError(f"{cls.format} cannot be written")

    @classmethod
    def check_output(cls, path: Path | None, output: OutputOptions) -> None:
        """Find out before any work whether the format has the options of an output.

        Parameters
        ----------
        path : Path or None
            Of the file; None for a stream that cannot seek.
        output : OutputOptions

        Raises
        ------
        ValueError
            If the format has no such option, or cannot be written, or not to a stream.
        """
        if cls.sink.__func__ is TableSource.sink.__func__:  # type: ignore[attr-defined]
            cls.sink(path or Path("-"))
        if output.compression is not None or output.row_group_rows is not None:
            raise ValueError(f"{cls.format} files have neither compression nor row groups")
        if path is None:
            raise ValueError(f"{cls.format} cannot be written to a stream")

    @classmethod
    def sink_like(
        cls, target: Path | BinaryIO, source: TableSource | None, output: OutputOptions
    ) -> TableWriter:
        """Return a writer that keeps what ``source`` has, except where ``output`` says otherwise.

        By default :meth:`sink`, of a format without options.

        Parameters
        ----------
        target : path of a new file, or a binary file that cannot seek
        source : TableSource or None
            Whose compression, size of row groups, delimiter and so on are kept, if it is of the
            same format.
        output : OutputOptions
            For which :meth:`check_output` has passed.
        """
        assert isinstance(target, Path)
        return cls.sink(target)

    @classmethod
    def check_fields(cls, fields: Sequence[Field]) -> None:
        """Find out before any work whether a file of this format can hold a table.

        Parameters
        ----------
        fields : sequence of Field
            Its columns.

        Raises
        ------
        ValueError
            If it cannot hold one of the columns.
        """
        text = [field.name for field in fields if field.dtype is None or not field.by_default]
        if cls.numbers_only and text:
            more = f" and {len(text) - 5} more" if len(text) > 5 else ""
            raise ValueError(
                f"{cls.format} files hold numbers only, but these columns would pass through: "
                f"{', '.join(map(repr, text[:5]))}{more}; write .csv, .parquet or .arrow instead"
            )

    @classmethod
    @contextmanager
    def writer(
        cls,
        path: str | os.PathLike[str],
        source: TableSource | None = None,
        output: OutputOptions | None = None,
    ) -> Iterator[TableWriter]:
        """Write a table: the file appears, or is replaced, when the block ends without an error.

        Other parameters are those of :meth:`sink_like`.

        Parameters
        ----------
        path : str or PathLike
        """
        output = output or OutputOptions()
        cls.check_output(Path(path), output)
        with atomic_output(path) as temporary:
            sink = cls.sink_like(temporary, source, output)
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
                    f"{self.name}: columns {first} and {number} are both named {field.name!r}; "
                    "rename one of them"
                )
        self.fields = tuple(fields)
