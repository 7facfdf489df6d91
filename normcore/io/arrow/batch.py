"""Batches of rows that are Arrow record batches: columns are replaced, others never looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from normcore.io.arrow import pandas_metadata
from normcore.io.arrow.numeric_types import as_floats, normalized_dtype, plain
from normcore.io.batch import TableBatch
from normcore.io.digits import check_decimals, check_integers
from normcore.io.libraries import pa

__all__ = ["ArrowBatch", "record_batch"]


class ArrowBatch(TableBatch):
    """Rows that are an Arrow record batch.

    Parameters
    ----------
    first_row : int
    data : pyarrow.RecordBatch
    passed_through : bool
        Whether all columns that are not floats pass through, so that every digit matters.
    """

    def __init__(
        self, first_row: int, data: pa.RecordBatch, *, passed_through: bool = False
    ) -> None:
        self.first_row = first_row
        self.num_rows = data.num_rows
        self.data = data
        self.passed_through = passed_through

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """See :meth:`TableBatch.matrix`."""
        columns = [self._floats(name) for name in names]
        dtype = np.result_type(*{column.dtype for column in columns} or {np.dtype(np.float64)})
        # Column after column in memory, so that results go back to Arrow without a copy.
        result = np.empty((self.num_rows, len(columns)), dtype, order="F")
        for index, column in enumerate(columns):
            result[:, index] = column
        return result

    def column_arrays(self, names: Sequence[str]) -> Sequence[np.ndarray]:
        """See :meth:`TableBatch.column_arrays`."""
        return [self._floats(name) for name in names]

    def _floats(self, name: str) -> np.ndarray:
        column = plain(self.data.column(name))
        floats = as_floats(column)
        if pa.types.is_integer(column.type):
            if column.type.bit_width == 64:
                whole = column.fill_null(0).to_numpy(zero_copy_only=False)
                check_integers(whole[:, None], [name], self.first_row)
        elif pa.types.is_decimal(column.type):
            limit = 10.0 ** (15 - column.type.scale) if self.passed_through else np.inf
            where = np.flatnonzero(np.abs(floats) >= min(limit, 2.0**53))
            exact = column.take(pa.array(where)).to_pylist()
            check_decimals(exact, name, self.first_row, where)
        return floats

    def with_matrix(self, names: Sequence[str], values: np.ndarray) -> ArrowBatch:
        """See :meth:`TableBatch.with_matrix`."""
        columns, fields = self.data.columns, list(self.data.schema)
        retyped: dict[str, str] = {}
        for name, column in zip(names, values.T, strict=True):
            index = self.data.schema.get_field_index(name)
            old, field = columns[index], fields[index]
            dtype = normalized_dtype(old.type) or np.dtype(np.float64)
            new = pa.array(np.ascontiguousarray(column, dtype=dtype), mask=_missing(old))
            columns[index], fields[index] = new, _retyped(field, new.type)
            if new.type != old.type:
                retyped[name] = dtype.name
        metadata = pandas_metadata.with_dtypes(self.data.schema.metadata, retyped)
        return ArrowBatch(
            self.first_row, record_batch(columns, fields, metadata), passed_through=True
        )

    def to_arrow(self) -> pa.RecordBatch:
        """See :meth:`TableBatch.to_arrow`."""
        return self.data


def record_batch(
    columns: Sequence[pa.Array], fields: Sequence[pa.Field], metadata: Mapping[bytes, bytes] | None
) -> pa.RecordBatch:
    """Put columns together."""
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, metadata=metadata))


def _missing(column: pa.Array) -> np.ndarray | None:
    """Return where values are missing, also those that an encoding hides; None if none is."""
    if not pa.types.is_primitive(column.type):
        column = plain(column)
    if not column.null_count:
        return None
    return column.is_null().to_numpy(zero_copy_only=False)


def _retyped(field: pa.Field, type_: pa.DataType) -> pa.Field:
    """Return a field of floats, which is no extension type any more."""
    metadata = field.metadata
    if metadata:
        kept = {k: v for k, v in metadata.items() if not k.startswith(b"ARROW:extension:")}
        field = field.with_metadata(kept) if kept else field.remove_metadata()
    return field.with_type(type_)
