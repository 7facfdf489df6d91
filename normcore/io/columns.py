"""Chooses the columns of a table that a run normalizes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from normcore.io.table import TableSource

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler

__all__ = ["UnknownColumn", "chosen_columns", "other_columns", "scaler_columns"]


class UnknownColumn(ValueError):
    """A column that is needed is not in the table, or holds no numbers."""


def other_columns(table: TableSource, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a table that are not among ``names``."""
    chosen = set(names)
    return tuple(field.name for field in table.fields if field.name not in chosen)


def chosen_columns(table: TableSource, columns: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that a user named, or all numeric ones.

    Raises
    ------
    UnknownColumn
        If one of them is not in the table, or holds no numbers.
    ValueError
        If the table has no numeric column.
    """
    if columns is None:
        names = tuple(field.name for field in table.fields if field.dtype is not None)
        if not names:
            found = _listed(other_columns(table, ())) or "no column at all"
            raise ValueError(f"{table.path} has no numeric column; it has {found}")
        return names
    if not columns:
        raise UnknownColumn("no column is named")
    if len(set(columns)) != len(columns):
        raise UnknownColumn("a column is named twice")
    return _numeric_columns(table, columns)


def scaler_columns(table: TableSource, scaler: Scaler) -> tuple[str, ...]:
    """Return the columns that a fitted scaler transforms, in its order.

    Raises
    ------
    UnknownColumn
        If one of them is not in the table, or holds no numbers.
    ValueError
        If the scaler knows no names, and the number of numeric columns is another one.
    NotFittedError
        If the scaler is not fitted.
    """
    names = getattr(scaler, "feature_names_in_", None)
    if names is not None:
        return _numeric_columns(table, [str(name) for name in names])
    num_features = getattr(scaler, "n_features_in_", None)
    if num_features is None:
        from normcore.scaling.estimator import not_fitted_error  # slow to import

        raise not_fitted_error(scaler)
    found = tuple(field.name for field in table.fields if field.dtype is not None)
    if len(found) != num_features:
        raise ValueError(
            f"{table.path} has {len(found)} numeric columns, but the scaler was fitted to "
            f"{num_features} without names"
        )
    return found


def _numeric_columns(table: TableSource, names: Sequence[str]) -> tuple[str, ...]:
    fields = {field.name: field for field in table.fields}
    for name in names:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 3)
            hint = f"did you mean {_listed(near)}?" if near else f"it has {_listed(list(fields))}"
            raise UnknownColumn(f"{table.path} has no column {name!r}; {hint}")
        if fields[name].dtype is None:
            raise UnknownColumn(
                f"{table.path}: column {name!r} holds {fields[name].kind}, not numbers"
            )
    return tuple(names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(repr(name) for name in names[:8]) + more
