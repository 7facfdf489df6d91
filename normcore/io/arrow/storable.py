"""Gives columns that a format cannot hold the next type that it can, where nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from normcore.io.arrow.batch import record_batch
from normcore.io.arrow.numeric_types import plain
from normcore.io.batch import Field
from normcore.io.libraries import pa, pc

__all__ = [
    "Storable",
    "converted",
    "has_dictionary",
    "refuse_types",
    "storable_schema",
    "without_hidden_nulls",
]

#: Returns the type in which a format holds columns of a type, None if it cannot.
Storable: TypeAlias = "Callable[[pa.DataType], pa.DataType | None]"


def storable_schema(schema: pa.Schema, storable: Storable) -> pa.Schema:
    """Return the schema in which a format holds a table that it can hold."""
    fields = [field.with_type(storable(field.type) or field.type) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def refuse_types(fields: Sequence[Field], storable: Storable, format_: str, instead: str) -> None:
    """Refuse columns that a format cannot hold.

    Raises
    ------
    ValueError
        Naming the first one.
    """
    for field in fields:
        if field.type is not None and storable(field.type) is None:
            raise ValueError(
                f"column {field.name!r} holds {field.type}, which {format_} cannot; write "
                f"{instead}, or leave the column out of the table"
            )


def converted(data: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the columns in the types of a schema.

    Raises
    ------
    ValueError
        If a value is beyond its type, naming the column.
    """
    if data.schema.equals(schema):
        return data
    columns = []
    for column, field in zip(data.columns, schema, strict=True):
        try:
            columns.append(column if column.type == field.type else cast_array(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"column {field.name!r} holds {column.type}, and a value that is no {field.type}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    return record_batch(columns, list(schema), schema.metadata)


def cast_array(column: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return a column in another type; pyarrow's own cast lacks those of dictionaries."""
    if pa.types.is_dictionary(column.type) and pa.types.is_dictionary(type_):
        column = without_hidden_nulls(column)
        return pa.DictionaryArray.from_arrays(
            column.indices.cast(type_.index_type),
            column.dictionary.cast(type_.value_type),
            ordered=type_.ordered,
        )
    if pa.types.is_dictionary(column.type) or pa.types.is_run_end_encoded(column.type):
        column = plain(column)
    return column if column.type == type_ else column.cast(type_)


def has_dictionary(type_: pa.DataType) -> bool:
    """Whether columns of a type have a dictionary, or a nested one somewhere within."""
    if isinstance(type_, pa.BaseExtensionType):
        return has_dictionary(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return True
    return any(has_dictionary(type_.field(i).type) for i in range(type_.num_fields))


def without_hidden_nulls(column: pa.Array) -> pa.Array:
    """Return a dictionary column whose missing values are missing, none of them in the dictionary.

    Parquet knows no others, and dictionaries with them cannot be unified.
    """
    dictionary = column.dictionary
    if not dictionary.null_count:
        return column
    kept = dictionary.is_valid()
    numbers = pc.cumulative_sum(kept.cast(pa.int64()))
    moved = pc.if_else(kept, pc.subtract(numbers, 1), pa.scalar(None, pa.int64()))
    return pa.DictionaryArray.from_arrays(
        moved.take(column.indices).cast(column.type.index_type),
        dictionary.drop_null(),
        ordered=column.type.ordered,
    )
