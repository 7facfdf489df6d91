"""Columns of every Arrow type, through every format: passed through, and normalized."""

import csv
import os
import re
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow as pa
from arrow_tables import FORMATS, NAMED_NUMBERS, NUMBERS, OTHERS, one_chunk, store, stored

import normcore as nc
from normcore.io import (
    fit_file,
    fit_transform_file,
    fit_transform_source,
    open_table,
    transform_file,
)
from normcore.io.opening import source_class

ALL = {**NUMBERS, **NAMED_NUMBERS, **OTHERS}
METADATA = {"origin": "test", "bytes": b"\xff\x00"}
#: What each format holds instead of a type, as the same values; and what it cannot hold.
RETYPED = {
    ".parquet": {
        "timestamp[s]": "timestamp[ms]",
        "date64[ms]": "date32[day]",
        "dictionary<values=large_string, indices=int8, ordered=0>": (
            "dictionary<values=string, indices=int8, ordered=0>"
        ),
        "dictionary<values=string_view, indices=int8, ordered=0>": (
            "dictionary<values=string, indices=int8, ordered=0>"
        ),
    },
    ".orc": {
        "uint8": "int16",
        "uint16": "int32",
        "uint32": "int64",
        "uint64": "decimal128(20, 0)",
        "halffloat": "float",
        "decimal32(9, 1)": "decimal128(9, 1)",
        "decimal64(12, 1)": "decimal128(12, 1)",
        "large_string": "string",
        "string_view": "string",
        "binary_view": "binary",
        "fixed_size_binary[2]": "binary",
        "date64[ms]": "date32[day]",
        "large_list<item: int64>": "list<item: int64>",
        "fixed_size_list<item: int64>[2]": "list<item: int64>",
        **{f"timestamp[{unit}]": "timestamp[ns]" for unit in ("s", "ms", "us")},
        "timestamp[us, tz=Europe/Berlin]": "timestamp[ns, tz=UTC]",
    },
}
REFUSED = {
    ".parquet": {"interval", "union"},
    ".orc": {
        *("interval", "union", "null", "decimal256", "time32", "time64", "list_view", "uuid"),
        *(f"duration {unit}" for unit in ("s", "ms", "us", "ns")),
        *("list of dictionary", "bool8", "opaque", "tensor"),
    },
}


def decoded_type(type_):
    """Return what a format without dictionaries of a type holds."""
    while pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
        type_ = type_.value_type
    return type_


def type_name(type_):
    """Return the name of a type; formats call the children of nested ones differently."""
    return re.sub(r" \('\w+'\)", "", str(type_).replace("element: ", "item: "))


def expected_type(type_, target):
    if target in (".arrow", ".arrows"):
        return type_name(type_)
    retyped = RETYPED[target]
    text = target == ".parquet" and pa.types.is_dictionary(type_)
    if text and not any(word in str(type_.value_type) for word in ("string", "binary")):
        text = False
    if not text:
        type_ = decoded_type(type_)
    return retyped.get(type_name(type_), type_name(type_))


def writable(columns, path):
    """Return those columns that pyarrow writes to a format."""
    found = {}
    for name, column in columns.items():
        with suppress(pa.ArrowNotImplementedError, pa.ArrowInvalid):
            store(pa.table({name: column}), path)
            found[name] = column
    return found


def with_fields(columns):
    """Return a table with metadata of its own and of each column."""
    fields = [pa.field(name, c.type, metadata={"of": name}) for name, c in columns.items()]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields, metadata=METADATA))


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_columns_that_are_not_chosen_stay(source, target, tmp_path):
    data, out = tmp_path / f"data{source}", tmp_path / f"out{target}"
    columns = writable(ALL, data)
    table = store(with_fields({"x": pa.array([1.0, 2, 3, 4]), **columns}), data)
    arguments = (data, out, nc.MinMaxScaler((1, 4)))
    held = []
    for name in columns:
        with open_table(data) as opened:
            (field,) = [field for field in opened.fields if field.name == name]
        with suppress(ValueError):
            source_class(out).check_fields([field])
            held.append(name)
    refused = set(columns) - set(held)
    assert refused <= REFUSED.get(target, set())
    if refused:
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(ValueError, match=r"column '.*' holds .*, which .* cannot; write \."):
            fit_transform_file(*arguments, columns=["x"])
        assert sorted(os.listdir(tmp_path)) == before
        table = store(table.select(["x", *held]), data)
    report = fit_transform_file(*arguments, columns=["x"], batch_rows=3)
    assert report.passed_through == tuple(held)
    result = stored(out)
    assert result.schema.names == table.schema.names
    assert result.column("x").to_pylist() == [1, 2, 3, 4]
    for name in held:
        column, found = one_chunk(table.column(name)), one_chunk(result.column(name))
        found.validate(full=True)
        assert type_name(found.type) == expected_type(column.type, target), name
        if pa.types.is_dictionary(found.type) and name != "dictionary with null":
            assert found.dictionary.to_pylist() == column.dictionary.to_pylist(), name
            assert found.indices.equals(column.indices), name
        if found.type != column.type and any(w in name for w in ("timestamp", "date64", "uint64")):
            found = found.cast(column.type)
        if name != "tensor":
            assert repr(found.to_pylist()) == repr(column.to_pylist()), name
        else:
            assert found.equals(column)
        if ".orc" not in (source, target):
            assert result.schema.field(name).metadata[b"of"] == name.encode()
    if ".orc" not in (source, target):
        kept = {k: v for k, v in result.schema.metadata.items() if k != b"ARROW:schema"}
        assert kept == {b"origin": b"test", b"bytes": b"\xff\x00"}


