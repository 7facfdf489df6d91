"""Which Arrow columns hold numbers: the one rule for every file, stream and frame.

Integers, floats and decimals are normalized unless other columns are named, and so are dictionaries
and run-end encoded columns of them. Booleans, columns of nulls alone and extension types that
store numbers are normalized where they are named. Text, times, binary and nested values never are.
"""

from __future__ import annotations

import numpy as np

from normcore.io.batch import Field, float_dtype
from normcore.io.libraries import pa, pc

__all__ = ["as_floats", "describe", "normalized_dtype", "plain", "value_type"]

_FLOAT64 = np.dtype(np.float64)
_EXTENSION_NAME = b"ARROW:extension:name"
# Numbers are stored, but points in time are meant.
_TEMPORAL_EXTENSIONS = ("pandas.period",)
_BOOL8 = "arrow.bool8"


def describe(field: pa.Field) -> Field:
    """Describe a column for those who choose among them."""
    dtype, by_default = None, True
    extension = _extension_name(field)
    if extension not in _TEMPORAL_EXTENSIONS:
        dtype = normalized_dtype(field.type)
        by_default = not extension and is_number(value_type(field.type))
    return Field(field.name, dtype, str(field.type), by_default=by_default, type=field.type)


def is_number(type_: pa.DataType) -> bool:
    """Whether values of a type are integers, floats or decimals."""
    kinds = pa.types
    return bool(kinds.is_integer(type_) or kinds.is_floating(type_) or kinds.is_decimal(type_))


def normalized_dtype(type_: pa.DataType) -> np.dtype | None:
    """Return the float dtype in which columns of a type are normalized, None if they never are."""
    type_ = value_type(type_)
    if pa.types.is_floating(type_):
        return float_dtype(type_.to_pandas_dtype())
    if is_number(type_) or pa.types.is_boolean(type_) or pa.types.is_null(type_):
        return _FLOAT64
    return None


def value_type(type_: pa.DataType) -> pa.DataType:
    """Return the type of the values without what encodes them or says more of their meaning."""
    while True:
        if isinstance(type_, pa.BaseExtensionType):
            is_bool8 = getattr(type_, "extension_name", None) == _BOOL8
            type_ = pa.bool_() if is_bool8 else type_.storage_type
        elif pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
            type_ = type_.value_type
        else:
            return type_


def plain(column: pa.Array) -> pa.Array:
    """Return a column as an array of its :func:`value_type`, nulls where it has none."""
    while True:
        type_ = column.type
        if isinstance(type_, pa.BaseExtensionType):
            is_bool8 = getattr(type_, "extension_name", None) == _BOOL8
            column = column.storage
            if is_bool8:
                column = pc.not_equal(column, pa.scalar(0, pa.int8()))
        elif pa.types.is_dictionary(type_):
            column = _decoded(column)
        elif pa.types.is_run_end_encoded(type_):
            column = pc.run_end_decode(column)
        else:
            return column


def _decoded(column: pa.DictionaryArray) -> pa.Array:
    dictionary = column.dictionary
    # Of views pyarrow takes none.
    if pa.types.is_string_view(dictionary.type):
        dictionary = dictionary.cast(pa.large_string())
    elif pa.types.is_binary_view(dictionary.type):
        dictionary = dictionary.cast(pa.large_binary())
    return dictionary.take(column.indices)


def as_floats(column: pa.Array) -> np.ndarray:
    """Return a :func:`plain` column of numbers as floats of its dtype, NaN for what is missing."""
    type_ = column.type
    if pa.types.is_null(type_):
        return np.full(len(column), np.nan)
    if pa.types.is_decimal(type_):
        # By way of text, since pyarrow's own cast is off by an ulp now and then.
        column = column.cast(pa.string()).cast(pa.float64())
    elif not pa.types.is_floating(type_):
        # Not safe, which would refuse all integers beyond 2**53.
        column = column.cast(pa.float64(), safe=False)
    return column.to_numpy(zero_copy_only=False)


def _extension_name(field: pa.Field) -> str:
    """Return the name of an extension type, known to this process or not; else nothing."""
    if isinstance(field.type, pa.BaseExtensionType):
        return str(getattr(field.type, "extension_name", "?"))
    return (field.metadata or {}).get(_EXTENSION_NAME, b"").decode("utf-8", "replace")
