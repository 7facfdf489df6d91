"""Lazy frames of polars: fits stream them, transform stays lazy."""

import re

import numpy as np
import pytest
from scalers import SCALERS

import normcore as nc

pl = pytest.importorskip("polars")

each_scaler = pytest.mark.parametrize("cls", [*SCALERS, nc.MaxAbsScaler])


def frame(num_rows=1000):
    rng = np.random.default_rng(8)
    return pl.DataFrame({
        "a": rng.normal(5, 2, num_rows),
        "b": rng.normal(1, 3, num_rows).astype(np.float32),
        "c": rng.integers(0, 9, num_rows),
        "d": [None if i % 7 == 0 else float(i) for i in range(num_rows)],
    })  # fmt: skip


@each_scaler
@pytest.mark.parametrize("num_rows", [1000, 200_001])
def test_fit_and_transform(cls, num_rows):
    eager = frame(num_rows)
    scaler = cls().fit(eager.lazy())
    whole = cls().fit(eager)
    assert scaler.feature_names_in_.tolist() == list("abcd")
    for name, value in vars(whole).items():
        if name.endswith("_") and name != "feature_names_in_":
            mine = np.asarray(getattr(scaler, name), float)
            np.testing.assert_array_max_ulp(mine, np.asarray(value, float), 4)
    scaled = scaler.transform(eager.lazy())
    assert isinstance(scaled, pl.LazyFrame)
    expected = scaler.set_output(transform="polars").transform(eager)
    assert scaled.collect_schema() == expected.schema
    assert scaled.collect().equals(expected, null_equal=True)
    back = scaler.inverse_transform(scaled)
    assert isinstance(back, pl.LazyFrame)
    assert back.collect().equals(scaler.inverse_transform(expected), null_equal=True)


@each_scaler
def test_it_is_a_query_like_any_other(cls, tmp_path):
    path = tmp_path / "table.parquet"
    eager = frame()
    eager.write_parquet(path)
    scaler = cls().fit(pl.scan_parquet(path))
    expected = scaler.set_output(transform="polars").transform(eager)
    scaled = scaler.transform(pl.scan_parquet(path))
    # What follows is not moved before it: it is about scaled values.
    few = scaled.filter(pl.col("a") > 0.25).select("b", pl.col("a") * 2).tail(5).collect()
    rows = expected.filter(pl.col("a") > 0.25)
    assert few.equals(rows.select("b", pl.col("a") * 2).tail(5))
    assert scaled.collect(engine="streaming").equals(expected, null_equal=True)
    scaled.sink_parquet(tmp_path / "scaled.parquet")
    assert pl.read_parquet(tmp_path / "scaled.parquet").equals(expected, null_equal=True)


def test_what_was_learned_when_it_was_called_counts():
    scaler = nc.StandardScaler().fit(frame())
    scaled = scaler.transform(frame().lazy())
    expected = scaler.set_output(transform="polars").transform(frame())
    scaler.fit(frame() * 2)
    assert scaled.collect().equals(expected, null_equal=True)


def test_weights_pieces_and_some_features():
    weights = np.arange(1000.0)
    lazy = nc.StandardScaler().fit(frame().lazy(), sample_weight=weights)
    eager = nc.StandardScaler().fit(frame(), sample_weight=weights)
    np.testing.assert_array_max_ulp(lazy.var_, eager.var_, 4)
    parts = nc.StandardScaler().partial_fit(frame()[:300].lazy()).partial_fit(frame()[300:].lazy())
    assert (
        parts.n_samples_seen_.tolist() == nc.StandardScaler().fit(frame()).n_samples_seen_.tolist()
    )
    scaled = lazy.transform(frame().lazy()).select("c", "a")
    back = lazy.inverse_transform(scaled, columns=["c", "a"]).collect()
    np.testing.assert_allclose(back["a"], frame()["a"], rtol=1e-12)
    with pytest.raises(ValueError, match=r"sample_weight has 3 values, but X has 1000 rows"):
        nc.StandardScaler().fit(frame().lazy(), sample_weight=[1, 2, 3])


def test_bad_input():
    scaler = nc.StandardScaler().fit(frame())
    with pytest.raises(ValueError, match="column 't' of X holds no numbers"):
        scaler.fit(frame().lazy().with_columns(t=pl.lit("text")))
    with pytest.raises(ValueError, match="must be in the same order"):
        scaler.transform(frame().lazy().select("b", "a", "c", "d"))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        scaler.fit(frame().lazy().head(0))
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        scaler.fit(pl.LazyFrame())
    with pytest.raises(TypeError, match="out= is for arrays"):
        scaler.transform(frame().lazy(), out=np.empty((1000, 4)))
    with pytest.raises(ValueError, match="Pandas output does not support lazy data"):
        nc.StandardScaler().fit(frame()).set_output(transform="pandas").transform(frame().lazy())
    big = frame(200_000).with_columns(b=pl.lit(float("inf")).cast(pl.Float32))
    late = pl.concat([frame(100_000), big])
    with pytest.raises(ValueError, match=r"column 'b' \(index 1\), first at row 100000"):
        scaler.fit(late.lazy())
    assert scaler.transform(frame().lazy().head(0)).collect().height == 0


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize("at", [0, 123_456, 299_999])
@pytest.mark.parametrize("name", ["b", "index", "^.*$", "*"])
def test_an_infinite_value_of_a_lazy_frame_can_be_found(engine, name, at):
    data = frame(300_000).rename({"b": name})
    scaler = nc.StandardScaler().fit(data)
    data[at, name] = float("-inf")
    for method in (scaler.transform, scaler.inverse_transform):
        with pytest.raises(Exception, match=r"infinity: column '.*' \(index 1\)\. X\.") as caught:
            method(data.lazy()).collect(engine=engine)
        query = re.search(r"X\..*(?= has its rows)", str(caught.value)).group()
        rows = eval(query, {"X": data.lazy(), "polars": pl}).collect()
        assert rows.to_series(0).to_list() == [at]


@pytest.mark.parametrize("lazy", [False, True])
def test_names_are_no_patterns(lazy):
    plain = pl.DataFrame(
        {"p": [1, 2, None, 5], "q": [3.0, 4.0, None, 7.0], "ab": [5.0, 6.0, 7.0, 9.0]},
        schema_overrides={"q": pl.Float32},
    )
    names = {"p": "^ab$", "q": "*", "ab": "ab"}
    columns = [("x", nc.StandardScaler(), [0, 1]), ("y", nc.MinMaxScaler(), [2])]
    for scaler in (nc.StandardScaler(), nc.ColumnScaler(columns), nc.ColumnScaler(columns[:1])):
        found = []
        for table in (plain, plain.rename(names)):
            given = table.lazy() if lazy else table
            scaled = scaler.set_output(transform="polars").fit(given).transform(given)
            found += [scaled, scaler.inverse_transform(scaled)]
        if lazy:
            found = pl.collect_all(found)
        for expected, result in zip(found[:2], found[2:], strict=True):
            assert expected.rename(names).equals(result)
            assert expected.dtypes == result.dtypes