def floats(column, is_bool=False):
    """Return the values of a column with Python's own numbers."""
    values = [None if value is None else float(value) for value in column.to_pylist()]
    return [None if v is None else float(bool(v)) for v in values] if is_bool else values


@pytest.mark.parametrize("target", [".parquet", ".arrow", ".arrows", ".orc", ".csv", ".npy"])
@pytest.mark.parametrize("source", FORMATS)
def test_numbers_are_normalized(source, target, tmp_path):
    data, out = tmp_path / f"data{source}", tmp_path / f"out{target}"
    columns = writable({**NUMBERS, **NAMED_NUMBERS}, data)
    store(with_fields(columns), data)
    with open_table(data) as opened:
        default = {field.name for field in opened.fields if field.by_default and field.dtype}
        assert all(field.dtype is not None for field in opened.fields)
    assert default >= set(NUMBERS) & set(columns)
    if source in (".arrow", ".arrows"):
        assert default == set(NUMBERS)
    scaler = nc.StandardScaler().fit([[0.0] * len(columns), [4.0] * len(columns)])  # (v - 2) / 2
    scaler.feature_names_in_ = np.array(list(columns), dtype=object)
    transform_file(data, out, scaler, batch_rows=3)
    names = list(columns)
    if target == ".npy":
        found = dict(zip(names, np.load(out).T, strict=True))
    elif target == ".csv":
        with open(out, newline="") as file:
            header, *rows = csv.reader(file)
        assert header == names
        cells = dict(zip(names, zip(*rows, strict=True), strict=True))
        found = {n: [float(cell) if cell else None for cell in c] for n, c in cells.items()}
    else:
        result = stored(out)
        found = {name: result.column(name).to_pylist() for name in names}
    for name, column in columns.items():
        expected = [None if v is None else (v - 2) / 2 for v in floats(column, name == "bool8")]
        if target not in (".npy", ".csv"):
            value = decoded_type(column.type)
            width = str(value) if pa.types.is_floating(value) else "double"
            width = "float" if width == "halffloat" and ".orc" in (source, target) else width
            field = result.schema.field(name)
            assert str(field.type) == width, name
            if ".orc" not in (source, target):
                assert field.metadata == {b"of": name.encode()}, name
        if target != ".npy":  # a missing value is missing there, and a NaN is one
            assert [v is None for v in found[name]] == [v is None for v in expected], name
        np.testing.assert_allclose(
            np.array(found[name], float), np.array(expected, float), rtol=1e-15, err_msg=name
        )


def test_what_is_no_number_is_never_normalized(tmp_path):
    data = tmp_path / "data.arrow"
    store(pa.table({"x": [1.0, 2, 3, 4], **OTHERS}), data)
    scaler = nc.StandardScaler()
    assert fit_file(data, scaler).columns == ("x",)
    for name in OTHERS:
        with pytest.raises(
            ValueError, match=rf"data\.arrow: column '{name}' holds .*, not numbers"
        ):
            fit_file(data, scaler, columns=[name])


def test_periods_of_pandas_are_no_numbers(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"p": pd.period_range("2024", periods=3, freq="D"), "x": [1.0, 2, 4]})
    frame.to_parquet(tmp_path / "x.parquet")
    assert fit_transform_file(
        tmp_path / "x.parquet", tmp_path / "y.parquet", nc.MinMaxScaler()
    ).columns == ("x",)
    result = pd.read_parquet(tmp_path / "y.parquet")
    assert result["p"].equals(frame["p"])


def test_an_extension_type_becomes_plain_floats(tmp_path):
    if not hasattr(pa, "opaque"):
        pytest.skip("pyarrow is too old")
    store(pa.table({"o": NAMED_NUMBERS["opaque"]}), tmp_path / "x.arrow")
    fit_transform_file(tmp_path / "x.arrow", tmp_path / "y.arrow", nc.MinMaxScaler(), columns=["o"])
    field = stored(tmp_path / "y.arrow").schema.field("o")
    assert field.type == pa.float64()
    assert not field.metadata


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.string_view()])
def test_encoded_text_is_written_to_csv_as_text(text, tmp_path):
    words = pa.array(["a,b", "c"], text)
    indices = pa.array([0, None, 1, 0], pa.int32())
    columns = {"x": [0.0, 1, 2, 4], "d": pa.DictionaryArray.from_arrays(indices, words)}
    if text == pa.string():
        runs = pa.RunEndEncodedArray.from_arrays(pa.array([1, 4], pa.int32()), words)
        columns["r"] = runs
    nc.fit_source(table := pa.table(columns), scaler := nc.MinMaxScaler())
    nc.transform_source(table, tmp_path / "y.csv", scaler)
    with open(tmp_path / "y.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["d"] for row in rows] == ["a,b", "", "c", "a,b"]
    assert [row.get("r", "c") for row in rows[1:]] == ["c", "c", "c"]


@pytest.mark.parametrize("nested", [[[1], None], [{"a": 1}, None]], ids=["list", "struct"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_what_csv_cannot_hold_is_refused_before_anything_is_read(nested, suffix, tmp_path):
    data = tmp_path / "data.parquet"
    store(pa.table({"x": [1.0, 2], "nested": nested}), data)
    steps = []
    with pytest.raises(ValueError, match=r"column 'nested' holds .* cannot; write \.parquet"):
        fit_transform_source(
            data, tmp_path / f"y{suffix}", nc.MinMaxScaler(), progress=steps.append
        )
    assert not steps
    assert os.listdir(tmp_path) == ["data.parquet"]
