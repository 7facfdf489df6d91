"""polars: expressions of the columns' own dtypes, lazy where the frame is."""

import numpy as np
import pytest
from exported import same_bits

import normcore as nc

pl = pytest.importorskip("polars")

ROWS = np.random.default_rng(0).normal([1e6, -1], size=(50, 2))
FRAME = pl.DataFrame({"a": ROWS[:, 0], "b": ROWS[:, 1]})


def test_other_columns_stay_as_they_are():
    mapped = nc.StandardScaler().fit(FRAME).export("polars")
    frame = FRAME.with_columns(name=pl.lit("x"), row=pl.int_range(50)).select(
        "name", "b", "row", "a"
    )
    found = mapped(frame)
    assert found.columns == frame.columns
    assert found["row"].equals(frame["row"])
    same_bits(found.select("a", "b").to_numpy(), nc.StandardScaler().fit_transform(FRAME))


def test_a_lazy_query_stays_one(tmp_path):
    path = tmp_path / "x.parquet"
    FRAME.write_parquet(path)
    scaler = nc.StandardScaler().fit(FRAME)
    query = scaler.export("polars")(pl.scan_parquet(path)).select("b")
    assert isinstance(query, pl.LazyFrame)
    assert "PROJECT 1/2 COLUMNS" in query.explain()  # of which the optimizer knows all
    assert query.collect(engine="streaming")["b"].equals(
        pl.Series("b", scaler.transform(FRAME)[:, 1])
    )


def test_null_and_nan():
    frame = pl.DataFrame({"a": [None, float("nan"), 9.0, -9.0, 1.5]})
    scaler = nc.MinMaxScaler.from_statistics(min=[1.0], max=[2.0], clip=True, feature_names=["a"])
    found = scaler.export("polars")(frame)["a"].to_list()
    assert str(found) == "[None, nan, 1.0, 0.0, 0.5]"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pl.Float32, pl.Float32),
        (pl.Float32, pl.Float64),
        (pl.Int64, pl.Float64),
        (pl.UInt8, pl.Boolean),
    ],
)
def test_dtypes_are_those_of_transform(first, second):
    values = {"a": np.arange(50) % 7 + 1, "b": np.arange(50) % 2}
    frame = pl.DataFrame(values).select(pl.col("a").cast(first), pl.col("b").cast(second))
    scaler = nc.MinMaxScaler((-1.1, 1.3)).fit(frame[:10])
    expected = scaler.set_output(transform="polars").transform(frame)
    found = scaler.export("polars")(frame)
    assert found.schema == expected.schema
    assert found.equals(expected)
    assert found.equals(scaler.transform(frame.lazy()).collect())


def test_expressions_are_for_one_schema():
    scaler = nc.StandardScaler().fit(FRAME)
    mapped = scaler.export("polars")
    expressions = mapped.expressions(FRAME.schema)
    assert [each.meta.output_name() for each in expressions] == ["a", "b"]
    same_bits(FRAME.select(expressions).to_numpy(), scaler.transform(FRAME))


def test_columns_that_are_not_there_or_hold_no_numbers():
    mapped = nc.StandardScaler().fit(FRAME).export("polars")
    with pytest.raises(ValueError, match="the frame has no column 'b'; its columns are 'a', 'c'"):
        mapped(FRAME.rename({"b": "c"}).lazy())
    with pytest.raises(ValueError, match=r"column 'b' holds no numbers \(dtype String\)"):
        mapped(FRAME.with_columns(pl.col("b").cast(pl.String)))


@pytest.mark.parametrize("X", [ROWS, FRAME["a"], FRAME.to_dict(), None])
def test_what_is_no_frame_of_polars(X):
    mapped = nc.StandardScaler().fit(FRAME).export("polars")
    kind = f"{type(X).__module__}.{type(X).__qualname__}"
    with pytest.raises(TypeError, match=f"of polars, lazy or not, and this is a {kind}: make it"):
        mapped(X)
    with pytest.raises(TypeError, match=r"this is a pandas.*DataFrame: make it one with polars.fr"):
        mapped(pytest.importorskip("pandas").DataFrame({"a": [1.0], "b": [2.0]}))


@pytest.mark.parametrize("lazy", [False, True])
def test_names_are_no_patterns(lazy):
    scaler = nc.StandardScaler().fit(FRAME)
    names = {"a": "^ab$", "b": "*"}
    frame = FRAME.rename(names).with_columns(ab=pl.lit(100.0))
    mapped = scaler.export("polars", columns=list(names.values()))
    found = mapped(frame.lazy()).collect() if lazy else mapped(frame)
    expected = scaler.export("polars")(FRAME).rename(names).with_columns(ab=pl.lit(100.0))
    assert found.equals(expected)
