"""Features by name or position."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TypeAlias

import numpy as np

from normcore.scaling.input_validation import Names

__all__ = ["Features", "feature_indices"]

#: Some of the features: names, positions, a mask or a slice.
Features: TypeAlias = Sequence[str] | Sequence[int] | np.ndarray | slice


def feature_indices(columns: Features, names: Names, num_features: int) -> np.ndarray:
    """Return the positions of features.

    Parameters
    ----------
    columns : sequence of names or positions, mask of bool, or slice
    names : sequence of str
        Of all features.

    Raises
    ------
    ValueError
        If one is unknown or named twice, or there is none.
    TypeError
        If they are neither names nor positions.
    """
    if isinstance(columns, slice):
        found = np.arange(num_features)[columns]
    elif isinstance(columns, str | bytes) or not hasattr(columns, "__len__"):
        raise TypeError(f"columns must be a list of names or positions, got {columns!r}")
    else:
        found = _indices(list(columns), list(names), num_features)
    if not found.size:
        raise ValueError("columns names no feature")
    once, counts = np.unique(found, return_counts=True)
    if counts.max() > 1:
        twice = int(once[counts > 1][0])
        raise ValueError(f"columns names feature {names[twice]!r} (position {twice}) twice")
    return found


def _indices(columns: list[object], names: list[str], num_features: int) -> np.ndarray:
    if columns and all(isinstance(each, bool | np.bool_) for each in columns):
        if len(columns) != num_features:
            raise ValueError(
                f"columns is a mask of {len(columns)}, but there are {num_features} features"
            )
        return np.flatnonzero(np.array(columns, dtype=bool))
    if columns and all(isinstance(each, str) for each in columns):
        place = {name: i for i, name in enumerate(names)}
        unknown = [each for each in columns if each not in place]
        if unknown:
            raise ValueError(f"unknown columns {unknown}; the features are {_some(names)}")
        return np.array([place[str(each)] for each in columns], dtype=np.intp)
    positions = []
    for each in columns:
        if not isinstance(each, Integral) or isinstance(each, bool):
            raise TypeError(
                f"columns must hold names or positions of features alone, and not {each!r}"
            )
        if not -num_features <= int(each) < num_features:
            raise ValueError(f"column {int(each)} is not among the {num_features} features")
        positions.append(int(each) % num_features)
    return np.array(positions, dtype=np.intp)


def _some(names: list[str], most: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (", ..." if len(names) > most else "")
