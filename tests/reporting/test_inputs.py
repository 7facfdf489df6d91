"""Reports on every kind of table; what they recommend fits the same kind."""

import numpy as np
import pytest

import normcore as nc

pa = pytest.importorskip("pyarrow")
N = 400


@pytest.fixture
def columns():
    rng = np.random.default_rng(5)
    return {"a": rng.normal(3, 2, N), "b": rng.lognormal(size=N), "c": np.arange(N) % 2 * 1.0}


def told(X, **options):
    """Return the columns of a report without their names and types."""
    found = nc.report(X, **options).to_dict()["columns"]
    return [{k: v for k, v in each.items() if k not in ("name", "type", "place")} for each in found]


def make_numpy(columns):
    return np.column_stack(list(columns.values()))


def make_fortran(columns):
    return np.asfortranarray(make_numpy(columns))


def make_list(columns):
    return make_numpy(columns).tolist()


def make_pandas(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def make_polars(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def make_lazy(columns):
    return make_polars(columns).lazy()


def make_arrow(columns):
    return pa.table(columns)


def make_reader(columns):
    table = pa.table(columns)
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=70))


def make_dask_array(columns):
    da = pytest.importorskip("dask.array")
    return da.from_array(make_numpy(columns), chunks=(130, 2))


def make_dask_frame(columns):
    return pytest.importorskip("dask.dataframe").from_pandas(make_pandas(columns), npartitions=3)


def make_xarray(columns):
    xr = pytest.importorskip("xarray")
    return xr.DataArray(make_numpy(columns), dims=("time", "station"))


def make_xarray_of_dask(columns):
    xr = pytest.importorskip("xarray")
    return xr.DataArray(make_dask_array(columns), dims=("time", "station"))


def make_delayed(columns):
    delayed = pytest.importorskip("dask").delayed
    return [delayed(part) for part in np.array_split(make_numpy(columns), 3)]


def make_torch(columns):
    return pytest.importorskip("torch").tensor(make_numpy(columns))


def make_bfloat16(columns):
    return pytest.importorskip("torch").tensor(make_numpy(columns)).bfloat16()


def make_sparse(columns):
    return pytest.importorskip("scipy.sparse").csr_array(make_numpy(columns))


def make_batches(columns):
    return iter(np.array_split(make_numpy(columns), 5))


def make_frames(columns):
    return iter([pa.table(columns).slice(0, 100), pa.table(columns).slice(100)])


KINDS = {
    name.removeprefix("make_"): value
    for name, value in list(globals().items())
    if name.startswith("make_")
}
IN_PIECES = ["dask_array", "dask_frame", "xarray_of_dask", "delayed"]
PERSISTENT = [
    kind
    for kind in KINDS
    if kind not in ("reader", "batches", "frames", "sparse", "bfloat16", "xarray", *IN_PIECES)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_tells_the_same(columns, kind):
    if kind == "bfloat16":
        columns = {"a": np.arange(N) % 7 * 0.5, "b": np.arange(N) % 3 * 1.0}
    found, expected = told(KINDS[kind](columns)), told(make_numpy(columns))
    if kind == "sparse":  # which has a scaler of its own
        for each in (*found, *expected):
            del each["recommendation"], each["histogram_after"]
    assert found == expected


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".npy"])
def test_files_tell_the_same(columns, suffix, tmp_path):
    path = tmp_path / f"data{suffix}"
    table = pa.table(columns)
    if suffix == ".csv":
        header, rows = ",".join(columns), make_numpy(columns).tolist()
        path.write_text("\n".join([header, *(",".join(map(repr, row)) for row in rows)]) + "\n")
    elif suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    elif suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        np.save(path, make_numpy(columns))
    assert told(path) == told(make_numpy(columns))
    report = nc.report(path)
    assert report.source == str(path)
    assert len(report.to_dict()["commands"]) == 2


