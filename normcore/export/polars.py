"""A fitted scaler as expressions of polars, which its optimizer and streaming engine run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.export.column_map import Column, ColumnMap, column_map, column_names
from normcore.scaling.scaler import Scaler

if TYPE_CHECKING:
    import polars

__all__ = ["PolarsMap", "to_polars"]

_DTYPES = ("float64", "float32", "float16")


def to_polars(
    scaler: Scaler, *, columns: Sequence[str] | None = None, inverse: bool = False
) -> PolarsMap:
    """Return a function that scales columns of a frame, lazy or not.

    Parameters
    ----------
    scaler : AffineScaler
        Fitted to a table.
    columns : sequence of str, optional
        Names of the columns; by default those of fit, or ``x0``, ``x1`` and so on.
    inverse : bool
        Whether to return the inverse map.

    Returns
    -------
    PolarsMap
    """
    try:
        import polars  # noqa: F401
    except ImportError:
        raise ImportError("export to 'polars' needs polars: pip install polars") from None
    maps = {name: column_map(scaler, "polars", dtype=name, inverse=inverse) for name in _DTYPES}
    return PolarsMap(column_names(scaler, columns), maps)


class PolarsMap:
    """The map of some columns of a polars frame; the others stay as they are.

    Parameters
    ----------
    names : sequence of str
    maps : mapping of str to ColumnMap
        The map of tables of each dtype.
    """

    def __init__(self, names: Sequence[str], maps: Mapping[str, ColumnMap]) -> None:
        self.names = tuple(names)
        #: Of each column, coefficients and bounds by dtype.
        self._columns = [
            {dtype: (each, maps[dtype].bounds) for dtype, each in zip(maps, column, strict=True)}
            for column in zip(*(each.columns() for each in maps.values()), strict=True)
        ]

    def __call__(self, frame: Any) -> Any:
        """Return a frame, or a lazy one, whose columns are scaled."""
        import polars

        if not isinstance(frame, polars.DataFrame | polars.LazyFrame):
            kind = f"{type(frame).__module__}.{type(frame).__qualname__}"
            raise TypeError(
                f"export to 'polars' scales frames of polars, lazy or not, and this is a {kind}: "
                "make it one with polars.from_pandas, polars.from_arrow or polars.DataFrame"
            )
        return frame.with_columns(self.expressions(frame.collect_schema()))

    def expressions(self, schema: Mapping[str, Any]) -> list[polars.Expr]:
        """Return an expression for each column, of the name of the column.

        Parameters
        ----------
        schema : mapping of str to polars data type
            Of the frame. Columns of floats keep their dtype, all others become Float64.

        Raises
        ------
        ValueError
            If the frame lacks a column, or one holds no numbers.
        """
        found = []
        for name, columns in zip(self.names, self._columns, strict=True):
            kind = _kind(schema, name)
            dtype = str(kind).lower()
            stored = kind if dtype in columns else None
            found.append(_expression(name, *columns.get(dtype, columns["float64"]), stored))
        return found


def _kind(schema: Mapping[str, Any], name: str) -> Any:
    if name not in schema:
        raise ValueError(f"the frame has no column {name!r}; its columns are {_some(schema)}")
    kind = schema[name]
    if not (kind.is_numeric() or str(kind) in ("Boolean", "Null")):
        raise ValueError(f"column {name!r} holds no numbers (dtype {kind})")
    return kind


def _some(names: Iterable[str], most: int = 20) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


def _expression(
    name: str, column: Column, bounds: tuple[float, float] | None, stored: Any
) -> polars.Expr:
    import polars
    import polars.selectors

    # polars.col would take a name like ^a$ or * for a pattern.
    x = polars.selectors.by_name(name).as_expr().cast(polars.Float64)
    # Of a scalar, polars multiplies by the reciprocal, and leaves out to add 0: both change bits.
    zero = x.is_null().cast(polars.Float64)
    y = (x - column.center) / (zero + column.scale) * column.gamma
    if not (column.beta == 0.0 and np.signbit(column.beta)):
        y = y + (zero + column.beta)
    if bounds is not None:
        y = y.clip(*bounds)
    return (y if stored is None else y.cast(stored)).alias(name)
