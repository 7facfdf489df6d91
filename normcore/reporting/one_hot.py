"""Columns of zeros and ones that may encode one category: one of them is 1 in each row."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

__all__ = ["candidate_groups"]


def candidate_groups(
    names: Sequence[str], ones: np.ndarray, num_rows: int, are_truth: np.ndarray
) -> list[np.ndarray]:
    """Return groups of columns whose ones are as many as the table has rows.

    Columns whose names begin alike are a group, and of the others those that stand side by side.

    Parameters
    ----------
    names : sequence of str
    ones : array of shape (C,)
        Sums of the columns.
    num_rows : int
    are_truth : bool array of shape (C,)
        Columns of zeros and ones, and nothing that is missing.
    """
    by_stem: dict[str, list[int]] = {}
    for column in np.flatnonzero(are_truth).tolist():
        by_stem.setdefault(_stem(names[column]), []).append(column)
    groups = [
        np.array(columns)
        for stem, columns in by_stem.items()
        if stem and len(columns) > 1 and ones[columns].sum() == num_rows
    ]
    grouped = {int(column) for group in groups for column in group}
    run: list[int] = []
    total = 0.0
    for column in np.flatnonzero(are_truth).tolist():
        if column in grouped or (run and column != run[-1] + 1):
            run, total = [], 0.0
        if column in grouped:
            continue
        run.append(column)
        total += ones[column]
        while total > num_rows:
            total -= ones[run.pop(0)]
        if total == num_rows and len(run) > 1:
            groups.append(np.array(run))
            run, total = [], 0.0
    return groups


def _stem(name: str) -> str:
    """Return the name before its last part, as "color" of "color_red"."""
    found = re.match(r"(.+?)[_\-.:=/ \[]+[^_\-.:=/ \[]+$", name)
    return found[1] if found else ""
