"""A fitted scaler as SQL: one expression for each column."""

from __future__ import annotations

import math
from collections.abc import Sequence

from normcore.export.column_map import Column, check_dtype, column_map, column_names
from normcore.export.sql_dialects import DIALECTS, Dialect
from normcore.layout.scalar_argument import check_choice
from normcore.scaling.scaler import Scaler

__all__ = ["to_sql"]


def to_sql(
    scaler: Scaler,
    *,
    table: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    dialect: str = "duckdb",
    dtype: str = "float64",
    inverse: bool = False,
) -> str:
    """Return the select list that scales the columns of a table.

    Parameters
    ----------
    scaler : AffineScaler
        Fitted to a table.
    table : str or sequence of str, optional
        Makes a whole SELECT from this table. A sequence names the schema, too: ``("s", "t")``.
    columns : sequence of str, optional
        Names of the columns; by default those of fit, or ``x0``, ``x1`` and so on.
    dialect : {"duckdb", "postgresql", "sqlite"}
        Whose SQL it is.
    dtype : {"float64", "float32"}
        Of the result. "float32" is for columns that hold such, which SQLite does not have.
    inverse : bool
        Whether to return the inverse map.

    Returns
    -------
    str
        Values are cast to 64 bits and computed in the order of ``transform``. NULL and NaN stay
        what they are, infinities are computed with.
    """
    check_choice("dialect", dialect, tuple(DIALECTS))
    rules, kind = DIALECTS[dialect], check_dtype(dtype, "float64", "float32")
    if kind.itemsize < 8 and not rules.real:
        raise ValueError(
            f"{dialect} has no numbers of 32 bits: leave dtype='float32' out, and round what it "
            "gives where it is read"
        )
    maps = column_map(scaler, "sql", dtype=kind, inverse=inverse)
    names = column_names(scaler, columns)
    if rules.folds_case:
        _refuse_same_but_for_case(names, dialect)
    place = _place(table, rules)
    lines = []
    for name, column in zip(names, maps.columns(), strict=True):
        quoted = rules.name(name)
        x = rules.cast(quoted)
        result = _mapped(x, column, rules)
        if maps.bounds is not None and not any(map(math.isnan, column)):
            result = _clipped(result, x, maps.bounds, rules)
        if kind.itemsize < 8:
            result = f"CAST({result} AS {rules.real})"
        lines.append(f"{result} AS {quoted}")
    if not place:
        return ",\n".join(lines) + "\n"
    return "SELECT\n  " + ",\n  ".join(lines) + f"\nFROM {place}\n"


def _place(table: str | Sequence[str] | None, rules: Dialect) -> str:
    """Return the quoted name of a table, and of what it lies in; empty where there is none."""
    if table is None:
        return ""
    parts = [table] if isinstance(table, str) else table
    if not (isinstance(parts, list | tuple) and parts):
        raise TypeError(f"table must be a name, or a list of names, not {table!r}")
    return ".".join(rules.name(each) for each in parts)


def _mapped(x: str, column: Column, rules: Dialect) -> str:
    """Return the expression of the map, without operations that leave every value as it is."""
    result = x
    if column.center != 0.0:
        result = f"({result} - {rules.number(column.center)})"
    if column.scale != 1.0:
        result = f"{result} / {rules.number(column.scale)}"
    if column.gamma != 1.0:
        result = f"{result} * {rules.number(column.gamma)}"
    return f"{result} + {rules.number(column.beta)}"  # 0 makes -0.0 to 0.0, as transform does


def _clipped(y: str, x: str, bounds: tuple[float, float], rules: Dialect) -> str:
    """Return the expression clipped, where the value is a number.

    GREATEST and LEAST leave NULL out, and take NaN for larger than all else.
    """
    low, high = map(rules.number, bounds)
    missing = f"{x} IS NULL" + (f" OR {x} = {rules.number(math.nan)}" if rules.has_nan else "")
    clipped = f"{rules.smaller}({rules.larger}({y}, {low}), {high})"
    return f"CASE WHEN {missing} THEN {x} ELSE {clipped} END"


def _refuse_same_but_for_case(names: list[str], dialect: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other is not name:
            raise ValueError(
                f"{dialect} takes {other!r} and {name!r} for the same column: give other names "
                "by columns="
            )
