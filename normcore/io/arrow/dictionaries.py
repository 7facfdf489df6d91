"""Makes one dictionary of those that a column has from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from normcore.io.arrow.batch import record_batch
from normcore.io.arrow.storable import cast_array, converted, has_dictionary, without_hidden_nulls
from normcore.io.libraries import pa

__all__ = ["UnifiedDictionaries", "dictionaries", "same_dictionaries"]

#: Of a record batch, with those within nested columns.
Dictionaries: TypeAlias = "list[pa.Array]"

_INDEX_TYPES = (pa.int8(), pa.int16(), pa.int32(), pa.int64())


def dictionaries(data: pa.RecordBatch) -> Dictionaries:
    """Return all dictionaries of a record batch."""
    return [each for column in data.columns for each in _within(column)]


def same_dictionaries(first: Dictionaries, second: Dictionaries) -> bool:
    """Whether dictionaries are equal, one by one."""
    return len(first) == len(second) and all(map(pa.Array.equals, first, second))


def _within(column: pa.Array) -> Iterator[pa.Array]:
    type_ = column.type
    if not has_dictionary(type_):
        return
    if isinstance(type_, pa.BaseExtensionType):
        yield from _within(column.storage)
    elif pa.types.is_dictionary(type_):
        yield column.dictionary
        yield from _within(column.dictionary)
    elif pa.types.is_struct(type_) or pa.types.is_union(type_):
        for index in range(type_.num_fields):
            yield from _within(column.field(index))
    elif pa.types.is_map(type_):
        yield from _within(column.keys)
        yield from _within(column.items)
    else:  # lists of all kinds, and runs
        yield from _within(column.values)


class UnifiedDictionaries:
    """The dictionaries of all batches that were seen, each column's as one.

    Parameters
    ----------
    first : pyarrow.RecordBatch
        The values of its dictionaries come first, in their order.

    Attributes
    ----------
    schema : pyarrow.Schema
        With types of indices that are wide enough.
    """

    def __init__(self, first: pa.RecordBatch) -> None:
        self.schema = first.schema
        self._known = _prepared(first.slice(0, 0))

    def add(self, data: pa.RecordBatch) -> None:
        """Take in the dictionaries of a batch.

        Raises
        ------
        ValueError
            If there is no one dictionary for a column, which is named.
        """
        self._known = self.applied(data).slice(0, 0)

    def applied(self, data: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch with the dictionaries of those that were added, and its own."""
        data = converted(_prepared(data), self.schema)
        self._check_order(data)
        columns = [
            self._column(index, column) if has_dictionary(column.type) else column
            for index, column in enumerate(data.columns)
        ]
        return record_batch(columns, list(self.schema), self.schema.metadata)

    def _column(self, index: int, column: pa.Array) -> pa.Array:
        known, field = self._known.column(index), self.schema.field(index)
        while True:
            try:
                # Not Table.unify_dictionaries, which writes into dictionaries of nested columns.
                return pa.concat_arrays([known, column])
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                wider = None
                if "larger index type" in str(error) and pa.types.is_dictionary(field.type):
                    wider = _wider(field.type)
                if wider is None:
                    raise ValueError(
                        f"column {field.name!r}: the dictionary changes from batch to batch, an "
                        f"Arrow IPC file has one, and they cannot become one ({error}); write "
                        ".parquet or .arrows instead"
                    ) from error
                field = field.with_type(wider)
                self.schema = self.schema.set(index, field)
                known, column = (cast_array(each, wider) for each in (known, column))

    def _check_order(self, data: pa.RecordBatch) -> None:
        for index, field in enumerate(self.schema):
            if any(pa.types.is_float16(each.type) for each in _within(data.column(index))):
                # pyarrow would unify them wrongly.
                raise ValueError(
                    f"column {field.name!r}: dictionaries of float16 that change from batch to "
                    "batch cannot become one; write .arrows instead"
                )
            if not pa.types.is_dictionary(field.type):
                continue
            known, new = (each.column(index).dictionary for each in (self._known, data))
            common = min(len(known), len(new))
            if field.type.ordered and not known[:common].equals(new[:common]):
                raise ValueError(
                    f"column {field.name!r}: the order of its categories changes from batch to "
                    "batch, and an Arrow IPC file has one; write .parquet or .arrows instead"
                )


def _prepared(data: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        without_hidden_nulls(column) if pa.types.is_dictionary(column.type) else column
        for column in data.columns
    ]
    return record_batch(columns, list(data.schema), data.schema.metadata)


def _wider(type_: pa.DictionaryType) -> pa.DictionaryType | None:
    for index_type in _INDEX_TYPES:
        if index_type.bit_width > type_.index_type.bit_width:
            return pa.dictionary(index_type, type_.value_type, type_.ordered)
    return None
