"""The files that benchmarks of tables read; made once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

__all__ = ["FILES", "make"]

_BLOCK_ROWS = 250_000


def _blocks(rows: int, columns: int, *, label: bool) -> Iterator[pa.Table]:
    """Yield normally distributed columns, and one of a few words."""
    rng = np.random.default_rng(0)
    words = np.array(["low", "middle", "high", "very high"])
    for start in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - start)
        data = {f"x{i}": rng.normal(100 * i, 1 + i, count) for i in range(columns)}
        if label:
            data["label"] = words[rng.integers(len(words), size=count)]
        yield pa.table(data)


def _parquet(path: Path, rows: int, columns: int, *, label: bool = False) -> None:
    writer = None
    for table in _blocks(rows, columns, label=label):
        writer = writer or pa.parquet.ParquetWriter(path, table.schema, use_dictionary=["label"])
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _csv(path: Path, rows: int, columns: int) -> None:
    writer = None
    for table in _blocks(rows, columns, label=True):
        writer = writer or pa.csv.CSVWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _wide_csv(path: Path, rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="ascii") as file:
        file.write(",".join(f"x{i}" for i in range(columns)) + "\n")
        for _ in range(rows):
            file.write(",".join(map(repr, rng.normal(size=columns).tolist())) + "\n")


def _npy(path: Path, rows: int, columns: int) -> None:
    np.save(path, np.random.default_rng(0).normal(size=(rows, columns)))


#: What makes a file of so many rows and columns.
FILES: dict[str, tuple[Callable[[Path, int, int], None], int, int]] = {
    "long.parquet": (_parquet, 20_000_000, 10),
    "rows.csv": (_csv, 800_000, 20),
    "rows.parquet": (lambda path, n, c: _parquet(path, n, c, label=True), 2_000_000, 20),
    "rows.npy": (_npy, 5_000_000, 10),
    "columns.parquet": (_parquet, 1_000_000, 50),
    "wide.csv": (_wide_csv, 800, 20_000),
}


def make(name: str, folder: Path, scale: int) -> Path:
    """Return the path of a file, of a part of its rows; it is made if it is not there."""
    write, rows, columns = FILES[name]
    path = folder / f"{scale}-{name}"
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        write(part, max(rows // scale, 1), columns)
        part.replace(path)
    return path
