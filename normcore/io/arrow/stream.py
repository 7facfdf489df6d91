"""Tables that come through the Arrow C stream interface, or as an IPC stream on standard input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, ClassVar, Literal, Protocol, TypeAlias

from normcore.io.arrow.source import ArrowSource, read_errors, validated
from normcore.io.libraries import pa

__all__ = ["ArrowStream", "Streamable"]


class _HasStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


class _HasArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object = None) -> object: ...


#: Tables, frames and readers of any library that speaks Arrow.
Streamable: TypeAlias = "_HasStream | _HasArray"

_FRAMES = ("pandas", "polars")


class ArrowStream(ArrowSource):
    """A table of pyarrow, polars, pandas, DuckDB or another library; a reader; an open file.

    Nothing is copied that the library need not copy.

    Parameters
    ----------
    source : object with ``__arrow_c_stream__`` or ``__arrow_c_array__``, or binary file
        A file holds an Arrow IPC stream, and is read once, as readers are.
    """

    format: ClassVar[str] = "Arrow stream"
    kept_in: ClassVar[Literal["nothing", "memory", "file"]] = "nothing"

    def __init__(self, source: Streamable | BinaryIO) -> None:
        self._source = source
        self._is_file = hasattr(source, "read") and not hasattr(source, "__arrow_c_stream__")
        if self._is_file:
            self.name, self.stream = "standard input", source  # type: ignore[assignment]
        else:
            library = type(source).__module__.partition(".")[0]
            self.name = f"{library} {type(source).__name__}"
            self.num_rows = _num_rows(source)
        # What has no length may give its rows once.
        self.reread = not self._is_file and (hasattr(source, "__len__") or hasattr(source, "shape"))
        self._reader: pa.RecordBatchReader | None = self._open()
        self._set_schema(self._reader.schema)

    def _open(self) -> pa.RecordBatchReader:
        source = self._source
        with read_errors(self.name, self.format):
            if self._is_file:
                return pa.ipc.open_stream(source)
            try:
                if isinstance(source, pa.RecordBatchReader):
                    return source
                if hasattr(source, "__arrow_c_stream__"):
                    return pa.RecordBatchReader.from_stream(source)
                data = pa.record_batch(source)
                return pa.RecordBatchReader.from_batches(data.schema, [data])
            except (pa.ArrowInvalid, TypeError, ValueError) as error:
                if "non-struct" in str(error) or "struct" in str(error).lower():
                    raise TypeError(
                        f"{self.name} is one column and no table; give it a name, as in "
                        'pyarrow.table({"x": column})'
                    ) from error
                raise

    def _parts(self, names: Sequence[str], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        reader, self._reader = self._reader or self._reopened(), None
        for number, data in enumerate(reader, 1):
            if self._is_file:
                validated(data, f"{self.name}: record batch {number}")
            yield data.select(list(names)), 0

    def _reopened(self) -> pa.RecordBatchReader:
        if not self.reread:
            raise ValueError(f"{self.name} can be read only once")
        reader = self._open()
        if not reader.schema.equals(self.schema):
            raise ValueError(f"{self.name} has other columns than when it was first read")
        return reader


def _num_rows(source: Streamable | BinaryIO) -> int | None:
    """Return the number of rows where it is known: others would have to count them."""
    if isinstance(source, pa.Table | pa.RecordBatch):
        return int(source.num_rows)
    if type(source).__module__.partition(".")[0] in _FRAMES and hasattr(source, "shape"):
        return int(source.shape[0])
    return None
