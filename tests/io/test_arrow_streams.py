"""Objects that speak Arrow: tables, frames, readers; and arrays, which are no tables."""

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow as pa
from arrow_tables import dictionary, stored

import normcore as nc
from normcore.io import fit_source, fit_transform_source, open_table, transform_source

TABLE = pa.table(
    {
        "x": [0.0, 1.0, None, 4.0],
        "i": pa.array([0, 4, 2, None], pa.int32()),
        "c": dictionary(["u", "v"]),
        "t": ["a", None, "", "d"],
    }
)


class Once:
    """A stream that can be had once, as of a library that pyarrow does not know."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        table, self.table = self.table, None
        return table.__arrow_c_stream__(requested_schema)


def sources():
    yield "table", lambda: TABLE
    yield "chunks", lambda: pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 0), TABLE.slice(1)])
    yield "record batch", lambda: TABLE.combine_chunks().to_batches()[0]
    yield "reader", lambda: TABLE.to_reader(max_chunksize=2)
    yield "once", lambda: Once(TABLE)
    yield "polars", lambda: pytest.importorskip("polars").from_arrow(TABLE)
    yield "pandas", lambda: pytest.importorskip("pandas") and TABLE.to_pandas()


@pytest.mark.parametrize("batch_rows", [None, 1])
@pytest.mark.parametrize(("kind", "make"), list(sources()), ids=[kind for kind, _ in sources()])
def test_tables_and_frames_and_readers(kind, make, batch_rows, tmp_path):
    scaler, out = nc.MinMaxScaler((0, 8)), tmp_path / "y.arrow"
    report = fit_transform_source(make(), out, scaler, batch_rows=batch_rows)
    assert report.columns == ("x", "i")
    assert report.before.num_rows == 4
    result = stored(out)
    assert result["x"].to_pylist() == [0, 2, None, 8]
    assert result["i"].to_pylist() == [0, 8, 4, None]
    assert result["t"].to_pylist() == ["a", None, "", "d"]
    assert result["c"].to_pylist() == ["u", "v", None, "u"]
    assert pa.types.is_dictionary(result["c"].type)


def test_a_table_is_not_changed(tmp_path):
    x = np.arange(6.0)
    x.setflags(write=False)
    table = pa.table({"x": x})
    fit_transform_source(table, tmp_path / "y.parquet", nc.StandardScaler())
    assert table["x"].to_pylist() == list(range(6))


@pytest.mark.parametrize("wrap", [pa.array, lambda x: pa.chunked_array([x])])
def test_arrays_are_no_tables(wrap):
    with pytest.raises(TypeError, match=r"pyarrow \w+ is one column and no table; give it a name"):
        fit_source(wrap([1.0, 2.0]), nc.StandardScaler())


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_series_are_no_tables(library):
    series = pytest.importorskip(library).Series([1.0, 2.0])
    with pytest.raises(TypeError, match=f"{library} Series is one column and no table"):
        fit_source(series, nc.StandardScaler())


@pytest.mark.parametrize("source", [np.ones((2, 2)), [[1.0]], 3, None])
def test_what_is_no_source(source):
    with pytest.raises(TypeError, match=r"cannot read a table from \w+"):
        fit_source(source, nc.StandardScaler())


def test_a_reader_has_its_rows_once():
    reader = TABLE.to_reader()
    with open_table(reader) as table:
        assert not table.reread
        assert sum(batch.num_rows for batch in table.batches(["x"])) == 4
        with pytest.raises(ValueError, match="RecordBatchReader can be read only once"):
            next(table.batches(["x"]))


def test_a_stream_that_fails_is_named():
    def batches():
        yield pa.record_batch({"x": [1.0]})
        raise ValueError("the network is down")

    reader = pa.RecordBatchReader.from_batches(pa.schema([("x", pa.float64())]), batches())
    with pytest.raises(ValueError, match="the network is down"):
        fit_source(reader, nc.StandardScaler())


def test_a_table_without_rows():
    scaler = nc.StandardScaler()
    with pytest.raises(ValueError, match="pyarrow Table has columns but no rows"):
        fit_source(TABLE.slice(0, 0), scaler)


def test_duplicate_names():
    table = pa.Table.from_arrays([pa.array([1.0])] * 2, names=["x", "x"])
    with pytest.raises(ValueError, match="columns 1 and 2 are both named 'x'"):
        fit_source(table, nc.StandardScaler())


def test_relations_of_duckdb():
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.sql(
        "SELECT nullif(i, 3)::DOUBLE AS x, 'r' || i AS t, i::DECIMAL(9, 2) AS d "
        "FROM range(9000) r(i)"
    )
    scaler, batches = nc.StandardScaler(), []
    report = fit_source(relation, scaler)
    assert (report.columns, report.before.num_rows) == (("x", "d"), 9000)
    transform_source(relation, batches.append, scaler)
    table = pa.Table.from_batches(batches)
    i = np.arange(9000.0)
    x = np.where(i == 3, np.nan, i)
    np.testing.assert_array_equal(table["x"].to_numpy(), (x - scaler.mean_[0]) / scaler.scale_[0])
    assert table["x"].null_count == 1
    assert table["t"].to_pylist() == [f"r{n}" for n in range(9000)]


def test_arrays_that_stream_their_elements_are_no_tables():
    xr = pytest.importorskip("xarray")
    grid = xr.DataArray(np.arange(12.0).reshape(6, 2), dims=("time", "site"), name="grid")
    with pytest.raises(TypeError, match="DataArray: an array of 2 axes is a stream with a row"):
        nc.fit_source(grid, nc.StandardScaler())
    np.testing.assert_array_equal(nc.StandardScaler().fit(grid).mean_, [5.0, 6.0])