@pytest.mark.parametrize("kind", PERSISTENT)
def test_what_is_recommended_fits_and_keeps_the_kind(columns, kind):
    X = KINDS[kind](columns)
    scaler = nc.recommend(X)
    result = scaler.fit(X).transform(X)
    expected = make_numpy(columns)
    expected[:, :1] = nc.StandardScaler().fit_transform(expected[:, :1])
    expected[:, 1:2] = nc.PowerTransformer().fit_transform(expected[:, 1:2])
    if kind == "lazy":
        X, result = X.collect(), result.collect()
    assert type(result) is (np.ndarray if kind == "list" else type(X))
    values = np.column_stack(result.columns) if kind == "arrow" else np.asarray(result)
    np.testing.assert_array_equal(values, expected)
    back = scaler.inverse_transform(result)
    values = np.column_stack(back.columns) if kind == "arrow" else np.asarray(back)
    np.testing.assert_allclose(values, make_numpy(columns), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", IN_PIECES[:3])
def test_what_is_in_pieces_stays_in_pieces(columns, kind):
    X, whole = KINDS[kind](columns), make_numpy(columns)
    steps = [("a", nc.RobustScaler(), [2, 0]), ("b", nc.MinMaxScaler(), [1])]
    for chosen in (steps[:1], steps):
        scaler, expected = nc.ColumnScaler(chosen).fit(X), nc.ColumnScaler(chosen).fit(whole)
        result = scaler.transform(X)
        assert type(result) is type(X)
        if kind == "dask_frame":
            assert result.divisions == X.divisions
            assert list(result.columns) == list(X.columns)
        else:
            assert result.chunks == X.chunks
        np.testing.assert_array_equal(np.asarray(result), expected.transform(whole))
        back = scaler.inverse_transform(result)
        np.testing.assert_allclose(np.asarray(back), whole, rtol=1e-12)
    places = [name for name, _, _ in nc.recommend(X).transformers]
    assert places == [name for name, _, _ in nc.recommend(whole).transformers]


def test_columns_of_dask_are_not_computed_before_they_are_asked_for(columns):
    da = pytest.importorskip("dask.array")
    computed = []

    def block(part):
        computed.append(len(part))
        return part

    X = da.from_array(make_numpy(columns), chunks=(100, 3))
    X = X.map_blocks(block, dtype=float, meta=np.empty((0, 0)))
    scaler = nc.ColumnScaler([("all", nc.MinMaxScaler(), [0, 1])]).fit(X)
    computed.clear()
    result = scaler.transform(X)
    assert not computed
    np.testing.assert_array_equal(result, scaler.transform(make_numpy(columns)))
    with pytest.raises(TypeError, match="not of delayed objects of rows; make them an array"):
        scaler.fit(make_delayed(columns))


def test_partitions_of_dask_without_rows_and_with_names(columns):
    frame = make_dask_frame(columns).assign(text="x")
    found = nc.report(frame[frame.a > frame.a.mean()])
    assert [column.name for column in found.columns] == ["a", "b", "c", "text"]
    assert found.num_rows == int((columns["a"] > columns["a"].mean()).sum())
    scaled = nc.ColumnScaler([("a", nc.StandardScaler(), ["a"])]).fit(frame).transform(frame)
    assert scaled.compute()["text"].tolist() == ["x"] * N
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        nc.report(frame["a"])


def test_nulls_are_not_nan():
    x = pa.array([1.0, None, float("nan"), 4.0, float("inf")])
    (column,) = nc.report(pa.table({"x": x})).columns
    assert (column.count, column.nulls, column.nan, column.infinity) == (2, 1, 1, 1)


def test_missing_cells_of_csv_are_nulls(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n,3\n4,\nNA,5\n")
    a, b = nc.report(path).columns
    assert (a.count, a.nulls, a.nan) == (2, 2, 0)
    assert (b.count, b.nulls, b.nan) == (3, 1, 0)


def test_columns_are_chosen_as_in_files(columns):
    names = [column.name for column in nc.report(pa.table(columns), columns=["b", "a"]).columns]
    assert sorted(names) == ["a", "b"]
    (column,) = nc.report(pa.table(columns), exclude=["a", "c"]).columns
    assert column.name == "b"
    with pytest.raises(ValueError, match="no column 'z'"):
        nc.report(pa.table(columns), columns=["z"])


def test_mixed_columns_of_pandas_are_text():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"mixed": [1, "a", None], 7: [1.0, 2.0, 4.0]})
    mixed, number = nc.report(table).columns
    assert mixed.flags.keys() == {"text"}
    assert number.count == 3


def test_integers_that_float64_rounds_are_left_alone(tmp_path):
    wide = [2**60 + 1, 2**61 + 1, 2**62 + 3]
    path = tmp_path / "x.csv"
    rows = zip(wide, (1, 2, 4), strict=True)
    path.write_text("id,x\n" + "".join(f"{number},{x}\n" for number, x in rows))
    for X in (pa.table({"id": wide, "x": [1.0, 2.0, 4.0]}), path):
        identifier, number = nc.report(X).columns
        assert identifier.flags.keys() == {"identifier"}
        assert not identifier.numeric
        assert number.mean == pytest.approx(7 / 3)


def test_a_stream_that_ends_early_is_an_error(columns):
    def pieces():
        yield make_numpy(columns)
        raise OSError("the line broke")

    with pytest.raises(OSError, match="the line broke"):
        nc.report(pieces())


