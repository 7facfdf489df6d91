"""Rows of the table: each is in the file as soon as it is measured, and read back from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Key", "Row", "append", "read"]

#: Job, shape, dtype with the layout, and library.
Key = tuple[str, tuple[int, ...], str, str]


class Row(NamedTuple):
    """One measurement, or the error in its place."""

    job: str
    shape: tuple[int, ...]
    dtype: str
    library: str
    #: Back to back, between two events; 0 where there is an error.
    milliseconds: float = 0.0
    #: Replayed from a CUDA graph; None where there is none.
    graph_milliseconds: float | None = None
    #: What a call keeps the host busy.
    host_microseconds: float = 0.0
    calls: int = 0
    #: Of the bytes that the job must move, by the better of the two times.
    gigabytes_per_second: float = 0.0
    share_of_copy: float = 0.0
    error: str | None = None
    #: Why there is no graph.
    no_graph: str | None = None

    @property
    def key(self) -> Key:
        return self.job, tuple(self.shape), self.dtype, self.library

    @property
    def best(self) -> float:
        """The time without what launches cost the host, where that could be had."""
        graph = self.graph_milliseconds
        return self.milliseconds if graph is None else min(graph, self.milliseconds)


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line that is in the file when this returns.

    The line before may have been cut short by the end of a run.
    """
    with path.open("ab+") as file:
        file.seek(max(0, file.tell() - 1))
        ending = b"" if file.read() in (b"", b"\n") else b"\n"
        file.write(ending + json.dumps(record).encode() + b"\n")


def read(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of a file, whole or cut short, and what else it says (machine, launches).

    Where a key was measured twice, the later row counts.
    """
    rows: dict[Key, Row] = {}
    rest: dict[str, Any] = {}
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the run was ended
            if "job" in record:
                row = Row(**record | {"shape": tuple(record["shape"])})
                rows[row.key] = row
            else:
                rest.update(record)
    return list(rows.values()), rest
