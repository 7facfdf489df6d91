"""Reads rows of a record batch of an Arrow IPC file without reading all of it.

pyarrow reads record batches whole, unless they are in a memory map, and a table that was written in
one piece is one record batch. Where that is large, is not compressed, and has columns of plain
types, its rows are read here, from each buffer the part that they take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from normcore.io.arrow.batch import record_batch
from normcore.io.arrow.ipc_messages import BatchLayout
from normcore.io.libraries import pa

__all__ = ["can_slice", "slices"]

# Bytes of a bitmap hold eight rows.
_BITS = 8


def can_slice(schema: pa.Schema, layout: BatchLayout) -> bool:
    """Whether the rows of a record batch can be read here."""
    fields = list(schema)
    return (
        layout.codec is None
        and all(_is_plain(field.type) for field in fields)
        and len(layout.nodes) == len(fields)
        and all(rows == layout.rows for rows, _ in layout.nodes)
        and len(layout.buffers) == sum(_num_buffers(field.type) for field in fields)
    )


def slices(
    path: Path,
    schema: pa.Schema,
    names: Sequence[str],
    layout: BatchLayout,
    rows: int,
    nbytes: int,
) -> Iterator[pa.RecordBatch]:
    """Yield columns of a record batch, about so many rows or bytes at a time.

    Raises
    ------
    EOFError
        If the file is shorter than it says.
    """
    first_buffers = np.cumsum([0, *(_num_buffers(field.type) for field in schema)]).tolist()
    indices = [schema.get_field_index(name) for name in names]
    wanted = [layout.buffers[first_buffers[i] : first_buffers[i + 1]] for i in indices]
    per_row = sum(length for buffers in wanted for _, length in buffers) / max(layout.rows, 1)
    step = max(min(rows, int(nbytes / max(per_row, 1))) // _BITS, 1) * _BITS
    fields = [schema.field(index) for index in indices]
    with open(path, "rb", buffering=0) as file:
        for start in range(0, layout.rows, step):
            count = min(step, layout.rows - start)
            columns = [
                _column(file, layout, schema.field(i).type, i, first_buffers[i], start, count)
                for i in indices
            ]
            yield record_batch(columns, fields, schema.metadata)


def _is_plain(type_: pa.DataType) -> bool:
    kinds = pa.types
    one_width = (
        kinds.is_primitive(type_) or kinds.is_decimal(type_) or kinds.is_fixed_size_binary(type_)
    )
    return bool(one_width or _offset_dtype(type_) is not None)


def _offset_dtype(type_: pa.DataType) -> np.dtype | None:
    """Return the dtype of the offsets of text and binary, None for all others."""
    if pa.types.is_string(type_) or pa.types.is_binary(type_):
        return np.dtype(np.int32)
    if pa.types.is_large_string(type_) or pa.types.is_large_binary(type_):
        return np.dtype(np.int64)
    return None


def _num_buffers(type_: pa.DataType) -> int:
    return 2 if _offset_dtype(type_) is None else 3


def _column(
    file: BinaryIO,
    layout: BatchLayout,
    type_: pa.DataType,
    index: int,
    first: int,
    start: int,
    count: int,
) -> pa.Array:
    """Read rows of a column; ``start`` is a multiple of eight."""

    def read(number: int, begin: int, end: int) -> bytes:
        offset, length = layout.buffers[first + number]
        if not 0 <= begin <= end <= length:
            raise EOFError(f"a buffer of {length} bytes ends before byte {end}")
        file.seek(layout.body + offset + begin)
        parts, missing = [], end - begin
        while missing and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
        if missing:
            raise EOFError("the file ends before its record batch does")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    end = start + count
    bits = (start // _BITS, -(-end // _BITS))
    has_nulls = layout.nodes[index][1] and layout.buffers[first][1]
    validity = pa.py_buffer(read(0, *bits)) if has_nulls else None
    dtype = _offset_dtype(type_)
    if dtype is None:
        width = type_.bit_width // _BITS
        is_bits = pa.types.is_boolean(type_)
        values = read(1, *(bits if is_bits else (start * width, end * width)))
        return pa.Array.from_buffers(type_, count, [validity, pa.py_buffer(values)])
    size = dtype.itemsize
    offsets = np.frombuffer(read(1, start * size, (end + 1) * size), dtype)
    characters = read(2, int(offsets[0]), int(offsets[-1]))
    own = pa.py_buffer(np.ascontiguousarray(offsets - offsets[0]))
    return pa.Array.from_buffers(type_, count, [validity, own, pa.py_buffer(characters)])
