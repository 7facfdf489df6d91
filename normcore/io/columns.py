"""Chooses the columns of a table that a run normalizes.

Names and patterns choose: what is the name of a column is that column, and else ``*``, ``?`` and
``[...]`` stand for several characters, one, and one of some. A pattern chooses among the columns
that are normalized where none are named; a name may be that of any column that can be.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from normcore.io.batch import Field
from normcore.io.table import TableSource

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler

__all__ = [
    "UnknownColumn",
    "are_named",
    "check_axis",
    "chosen_columns",
    "other_columns",
    "scaler_columns",
    "written_fields",
]


class UnknownColumn(ValueError):
    """A column that is needed is not in the table, or holds no numbers."""


def other_columns(table: TableSource, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a table that are not among ``names``."""
    chosen = set(names)
    return tuple(field.name for field in table.fields if field.name not in chosen)


def written_fields(table: TableSource, names: Sequence[str]) -> tuple[Field, ...]:
    """Return the columns of the output, where those of ``names`` have become floats."""
    chosen = set(names)
    return tuple(
        Field(field.name, field.dtype) if field.name in chosen else field for field in table.fields
    )


def are_named(table: TableSource, names: Sequence[str]) -> bool:
    """Whether a scaler is to remember the names of columns.

    Where a table has no names but those given here, all its columns are an array without names.
    """
    return table.has_names or tuple(names) != tuple(field.name for field in table.fields)


def chosen_columns(
    table: TableSource, columns: Sequence[str] | None, exclude: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the columns that a user named, or all numeric ones, without those excluded.

    Parameters
    ----------
    table : TableSource
    columns, exclude : sequence of str, optional
        Names and patterns. The order is that of ``columns``, within a pattern that of the table.

    Raises
    ------
    UnknownColumn
        If one of them is not in the table, or holds no numbers.
    ValueError
        If the table has no numeric column.
    """
    for names in (columns, exclude):
        if isinstance(names, str):
            raise UnknownColumn(f"a list of names is expected, not the text {names!r}")
    if columns is None:
        chosen = [field.name for field in table.fields if _is_default(field)]
        if not chosen:
            found = _listed(other_columns(table, ())) or "no column at all"
            raise ValueError(f"{table.name} has no numeric column; it has {found}")
    else:
        if not columns:
            raise UnknownColumn("no column is named")
        if len(set(columns)) != len(columns):
            raise UnknownColumn("a column is named twice")
        chosen = list(_numeric_columns(table, _matching(table, columns, _is_default)))
    if exclude:
        left_out = set(_matching(table, exclude, lambda field: True))
        chosen = [name for name in chosen if name not in left_out]
        if not chosen:
            raise UnknownColumn(f"{table.name}: no numeric column is left when all are excluded")
    return tuple(chosen)


def check_axis(table: TableSource, scaler: Scaler) -> None:
    """Refuse a scaler of other axes than the columns, which batches of rows do not have."""
    axis = getattr(scaler, "axis", "columns")
    if not isinstance(axis, str):
        raise ValueError(f"axis={axis!r} is for arrays; for {table.name} it is 'columns'")


def scaler_columns(table: TableSource, scaler: Scaler) -> tuple[str, ...]:
    """Return the columns that a fitted scaler transforms, in its order.

    Raises
    ------
    UnknownColumn
        If one of them is not in the table, or holds no numbers.
    ValueError
        If the scaler or the table knows no names, and the number of numeric columns is another
        one; or if the scaler has other axes than the columns.
    NotFittedError
        If the scaler is not fitted.

    Warns
    -----
    UserWarning
        If the scaler knows names and the table does not, as of an array.
    """
    check_axis(table, scaler)
    known = getattr(scaler, "feature_names_in_", None)
    names = None if known is None else [str(name) for name in known]
    if names is not None and (
        table.has_names or set(names) <= {field.name for field in table.fields}
    ):
        return _numeric_columns(table, names)
    num_features = getattr(scaler, "n_features_in_", None)
    if num_features is None:
        from normcore.scaling.estimator import not_fitted_error  # slow to import

        raise not_fitted_error(scaler)
    found = tuple(field.name for field in table.fields if _is_default(field))
    if len(found) != num_features:
        without = " without names" if names is None else ""
        raise ValueError(
            f"{table.name} has {len(found)} numeric columns, but the scaler was fitted to "
            f"{num_features}{without}"
        )
    if names is not None:
        warnings.warn(
            f"{table.name} does not have column names, but {type(scaler).__name__} was fitted "
            "with them; its columns are taken in their order",
            UserWarning,
            stacklevel=2,
        )
    return found


def _is_numeric(field: Field) -> bool:
    return field.dtype is not None


def _is_default(field: Field) -> bool:
    return field.by_default and _is_numeric(field)


def _matching(
    table: TableSource, wanted: Sequence[str], eligible: Callable[[Field], bool]
) -> list[str]:
    """Return the columns that names and patterns mean, each once."""
    names = {field.name for field in table.fields}
    found: dict[str, None] = {}
    for each in wanted:
        if each in names or not re.search(r"[*?\[]", each):
            found[_existing(table, each)] = None
            continue
        matching = [f for f in table.fields if fnmatch.fnmatchcase(f.name, each)]
        chosen = [field.name for field in matching if eligible(field)]
        if not chosen:
            raise UnknownColumn(f"{table.name}: {_why_none(each, matching)}")
        found.update(dict.fromkeys(chosen))
    return list(found)


def _why_none(pattern: str, matching: Sequence[Field]) -> str:
    if not matching:
        return f"no column is named as {pattern!r} says"
    first = matching[0]
    named = "; name it to have it normalized" if _is_numeric(first) else ""
    return (
        f"no numeric column is named as {pattern!r} says; {first.name!r} holds {first.kind}{named}"
    )


def _existing(table: TableSource, name: str) -> str:
    names = [field.name for field in table.fields]
    if name not in names:
        near = difflib.get_close_matches(name, names, 3)
        hint = f"did you mean {_listed(near)}?" if near else f"it has {_listed(names)}"
        raise UnknownColumn(f"{table.name} has no column {name!r}; {hint}")
    return name


def _numeric_columns(table: TableSource, names: Sequence[str]) -> tuple[str, ...]:
    fields = {field.name: field for field in table.fields}
    for name in names:
        if name not in fields:
            _existing(table, name)
        if not _is_numeric(fields[name]):
            example = table.example(name)
            raise UnknownColumn(
                f"{table.name}: column {name!r} holds {fields[name].kind}, not numbers"
                + (f" ({example})" if example else "")
            )
    return tuple(names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(repr(name) for name in names[:8]) + more
