"""What pandas stores in the metadata of a table about its frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TypedDict, cast

__all__ = ["index_columns", "with_dtypes", "with_rows"]

Metadata = Mapping[bytes, bytes]
_KEY = b"pandas"


class _Column(TypedDict, total=False):
    name: str | None
    field_name: str | None
    pandas_type: str
    numpy_type: str
    metadata: object


class _Range(TypedDict):
    kind: str
    name: str | None
    start: int
    stop: int
    step: int


class _Stored(TypedDict, total=False):
    index_columns: list[str | _Range]
    columns: list[_Column]


def _stored(metadata: Metadata | None) -> _Stored:
    with suppress(KeyError, ValueError, TypeError):
        stored = json.loads((metadata or {})[_KEY])
        if isinstance(stored, dict):
            return cast(_Stored, stored)
    return {}


def _replaced(metadata: Metadata | None, stored: _Stored) -> dict[bytes, bytes]:
    return {**(metadata or {}), _KEY: json.dumps(stored).encode()}


def index_columns(metadata: Metadata | None) -> set[str]:
    """Return the columns that pandas would make the index of the frame."""
    found = _stored(metadata).get("index_columns")
    return {name for name in found or () if isinstance(name, str)}


def with_dtypes(metadata: Metadata | None, dtypes: Mapping[str, str]) -> Metadata | None:
    """Return the metadata with new dtypes; pandas would convert the columns to the old ones."""
    stored = _stored(metadata)
    if not (dtypes and stored.get("columns")):
        return metadata
    for column in stored["columns"]:
        dtype = dtypes.get(column.get("field_name") or column.get("name") or "")
        if dtype is not None:
            column["pandas_type"] = column["numpy_type"] = dtype
            column["metadata"] = None
    return _replaced(metadata, stored)


def with_rows(metadata: Metadata | None, num_rows: int | None) -> Metadata | None:
    """Return the metadata of several tables that become one: row numbers run through them."""
    stored = _stored(metadata)
    ranges = [each for each in stored.get("index_columns") or () if isinstance(each, dict)]
    if not ranges:
        return metadata
    for each in ranges:
        each["start"], each["stop"], each["step"] = 0, num_rows or 0, 1
    return _replaced(metadata, stored)
