"""docs/tables.md is true: its examples, and its table of what is numeric."""

from __future__ import annotations

import doctest
import io
import re
import sys

import pytest
from page_examples import commands, shell
from paths import ROOT

pytest.importorskip("pyarrow")
pytest.importorskip("rich")
pytest.importorskip("click")

PAGE = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(console|pycon)\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.skipif(sys.platform == "win32", reason="the examples are for sh")
def test_examples(tmp_path, monkeypatch):
    """All of them, one after another, in one folder and one namespace."""
    monkeypatch.chdir(tmp_path)
    names, attempted = {}, 0
    for language, block in BLOCKS:
        if language == "console":
            for command, shown in commands(block):
                assert shell(command, tmp_path)[1] == shown, command
                attempted += 1
        else:
            page = doctest.DocTestParser().get_doctest(block, names, "tables.md", None, None)
            printed = io.StringIO()
            runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
            results = runner.run(page, out=printed.write, clear_globs=False)
            names = page.globs
            assert results.failed == 0, printed.getvalue()
            attempted += results.attempted
    assert attempted == len(re.findall(r"^(?:>>>|\$) ", PAGE, re.M))


def types_of(words):
    """Return Arrow types that a cell of the table names."""
    import pyarrow as pa

    kinds = {
        "int8 to int64, uint8 to uint64": [
            pa.int8(), pa.int16(), pa.int32(), pa.int64(),
            pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        ],
        "half_float, float, double": [pa.float16(), pa.float32(), pa.float64()],
        "decimal32 to decimal256": [
            *(getattr(pa, name)(5, 2) for name in ("decimal32", "decimal64") if hasattr(pa, name)),
            pa.decimal128(5, 2), pa.decimal256(5, 2),
        ],
        "dictionary or run-end encoded, of these": [
            pa.dictionary(pa.int8(), pa.int64()), pa.dictionary(pa.int32(), pa.float32()),
            pa.run_end_encoded(pa.int32(), pa.int16()),
        ],
        "bool": [pa.bool_()],
        "null": [pa.null()],
        "string, binary, date, time, timestamp, duration, list, struct, map, union": [
            pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.date32(), pa.date64(),
            pa.time32("s"), pa.timestamp("ns"), pa.duration("s"), pa.list_(pa.float64()),
            pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8()),
        ],
    }  # fmt: skip
    return kinds[words]


def rows_of_types():
    section = PAGE.split("## What is numeric")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if "|" in line][2:]
    return [tuple(cell.strip("| ") for cell in row) for row in rows]


@pytest.mark.parametrize("row", rows_of_types(), ids=lambda row: row[0])
def test_what_is_numeric(row):
    import pyarrow as pa

    import normcore as nc

    words, by_default, named, becomes = (*row, "")[:4]
    values = {"binary": [b"1", None, b"3"]}
    for type_ in types_of(words):
        if pa.types.is_null(type_):
            column = pa.nulls(3)
        elif pa.types.is_nested(type_) and not pa.types.is_run_end_encoded(type_):
            column = pa.nulls(3, type_)
        elif pa.types.is_run_end_encoded(type_):
            column = pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([1, 3], type_.value_type))
        else:
            plain = type_.value_type if pa.types.is_dictionary(type_) else type_
            made = [True, None, False] if pa.types.is_boolean(plain) else [1, None, 3]
            made = values.get(str(plain), made)
            text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
            if text or plain == pa.string_view():
                made = ["1", None, "3"]
            column = pa.array(made, plain)
            column = column.dictionary_encode() if pa.types.is_dictionary(type_) else column
        table = pa.table({"beside": [1.0, 2.0, 3.0], "x": column})
        report = nc.fit_source(table, nc.MinMaxScaler())
        assert ("x" in report.columns) is (by_default == "yes"), type_
        scaler = nc.MinMaxScaler()
        if named != "yes":
            with pytest.raises(ValueError, match="not numbers"):
                nc.fit_source(table, scaler, columns=["x"])
            continue
        nc.fit_source(table, scaler, columns=["x"])
        batches = []
        nc.transform_source(table, batches.append, scaler)
        result = pa.Table.from_batches(batches).column("x")
        inner = type_.value_type if by_default == "yes" and hasattr(type_, "value_type") else type_
        floating = pa.types.is_floating(inner)
        assert result.type == (inner if floating else pa.float64()), type_
        assert result.null_count == column.null_count
        assert becomes in ("double", "its own type", "as what it encodes")
