"""No digit is lost on the way from a file to another file or to a scaler."""

import csv
import os
from decimal import Decimal

import numpy as np
import pytest

import normcore as nc
from normcore.io import fit_file, fit_transform_file, transform_file

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

# -- what passes through -----------------------------------------------------------------------

BIG = 2**53
ROWS = 40
PASSING = {
    "int64": pa.array([(-1) ** i * (BIG + 2 * i + 1) for i in range(ROWS)], pa.int64()),
    "int64 ends": pa.array([2**63 - 1, -(2**63)] * (ROWS // 2), pa.int64()),
    "int64 with nulls": pa.array([None if i % 3 else BIG + i + 1 for i in range(ROWS)], pa.int64()),
    "uint64": pa.array([2**64 - 1 - i for i in range(ROWS)], pa.uint64()),
    "even": pa.array([2**62 + 2**11 * i for i in range(ROWS)], pa.int64()),
    "int32": pa.array([2**31 - 1 - i for i in range(ROWS)], pa.int32()),
    "uint8": pa.array(range(ROWS), pa.uint8()),
    "float16": pa.array(np.linspace(0, 1, ROWS).astype(np.float16)),
    "float32": pa.array(np.linspace(0, 1, ROWS).astype(np.float32)),
    "float64": pa.array(np.linspace(0, 1, ROWS)),
    "decimal": pa.array([Decimal(f"{i}.10") for i in range(ROWS)], pa.decimal128(22, 2)),
    "decimal38": pa.array([Decimal(BIG**2 + i + 1) for i in range(ROWS)], pa.decimal128(38, 0)),
    "fraction": pa.array([Decimal(f"0.{i + 10}" + "3" * 18) for i in range(ROWS)]),
    "bool": pa.array([i % 3 == 0 for i in range(ROWS)]),
    "text": pa.array([f'{i},"\n' for i in range(ROWS)]),
    "digits": pa.array(["00" + "9" * 30] * ROWS),
    "timestamp": pa.array([BIG + i for i in range(ROWS)], pa.timestamp("ns")),
}
#: Those that an array of float64 cannot hold.
TOO_FINE = {"int64", "int64 ends", "int64 with nulls", "uint64", "decimal38", "fraction"}
NO_NUMBERS = {"bool", "text", "timestamp"}


def store(table, path):
    """Write a table with pyarrow or NumPy alone."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=7)
    elif path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    elif path.suffix == ".npy":
        np.save(path, np.stack([column.to_numpy() for column in table.columns], axis=1))
    else:
        make = pa.ipc.new_stream if path.suffix == ".ipc" else pa.ipc.new_file
        with make(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=7)


def stored(path):
    """Read a table with pyarrow or NumPy alone; CSV as text."""
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".npy":
        array = np.load(path)
        return pa.table({f"x{i}": column for i, column in enumerate(array.T)})
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
        return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    return pa.ipc.open_file(str(path)).read_all()


def as_text(column):
    """What a CSV file holds of a column, to be compared as numbers where it holds numbers."""
    number = not (pa.types.is_boolean(column.type) or pa.types.is_timestamp(column.type))
    if pa.types.is_string(column.type) or not number:
        return column.cast(pa.string()).to_pylist()
    return [None if value is None else Decimal(value) for value in column.to_pylist()]


def same_text(column, texts):
    expected = as_text(column)
    if expected and any(isinstance(value, Decimal) for value in expected):
        texts = [None if text in (None, "") else Decimal(text) for text in texts]
        if pa.types.is_floating(column.type):
            expected = [float(value) for value in expected]
            texts = [column.type.to_pandas_dtype()(float(text)) for text in texts]
    return texts == expected


@pytest.mark.parametrize("target", [".csv", ".parquet", ".arrow", ".feather", ".npy"])
@pytest.mark.parametrize("source", [".csv", ".parquet", ".arrow", ".feather", ".ipc"])
@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_through_stays_as_it_is(kind, source, target, tmp_path):
    column = PASSING[kind]
    table = pa.table({"x": np.arange(ROWS) % 5.0, "other": column})
    data, out = tmp_path / f"data{source}", tmp_path / f"out{target}"
    store(table, data)
    arguments = (data, out, nc.MinMaxScaler((0, 4)))
    options = {"columns": ["x"], "batch_rows": 9}
    lost = TOO_FINE - ({"fraction"} if source == ".csv" else set())
    if source == ".csv":
        lost = lost | {"digits"}  # text elsewhere
    text = NO_NUMBERS | (set() if source == ".csv" else {"digits"})
    if target == ".npy" and kind in lost | text:
        message = "numbers only" if kind in text else r"data\.\w+: column 'other' holds .* row 1 "
        with pytest.raises(ValueError, match=message):
            fit_transform_file(*arguments, **options)
        assert os.listdir(tmp_path) == [data.name]
        return
    report = fit_transform_file(*arguments, **options)
    assert report.before.num_rows == ROWS
    result = stored(out)
    assert np.array_equal(np.array(result.column(0), dtype=float), np.arange(ROWS) % 5.0)
    other = result.column(1)
    if source == ".csv" and pa.types.is_floating(other.type):
        assert other.to_pylist() == list(map(float, stored(data).column(1).to_pylist()))
    elif target == ".csv" or source == ".csv":
        assert same_text(column, other.to_pylist())
        if source == target == ".csv":
            assert other.to_pylist() == stored(data).column(1).to_pylist()
    elif target == ".npy":
        assert other.to_pylist() == [float(value) for value in column.to_pylist()]
    else:
        assert other.type == column.type
        assert other.to_pylist() == column.to_pylist()


@pytest.mark.parametrize("target", [".csv", ".parquet", ".arrow", ".feather", ".npy"])
@pytest.mark.parametrize(
    "dtype", ["i8", "u8", ">i8", "i4", ">u4", "u1", "f8", ">f8", "f4", "f2", "?"]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_columns_of_an_array_that_pass_through_stay_as_they_are(dtype, target, order, tmp_path):
    dtype = np.dtype(dtype)
    wide = dtype.kind in "iu" and dtype.itemsize == 8
    array = np.array([[i % 5, i + wide * (BIG + 1), i % 2] for i in range(ROWS)], order=order)
    array = array.astype(dtype, order=order)
    np.save(tmp_path / "data.npy", array)
    out = tmp_path / f"out{target}"
    arguments = (tmp_path / "data.npy", out, nc.StandardScaler())
    options = {"columns": ["x2", "x0"], "batch_rows": 9}
    if wide and target == ".npy":
        with pytest.raises(
            ValueError, match=r"data\.npy: column 'x1' holds 9007199254740993, .* 1 "
        ):
            fit_transform_file(*arguments, **options)
        assert os.listdir(tmp_path) == ["data.npy"]
        return
    fit_transform_file(*arguments, **options)
    other = stored(out).column(1)
    native = pa.array(np.ascontiguousarray(array[:, 1], dtype=dtype.newbyteorder("=")))
    if target == ".csv":
        assert same_text(native, other.to_pylist())
    elif target == ".npy":
        assert other.to_pylist() == native.to_pylist()
    else:
        assert other.type == native.type
        assert other.to_pylist() == native.to_pylist()


@pytest.mark.parametrize("target", [".csv", ".parquet", ".npy"])
def test_wide_floats_pass_through_only_where_they_fit(target, tmp_path):
    if np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("long double is float64 here")
    array = np.arange(6, dtype=np.longdouble).reshape(3, 2)
    data, out = tmp_path / "data.npy", tmp_path / f"out{target}"
    np.save(data, array)
    fit_transform_file(data, out, nc.MinMaxScaler(), columns=["x0"])
    assert [float(value) for value in stored(out).column(1).to_pylist()] == [1, 3, 5]
    array[1, 1] /= 3
    np.save(data, array / 3)
    with pytest.raises(ValueError, match=r"column 'x1' holds 0\.33333.* row 1 "):
        fit_transform_file(data, out, nc.MinMaxScaler(), columns=["x0"])


# -- what is normalized ------------------------------------------------------------------------


@pytest.mark.parametrize("source", [".csv", ".parquet", ".arrow", ".feather", ".ipc", ".npy"])
@pytest.mark.parametrize("kind", ["int64", "int64 ends", "uint64", "decimal38", "even", "int32"])
def test_integers_that_float64_would_round_are_not_normalized(kind, source, tmp_path):
    if source == ".npy" and kind == "decimal38":
        pytest.skip("arrays hold no decimals")
    column = PASSING[kind]
    start = pa.array([0] * 15).cast(column.type)
    table = pa.table({"x0": pa.concat_arrays([start, column]), "x1": range(ROWS + 15)})
    if source == ".npy":
        table = table.select(["x0"])
    data, out = tmp_path / f"data{source}", tmp_path / "out.parquet"
    store(table, data)
    scaler = nc.MinMaxScaler()
    if kind in ("even", "int32"):
        fit_transform_file(data, out, scaler, columns=["x0"])
        exact = [Decimal(value) for value in column.to_pylist()]
        assert scaler.data_max_.tolist() == [float(max(exact))]
        return
    unnamed = nc.MinMaxScaler().fit([[0.0] * len(table.columns)])
    first = column.to_pylist()[0]
    message = rf"data\{source}: column 'x0' holds {first}, first in row 16 of the data.*--columns"
    for action in (
        lambda: fit_file(data, scaler, columns=["x0"], batch_rows=4),
        lambda: fit_file(data, nc.RobustScaler(), batch_rows=4),
        lambda: transform_file(data, out, unnamed),
    ):
        with pytest.raises(ValueError, match=message):
            action()
    assert not hasattr(scaler, "scale_")
    assert os.listdir(tmp_path) == [data.name]


@pytest.mark.parametrize(
    ("cell", "lost"),
    [
        ("9007199254740992", False),
        ("9007199254740993", True),
        (" -9007199254740993 ", True),
        ("9007199254740993.00", True),
        ("9007199254740994", False),
        ("1700000000000001000", True),
        ("1700000000000000000", False),
        ("9007199254740993e0", False),  # written as a float
        ("123456789012345678.5", False),
        ("1" + "0" * 22, False),
        ("1" + "0" * 23, True),
        ("00000000000000000012", False),
        ("9" * 5000, True),
    ],
)
def test_whole_numbers_in_csv_that_float64_would_round(cell, lost, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(f"a,b\n1,1\n2,{cell}\n")
    if lost:
        with pytest.raises(ValueError, match=r"data\.csv: column 'b' holds .* row 2 of the data"):
            fit_file(path, nc.StandardScaler())
        fit_file(path, nc.StandardScaler(), columns=["a"])
    else:
        scaler = nc.MinMaxScaler()
        fit_file(path, scaler)
        assert scaler.data_max_[1] == max(1.0, float(cell))
