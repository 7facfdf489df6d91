"""Which kind of table ``X`` is."""

from __future__ import annotations

from typing import Any

from normcore import registration
from normcore.layout.bfloat16 import holds_bfloat16
from normcore.layout.namespace import Array
from normcore.scaling.containers.bfloat16 import Bfloat16Table
from normcore.scaling.containers.frames import library_of
from normcore.scaling.containers.lazy import LazyTable, is_lazy
from normcore.scaling.containers.sparse import SparseTable, is_sparse
from normcore.scaling.containers.sparse_axes import SparseAxes
from normcore.scaling.containers.table import PiecewiseTable
from normcore.scaling.feature_axes import Axis, FeatureAxes

__all__ = ["engine_of", "opened", "opened_along"]


def opened_along(X: Array, owner: str, axis: Axis) -> SparseAxes | None:
    """Return a sparse ``X`` whose features lie along other axes, or None where it is none.

    Raises
    ------
    ValueError, TypeError
        If it has no such axis, or each element would be a feature.
    """
    return SparseAxes(X, owner, FeatureAxes.of(axis, X)) if is_sparse(X) else None


def opened(X: Array, owner: str) -> PiecewiseTable | None:
    """Return ``X`` as a table of pieces, or None where it is, or becomes, one array.

    Parameters
    ----------
    owner : str
        Name of the class in whose name errors speak.

    Raises
    ------
    ValueError, TypeError
        As :func:`normcore.scaling.input_validation.as_table`.
    """
    if is_sparse(X):
        return SparseTable(X, owner)
    if holds_bfloat16(X):
        return Bfloat16Table(X, owner)
    if is_lazy(X):
        return LazyTable(X, owner)
    engine = engine_of(X)
    if engine is None:
        return None
    table: PiecewiseTable = engine.opened(X, owner)
    return table


def engine_of(X: Array) -> Any:
    """Return an engine that takes ``X``, or None where there is none."""
    is_list = isinstance(X, list | tuple) and len(X) > 0
    for engine in registration.engines_of(library_of(X[0] if is_list else X)):
        if engine.takes(X):
            return engine()
    return None
