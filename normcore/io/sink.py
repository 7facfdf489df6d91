"""Opens what a table is written to: a file, standard output, or an object of Python's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from normcore.io.batch import Field, TableBatch, TableWriter
from normcore.io.opening import source_class
from normcore.io.output_options import OutputOptions
from normcore.io.streaming.write_behind import WriteBehind
from normcore.io.table import TableSource
from normcore.saving.atomic_output import atomic_output, check_paths

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

__all__ = ["Sink", "Target", "check_outputs"]

#: What a table can be written to.
Target: TypeAlias = (
    "str | os.PathLike[str] | Callable[[pyarrow.RecordBatch], object] "
    "| pyarrow.RecordBatchWriter | pyarrow.parquet.ParquetWriter"
)


class Sink:
    """Where a table goes, and in which format.

    Parameters
    ----------
    target : path, "-", callable or writer of pyarrow's
        A callable is given record batches, one after the other, in a thread; so is the method
        ``write_batch`` of a writer, which stays open.
    output : OutputOptions, optional

    Attributes
    ----------
    path : Path or None
        If it is a file.
    """

    def __init__(self, target: Target, output: OutputOptions | None = None) -> None:
        self._output = output or OutputOptions()
        self._format: type[TableSource] | None = None
        self._take: Callable[[pyarrow.RecordBatch], object] | None = None
        self.path: Path | None = None
        self.name = "standard output"
        if isinstance(target, (str, os.PathLike)):
            suffix = self._output.format
            if target != "-":
                self.path, self.name = Path(target), str(target)
            elif suffix is None:
                suffix = ".csv"
            self._format = source_class(self.path or Path(), suffix)
            self._format.check_output(self.path, self._output)
            return
        if self._output != OutputOptions():
            raise ValueError("output= is for files")
        self.name = type(target).__name__
        if hasattr(target, "write_batch"):
            self._take = target.write_batch
        elif callable(target):
            self._take = target
        else:
            raise TypeError(
                f"cannot write a table to {self.name}: neither a path nor a callable, nor a "
                "writer with write_batch"
            )

    @property
    def is_text(self) -> bool:
        """Whether cells of text are written as they are."""
        return self._format is not None and self._format.is_text

    @property
    def numbers_only(self) -> bool:
        """Whether the format holds numbers and nothing else."""
        return self._format is not None and self._format.numbers_only

    @property
    def directory(self) -> Path | None:
        """Where the file is to be."""
        return None if self.path is None else Path(os.path.realpath(self.path)).parent

    def check_fields(self, fields: Sequence[Field]) -> None:
        """Find out before any work whether the format can hold columns; a ValueError if not."""
        if self._format is not None:
            self._format.check_fields(fields)

    @contextmanager
    def open(self, table: TableSource, max_bytes: int) -> Iterator[WriteBehind]:
        """Write rows of ``table``, up to ``max_bytes`` of them behind.

        A file appears, or is replaced, when the block ends well, which calls
        :meth:`WriteBehind.finish`.
        """
        with self._target() as target:
            if target is None:
                assert self._take is not None
                writer: TableWriter = _ObjectWriter(self._take)
            else:
                assert self._format is not None
                writer = self._format.sink_like(target, table.model, self._output)
            behind = WriteBehind(writer, max_bytes)
            try:
                yield behind
            except BaseException:
                behind.abandon()
                raise

    def _target(self) -> AbstractContextManager[Path | BinaryIO | None]:
        if self.path is not None:
            return atomic_output(self.path)
        return nullcontext() if self._take is not None else _standard_output()


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    sys.stdout.flush()
    try:
        # Of one's own, so that closing it leaves standard output open.
        stream: BinaryIO = open(sys.stdout.fileno(), "wb", closefd=False)  # noqa: SIM115
    except (OSError, AttributeError):  # standard output is replaced
        stream = sys.stdout.buffer
    yield stream
    if not stream.closed:
        stream.flush()


class _ObjectWriter(TableWriter):
    """Hands record batches to an object of Python's."""

    def __init__(self, take: Callable[[pyarrow.RecordBatch], object]) -> None:
        self._take = take

    def write(self, batch: TableBatch) -> None:
        self._take(batch.to_arrow())

    def close(self) -> None:
        """Nothing: the object is its owner's."""


def check_outputs(table: TableSource, *outputs: str | os.PathLike[str] | None) -> None:
    """Find out before any work that every output can be written and replaces no file in use.

    Raises
    ------
    ValueError
        If an output is one of the files that are read or lies among them, or two outputs are one.
    OSError
        If an output cannot be written.
    """
    whole = () if table.path == Path("-") else (table.path,)  # a directory, say
    check_paths((*table.files, *whole), *outputs)
