"""A table that passes are tried on, as a reader and as a source that is read once."""

import threading

import numpy as np
import pytest

from normcore.io import ArrayBatch, Field, TableSource

pa = pytest.importorskip("pyarrow")

RNG = np.random.default_rng(0)
ROWS = 3000
X = RNG.normal([1e7, 0, 1e-6], [1, 1e5, 1e-9], (ROWS, 3))
X[RNG.random(X.shape) < 0.05] = np.nan
TABLE = pa.table(
    {
        "a": pa.array(X[:, 0], from_pandas=True),
        "text": [f"row {i}" for i in range(ROWS)],
        "b": X[:, 1],
        "c": X[:, 2],
        "whole": pa.array(range(ROWS), pa.int64()),
    }
)
NAMES = ["a", "b", "c"]
# Limits of memory with which nothing is kept there, or 100 kB, about three quarters of the table.
SMALL = 1 << 10
MIDDLE = 4 * (18 * (1 << 16) + 100_000)


def reader(batch_rows=256):
    return TABLE.to_reader(batch_rows)


def of_names(table):
    return np.column_stack([table[name].to_numpy(zero_copy_only=False) for name in NAMES])


def threads_of_normcore():
    return [each for each in threading.enumerate() if each.name.startswith("normcore-")]


class Once(TableSource):
    """A table that counts how often it is read, and learns its types at its end."""

    format = "counted"

    def __init__(self, rows=1000, settled=True):
        self.name, self.num_rows, self.passes, self.rows = "once", None, 0, rows
        self.settled = settled
        self._set_fields([Field("x", np.dtype("f8")), Field("y", np.dtype("f8"))])

    def batches(self, numeric, *, others=True, batch_rows=None):
        self.passes += 1
        for row in range(0, self.rows, 100):
            block = np.arange(row, min(row + 100, self.rows), dtype=float)
            yield ArrayBatch(row, ["x", "y"], np.column_stack([block, -block]))
        self.settled = True

    def restore(self, first_row, data):
        assert self.settled
        return ArrayBatch(first_row, ["x", "y"], np.column_stack([c.to_numpy() for c in data]))
