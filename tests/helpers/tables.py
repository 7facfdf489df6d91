"""Tables in files, and what is read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normcore.io import open_table


def as_frame(data: Mapping[str, Sequence[object]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(data)


def numeric(path: Path) -> list[str]:
    """Return the names of the columns that are normalized by default."""
    with open_table(path) as table:
        return [f.name for f in table.fields if f.dtype is not None and f.by_default]


def read(
    path: Path, names: Sequence[str] | None = None
) -> tuple[np.ndarray, dict[str, list[object]]]:
    """Return columns of all batches as rows, the numeric ones if none are named, others as text."""
    names = numeric(path) if names is None else names
    with open_table(path) as table:
        batches = list(table.batches(names))
        matrix = np.concatenate([batch.matrix(names) for batch in batches])
        others = [field.name for field in table.fields if field.name not in names]
        text = {n: [v for b in batches for v in b.to_arrow().column(n).to_pylist()] for n in others}
    return matrix, text
