"""SQL: names and numbers that databases must read as they are, what is missing, what is refused."""

import math
import re
import sqlite3

import numpy as np
import pytest
from exported import arrow, dataset, queried, same_bits
from hostile_names import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st

import normcore as nc
from normcore.export.sql_dialects import DIALECTS

pa = pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

ROWS = np.random.default_rng(0).normal(size=(20, len(HOSTILE))) + 1e6


def named(scaler, X, names):
    return scaler.fit(pa.table([pa.array(column) for column in X.T], names=names))


def columns(table):
    return np.column_stack([each.to_numpy(zero_copy_only=False) for each in table.columns])


def test_hostile_names_are_names():
    scaler = named(nc.StandardScaler(), ROWS, HOSTILE)
    table = 'the "table"; --'
    found = queried(scaler.export("sql", table=table), **{table: arrow(ROWS, HOSTILE)})
    assert found.column_names == HOSTILE
    same_bits(columns(found), scaler.transform(arrow(ROWS, HOSTILE)))


def test_a_select_list_stands_in_any_query():
    scaler = named(nc.MinMaxScaler(clip=True), ROWS[:10, :2], ["a", "select"])
    listed = scaler.export("sql")
    assert not listed.lower().startswith("select")
    query = f"SELECT 1 AS one, {listed} FROM t WHERE a > 0 ORDER BY a"
    assert queried(query, t=arrow(ROWS[:, :2], ["a", "select"])).num_rows == len(ROWS)


@pytest.mark.parametrize("clip", [False, True])
def test_null_nan_and_infinity(clip):
    scaler = nc.MinMaxScaler.from_statistics(min=[1.0], max=[3.0], clip=clip)
    values = [None, math.nan, math.inf, -math.inf, 2.0, 9.0, -9.0]
    (found,) = queried(
        scaler.export("sql", table="t", columns=["v"]), t=pa.table({"v": pa.array(values)})
    ).columns
    expected = [None, math.nan, *((1.0, 0.0) if clip else (math.inf, -math.inf)), 0.5]
    expected += [1.0, 0.0] if clip else [4.0, -5.0]
    assert str(found.to_pylist()) == str(expected)


def test_columns_of_other_types_are_cast():
    scaler = nc.StandardScaler.from_statistics(mean=[1.0] * 4, std=[3.0] * 4)
    query = scaler.export("sql", columns=["i", "d", "b", "f"])
    (row,) = queried(
        f"SELECT {query} FROM (SELECT 7::BIGINT i, 2.5::DECIMAL(9, 2) d, true b, 0.1::REAL f)"
    ).to_pylist()
    assert row == {"i": 2.0, "d": 0.5, "b": 0.0, "f": (float(np.float32(0.1)) - 1) / 3}


@settings(max_examples=20)
@given(st.lists(st.floats(width=64), min_size=1, max_size=200))
def test_numbers_read_back_as_they_are(numbers):
    dialect = DIALECTS["duckdb"]
    listed = ", ".join(f"({dialect.number(each)})" for each in numbers)
    (found,) = queried(f"SELECT * FROM (VALUES {listed}) t(v)").columns
    assert str(found.type) == "double"
    same_bits(found.to_numpy(zero_copy_only=False), np.array(numbers))


def test_sqlite_computes_the_same_up_to_its_reading_of_numbers():
    X = dataset("iris")
    X = X[~np.isnan(X).any(axis=1)]
    names = ["a", "A_", "sel`ect", '"']
    scaler = named(nc.MinMaxScaler((-1, 1), clip=True), X[:50], names)
    connection = sqlite3.connect(":memory:")
    quoted = ", ".join("`{}`".format(name.replace("`", "``")) for name in names)
    connection.execute(f"CREATE TABLE t ({quoted})")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [*X.tolist(), [None] * 4])
    found = connection.execute(scaler.export("sql", table="t", dialect="sqlite")).fetchall()
    assert found.pop() == (None,) * 4
    expected = scaler.transform(arrow(X, names))
    np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=1e-15)
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        connection.execute("SELECT " + scaler.export("sql", columns=list("abcd"), dialect="sqlite")
                           + " FROM t")  # fmt: skip
    connection.close()


def test_postgresql_has_casts_and_short_names():
    scaler = nc.StandardScaler.from_statistics(mean=[0.1], std=[3.0], feature_names=["a"])
    assert scaler.export("sql", table=("s", "t"), dialect="postgresql") == (
        "SELECT\n  (CAST(\"a\" AS DOUBLE PRECISION) - CAST('0.1' AS DOUBLE PRECISION)) / "
        "CAST('3.0' AS DOUBLE PRECISION) + CAST('0.0' AS DOUBLE PRECISION) AS \"a\"\n"
        'FROM "s"."t"\n'
    )
    scaler.export("sql", dialect="postgresql", columns=["ä" * 31])
    with pytest.raises(ValueError, match="has 64 bytes, of which the database keeps 63"):
        scaler.export("sql", dialect="postgresql", columns=["ä" * 32])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dialect": "oracle"}, ValueError, "dialect must be one of 'duckdb', 'postgresql'"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float64' or 'float32'"),
        ({"dtype": "floaty"}, ValueError, "dtype must be 'float64' or 'float32', got 'floaty'"),
        ({"dialect": "sqlite", "dtype": "float32"}, ValueError, "sqlite has no numbers of 32 bits"),
        ({"columns": ["a"]}, ValueError, "columns has 1 names, but the StandardScaler has 2"),
        ({"columns": "ab"}, TypeError, "columns must be a list of names, not the text 'ab'"),
        ({"columns": ["a", 1]}, TypeError, "the name of a column must be a string, not 1"),
        ({"columns": ["a", "a"]}, ValueError, "two columns are named 'a'"),
        ({"columns": ["a", "A"]}, ValueError, "duckdb takes 'a' and 'A' for the same column"),
        ({"columns": ["a", ""]}, ValueError, "'' cannot be a name in SQL"),
        ({"columns": ["a", "b\0c"]}, ValueError, r"'b\x00c' cannot be a name in SQL"),
        ({"columns": ["a", "\ud800"]}, ValueError, "is no Unicode text"),
        ({"table": ""}, ValueError, "'' cannot be a name in SQL: give others by columns= or table"),
        ({"table": 7}, TypeError, "table must be a name, or a list of names, not 7"),
        ({"table": []}, TypeError, "table must be a name, or a list of names, not []"),
        ({"table": ["t", 7]}, TypeError, "a name in SQL is a string, not 7"),
    ],
)
def test_bad_options(options, error, message):
    scaler = nc.StandardScaler.from_statistics(mean=[0.0, 1.0], std=[1.0, 1.0])
    with pytest.raises(error, match=re.escape(message)):
        scaler.export("sql", **options)


def test_columns_without_names_are_numbered():
    scaler = nc.StandardScaler.from_statistics(mean=[0.0, 1.0], std=[1.0, 1.0])
    assert re.findall(r'AS "(\w+)"', scaler.export("sql")) == ["x0", "x1"]