def test_little_memory_is_enough(columns, tmp_path):
    table = pa.table({name: np.tile(values, 500) for name, values in columns.items()})
    path = tmp_path / "data.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(table, path)
    assert nc.report(path, memory_limit=1 << 20).num_rows == 500 * N
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=5000))
    assert nc.report(reader, memory_limit=1 << 20).num_rows == 500 * N


def test_sparse_columns_keep_their_zeros():
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.random_array((500, 4), density=0.05, rng=np.random.default_rng(0)).tocsr()
    report = nc.report(X)
    assert {column.recommendation.scaler for column in report.columns} == {"maxabs"}
    result = report.scaler.fit_transform(X)
    assert sparse.issparse(result)
    assert abs(result).max() == 1
    assert report.columns[0].after.high == pytest.approx(
        report.columns[0].before.high / X[:, [0]].max()
    )


def test_a_pattern_of_files_is_one_table(columns, tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    table = pa.table(columns)
    pq.write_table(table.slice(0, 150), "part-0.parquet")
    pq.write_table(table.slice(150), "part-1.parquet")
    assert told("part-*.parquet") == told(make_numpy(columns))
    command, *_ = nc.report("part-*.parquet").to_dict()["commands"]
    assert "'part-*.parquet' --output data-scaled-1.parquet" in command


def test_columns_without_names_go_by_their_places():
    X = np.random.default_rng(0).normal(3, 2, (100, 4))
    expected = X.copy()
    expected[:, [2]] = nc.StandardScaler().fit_transform(X[:, [2]])
    scaler = nc.recommend(X, columns=["x2"])
    np.testing.assert_array_equal(scaler.fit_transform(X), expected)
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X, columns=[7, 8, 9, 10])
    result = nc.recommend(table, columns=["9"]).fit_transform(table)
    pd.testing.assert_frame_equal(result, pd.DataFrame(expected, columns=[7, 8, 9, 10]))


def test_batches_without_rows_count_for_nothing(columns):
    X = make_numpy(columns)
    sp = pytest.importorskip("scipy.sparse")
    expected = told(X)
    for batches in ([X[:0], X[:9], X[:0], X[9:]], [sp.csr_array(X[:9]), sp.csr_array(X[9:])]):
        assert told(iter(batches)) == expected
    with pytest.raises(ValueError, match="batch 4 has 1 columns, the first one has 3"):
        nc.report(iter([X[:0], X[:9], X[:0], X[9:, :1]]))
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        nc.report(iter([X[:0], X[:0]]))
    with pytest.raises(ValueError, match="Expected 2D array"):
        nc.report(iter([1, 2]))


def test_sparse_chunks_of_dask(columns):
    da, sp = pytest.importorskip("dask.array"), pytest.importorskip("scipy.sparse")
    X = make_numpy(columns)
    chunks = da.from_array(X, chunks=(150, 3)).map_blocks(sp.csr_array, dtype=float)
    assert told(chunks) == told(X)


def test_batches_of_other_types_are_held_or_refused():
    def table(values, kind):
        return pa.table({"a": pa.array(values, pa.type_for_alias(kind))})

    for first, second in [
        ("float64", table([3, None], "int64")),
        ("float64", table([3.0, float("nan")], "float32")),
        ("float64", table(np.array([3.0, np.nan], np.float16), "float16")),
        ("float16", table([3.0, 0.5], "float32")),
        ("float32", table([0.5, float("nan"), None], "float64")),
        ("float64", pa.table({"a": pa.nulls(2)})),
        ("int64", table([3, 4], "int8")),
        ("int64", table([3.0, 4.0], "float64")),
    ]:
        found = nc.report(iter([table([1, 2], first), second])).columns[0]
        assert found.count + found.nan + found.nulls == 2 + second.num_rows
        assert found.infinity == 0
    for first, second in [
        ("float32", table([0.1], "float64")),
        ("float32", table([1e300], "float64")),
        ("float64", table([2**53 + 1], "int64")),
        ("int64", table([1.5], "float64")),
        ("int8", table([1000], "int64")),
        ("float64", table(["x"], "string")),
    ]:
        batches = iter([table([1, 2], first), second.slice(0, 0), second])
        with pytest.raises(ValueError, match=r"batch 3 has .* in column 'a', which the first one"):
            nc.report(batches)


def test_values_near_the_largest_float():
    X = np.array([[1e308], [-1e308], [0.0], [1e308]] * 10)
    found, small = (nc.report(each).columns[0] for each in (X, X / 1e300))
    assert found.flags == small.flags
    assert found.recommendation == small.recommendation
