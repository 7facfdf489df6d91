"""Arrow tables of every type, written and read by pyarrow alone."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
import pyarrow.orc as orc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

FORMATS = (".arrow", ".arrows", ".parquet", ".orc")


def dictionary(values, type_=None, index=None, ordered=False, indices=(0, 1, None, 0)):
    values = values if isinstance(values, pa.Array) else pa.array(values, type_)
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, index or pa.int8()), values, ordered=ordered
    )


def _decimals(type_):
    return pa.array([Decimal("1.5"), None, Decimal(-2), Decimal("0.1")], type_)


WORDS = ["a", None, "", "d"]
#: Columns of four rows: numbers, and dictionaries and run-ends of them.
NUMBERS = {
    **{
        str(type_): pa.array([1, None, 0, 3], type_)
        for type_ in (
            pa.int8(),
            pa.int16(),
            pa.int32(),
            pa.int64(),
            pa.uint8(),
            pa.uint16(),
            pa.uint32(),
            pa.uint64(),
        )
    },
    "float16": pa.array(np.array([1, np.nan, -0.0, 3], np.float16), mask=np.eye(4)[3] > 0),
    "float32": pa.array([1.5, None, np.nan, -3], pa.float32()),
    "float64": pa.array([1.5, None, np.nan, -0.0], pa.float64()),
    "decimal128": _decimals(pa.decimal128(9, 1)),
    "decimal256": _decimals(pa.decimal256(60, 1)),
    "dictionary of int64": dictionary([7, 9], pa.int64()),
    "dictionary of float32": dictionary([7.5, None, 3], pa.float32(), indices=(0, 1, None, 2)),
    "dictionary of decimal": dictionary(_decimals(pa.decimal128(9, 1))),
    "run ends": pa.RunEndEncodedArray.from_arrays(pa.array([1, 3, 4], pa.int32()), [1.5, None, 2]),
    "run ends of int8": pa.RunEndEncodedArray.from_arrays(
        pa.array([2, 4], pa.int16()), pa.array([1, 2], pa.int8())
    ),
}
if hasattr(pa, "decimal32"):
    NUMBERS["decimal32"] = _decimals(pa.decimal32(9, 1))
    NUMBERS["decimal64"] = _decimals(pa.decimal64(12, 1))
#: Columns that are numbers where they are named.
NAMED_NUMBERS = {
    "bool": pa.array([True, None, False, True]),
    "null": pa.nulls(4),
    "dictionary of bool": dictionary([False, True]),
}
if hasattr(pa, "bool8"):
    NAMED_NUMBERS["bool8"] = pa.ExtensionArray.from_storage(
        pa.bool8(), pa.array([1, None, 0, 5], pa.int8())
    )
    NAMED_NUMBERS["opaque"] = pa.ExtensionArray.from_storage(
        pa.opaque(pa.int32(), "type", "vendor"), pa.array([1, None, 0, 5], pa.int32())
    )
#: Columns that never are numbers.
OTHERS = {
    "string": pa.array(WORDS),
    "large_string": pa.array(WORDS, pa.large_string()),
    "string_view": pa.array(WORDS, pa.string_view()),
    "binary": pa.array([b"\xff", None, b"", b"d"]),
    "binary_view": pa.array([b"\xff", None, b"", b"d"], pa.binary_view()),
    "fixed_size_binary": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
    "date32": pa.array([1, None, 0, 3], pa.date32()),
    "date64": pa.array([86_400_000, None, 0, 0], pa.date64()),
    **{
        f"{kind} {unit}": pa.array([1, None, 0, 3], make(unit))
        for kind, make in (("timestamp", pa.timestamp), ("duration", pa.duration))
        for unit in ("s", "ms", "us", "ns")
    },
    "timestamp with zone": pa.array([1, None, 0, 3], pa.timestamp("us", "Europe/Berlin")),
    "time32": pa.array([1, None, 0, 3], pa.time32("ms")),
    "time64": pa.array([1, None, 0, 3], pa.time64("ns")),
    "interval": pa.array([pa.MonthDayNano([1, 2, 3]), None, None, None]),
    "list": pa.array([[1], None, [2, None], []]),
    "large_list": pa.array([[1], None, [2, None], []], pa.large_list(pa.int64())),
    "fixed_size_list": pa.array([[1, 2], None, [2, 3], [4, 5]], pa.list_(pa.int64(), 2)),
    "list_view": pa.array([[1], None, [2], []], pa.list_view(pa.int64())),
    "map": pa.array([[("a", 1)], None, [], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
    "struct": pa.array([{"a": 1}, None, {"a": None}, {"a": 3}]),
    "union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0, 1], pa.int8()), [pa.array([1, 2, 3, 4]), pa.array(["a", "b", "c", "d"])]
    ),
    "list of dictionary": pa.ListArray.from_arrays([0, 1, 2, 3, 4], dictionary(["u", "v"])),
    **{
        f"dictionary with {index}": dictionary(["u", "v"], index=index)
        for index in (pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64())
    },
    "ordered dictionary": dictionary(["lo", "unused", "hi"], ordered=True, indices=(2, 0, None, 2)),
    "dictionary of string_view": dictionary(["u", "v"], pa.string_view()),
    "dictionary of large_string": dictionary(["u", "v"], pa.large_string()),
    "dictionary of binary": dictionary([b"u", b"\xff"]),
    "dictionary of dates": dictionary([1, 2], pa.date32()),
    "dictionary with null": dictionary(["u", None, "v"], indices=(0, 1, None, 2)),
    "run ends of text": pa.RunEndEncodedArray.from_arrays(
        pa.array([2, 4], pa.int32()), ["u", None]
    ),
}
if hasattr(pa, "uuid"):
    OTHERS["uuid"] = pa.array([b"a" * 16, None, b"c" * 16, b"d" * 16], pa.uuid())
    OTHERS["tensor"] = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(16.0).reshape(4, 2, 2))


def store(table: pa.Table, path: Path, rows: int = 2) -> pa.Table:
    """Write a table, with so many rows together, and return what pyarrow reads of it."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows)
    elif path.suffix == ".orc":
        orc.write_table(table, str(path))
    else:
        make = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
        with make(str(path), table.schema) as writer:
            for batch in table.to_batches(max_chunksize=rows):
                writer.write_batch(batch)
    return stored(path)


def stored(path: Path) -> pa.Table:
    """Return what pyarrow reads."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:  # not all at once: nested dictionaries may change
            groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
            return pa.concat_tables(groups) if groups else file.read()
    if path.suffix == ".orc":
        return orc.read_table(str(path))
    with pa.OSFile(str(path)) as file:
        open_ = pa.ipc.open_stream if path.suffix == ".arrows" else pa.ipc.open_file
        return open_(file).read_all()


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    return pa.concat_arrays(chunks) if len(chunks) > 1 else (chunks or column.chunks)[0]
