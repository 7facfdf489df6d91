"""Scalers of Dask's collections, by its own scheduler: fits of one pass or more, lazy maps."""

from __future__ import annotations

import numpy as np
import pytest
from scalers import SCALERS, assert_same

import normcore as nc
from normcore.statistics import reread_quantiles

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

ALL = [
    *(lambda cls=cls: cls() for cls in (*SCALERS, nc.MaxAbsScaler)),
    lambda: nc.RobustScaler(quantile_range=(0, 100), unit_variance=False),
    lambda: nc.RobustScaler(quantiles="sketch"),
    lambda: nc.PercentileScaler(),
    lambda: nc.PercentileScaler(spread="mad", quantiles="sketch"),
    lambda: nc.QuantileTransformer(n_quantiles=20, quantiles="sketch"),
]
each_scaler = pytest.mark.parametrize("make", ALL, ids=lambda make: repr(make()))


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 6)) * [1, 2, 1e-6, 4, 1e6, 0] + [0, 1e7, 1, 0, -1e6, 3]
    X[::7, 2] = np.nan
    X[:, 3] = np.where(rng.random(4000) < 0.8, 0.0, X[:, 3])
    return X


def is_exact(scaler):
    return getattr(scaler, "quantiles", "exact") == "exact"


CHUNKS = [(700, 6), (1000, 2), (999, (1, 4, 1)), (4000, 6)]


@each_scaler
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_arrays(make, chunks, X):
    lazy = da.from_array(X, chunks=chunks)
    scaler, whole = make().fit(lazy), make().fit(X)
    assert scaler.n_samples_seen_ is not None
    if is_exact(whole):
        assert_same(scaler, whole, 0 if isinstance(whole, nc.QuantileLearner) else 4)
    scaled = scaler.transform(lazy)
    assert scaled.chunks == lazy.chunks
    assert scaled.dtype == np.float64
    np.testing.assert_array_equal(scaled, scaler.transform(X))
    back = scaler.inverse_transform(scaled)
    assert back.chunks == lazy.chunks
    np.testing.assert_array_equal(back, scaler.inverse_transform(scaler.transform(X)))


def test_a_sample_is_looked_at_first(monkeypatch, X):
    monkeypatch.setattr(reread_quantiles, "_SAMPLE_ROWS", 50)
    for chunks in CHUNKS:
        scaler = nc.RobustScaler(keep_sketch=True).fit(da.from_array(X, chunks=chunks))
        assert_same(scaler, nc.RobustScaler().fit(X), 0)
        assert scaler.partial_fit(X).quantile_error_ <= 0.01


def test_sketches_hold_their_promise(X):
    for error in (0.05, 0.01):
        scaler = nc.RobustScaler(quantiles="sketch", quantile_error=error)
        scaler.fit(da.from_array(X, chunks=(500, 3)))
        assert 0 < scaler.quantile_error_ <= error
        column = np.sort(X[:, 0])
        rank = np.searchsorted(column, scaler.center_[0])
        assert abs(rank - 2000) <= error * 4000 + 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.int64, bool])
def test_dtypes(dtype, X):
    values = (np.abs(np.nan_to_num(X[:, [0, 3]])) * 3).astype(dtype)
    lazy = da.from_array(values, chunks=(600, 1))
    for cls in SCALERS:
        scaler = cls().fit(lazy)
        assert_same(scaler, cls().fit(values))
        scaled = scaler.transform(lazy)
        expected = scaler.transform(values)
        assert scaled.dtype == scaled.compute().dtype == expected.dtype
        np.testing.assert_array_equal(scaled, expected)


@each_scaler
def test_frames(make, X):
    frame = pd.DataFrame(X, columns=list("abcdef")).astype({"a": "float32"})
    lazy = dd.from_pandas(frame, npartitions=5)
    scaler, whole = make().fit(lazy), make().fit(frame)
    assert scaler.feature_names_in_.tolist() == list("abcdef")
    if is_exact(whole):
        assert_same(scaler, whole)
    scaled = scaler.transform(lazy)
    assert scaled.divisions == lazy.divisions
    expected = scaler.set_output(transform="pandas").transform(frame)
    assert scaled.dtypes.tolist() == expected.dtypes.tolist()
    pd.testing.assert_frame_equal(scaled.compute(), expected)
    back = scaler.inverse_transform(scaled)
    assert back.divisions == lazy.divisions
    pd.testing.assert_frame_equal(back.compute(), scaler.inverse_transform(expected))


def test_frames_as_they_are_stored(tmp_path, X):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(X, columns=list("abcdef"))
    for number in range(3):
        frame[number::3].to_parquet(tmp_path / f"{number}.parquet")
    frame = pd.concat([frame[number::3] for number in range(3)])
    lazy = dd.read_parquet(tmp_path)
    scaler = nc.RobustScaler().fit(lazy)
    assert_same(scaler, nc.RobustScaler().fit(frame), 0)
    np.testing.assert_array_equal(scaler.transform(lazy).compute(), scaler.transform(frame))


SELECTIONS = {
    "rows by label": lambda frame: frame.loc[:300],
    "persisted": lambda frame: frame.persist().loc[200:500],
    "optimized": lambda frame: frame.loc[:300].optimize(),
    "columns": lambda frame: frame[["b", "a"]],
    "partitions": lambda frame: frame.partitions[1:3],
    "filtered": lambda frame: frame[frame["a"] > 0],
    "repartitioned": lambda frame: frame.repartition(npartitions=2),
    "sorted": lambda frame: frame.sort_values("b"),
}


@pytest.mark.parametrize("selected", SELECTIONS.values(), ids=SELECTIONS)
def test_frames_of_other_frames(selected):
    values = np.random.default_rng(0).normal(size=(1001, 2))
    frame = dd.from_pandas(pd.DataFrame(values, columns=["a", "b"]), npartitions=7)
    some = selected(frame)
    fitted = nc.MinMaxScaler().fit(some)
    expected = nc.MinMaxScaler().fit(some.compute())
    np.testing.assert_array_equal(fitted.data_min_, expected.data_min_)
    np.testing.assert_array_equal(fitted.data_max_, expected.data_max_)
    assert fitted.n_samples_seen_ == expected.n_samples_seen_


@each_scaler
def test_delayed_objects(make, X):
    arrays = [dask.delayed(part) for part in np.array_split(X, 11)]
    scaler, whole = make().fit(arrays), make().fit(X)
    if is_exact(whole):
        assert_same(scaler, whole)
    scaled = dask.compute(*scaler.transform(arrays))
    np.testing.assert_array_equal(np.concatenate(scaled), scaler.transform(X))
    frames = [dask.delayed(pd.DataFrame)(part, columns=list("abcdef")) for part in arrays]
    named = make().fit(frames)
    assert named.feature_names_in_.tolist() == list("abcdef")


def test_xarray(X):
    xr = pytest.importorskip("xarray")
    labelled = xr.DataArray(
        da.from_array(X, chunks=(900, 3)),
        dims=("time", "station"),
        coords={"station": list("abcdef")},
        attrs={"unit": "K"},
    )
    scaler = nc.StandardScaler().fit(labelled)
    assert_same(scaler, nc.StandardScaler().fit(X))
    scaled = scaler.transform(labelled)
    assert scaled.chunks == labelled.chunks
    assert scaled.attrs == labelled.attrs
    assert scaled.station.equals(labelled.station)
    np.testing.assert_array_equal(scaled, scaler.transform(X))
    normed = nc.Normalizer().fit_transform(labelled.fillna(0))
    np.testing.assert_array_equal(normed, nc.Normalizer().fit_transform(np.nan_to_num(X)))
    # One in memory is an array as ever.
    assert isinstance(scaler.transform(labelled.compute()), np.ndarray)


def test_rows_that_are_mapped_by_themselves(X):
    values = np.nan_to_num(X)
    lazy = da.from_array(values, chunks=(500, 2))
    scaled = nc.Normalizer().fit(lazy).transform(lazy)
    np.testing.assert_array_equal(scaled, nc.Normalizer().fit_transform(values))


def test_chunks_of_unknown_sizes(X):
    lazy = da.from_array(X, chunks=(500, 6))
    some = lazy[lazy[:, 0] > 0]
    kept = X[X[:, 0] > 0]
    assert np.isnan(some.shape[0])
    for cls in SCALERS:
        scaler = cls().fit(some)
        assert_same(scaler, cls().fit(kept))
        np.testing.assert_array_equal(scaler.transform(some).compute(), scaler.transform(kept))


def test_parts_and_merging(X):
    lazy = da.from_array(X, chunks=(300, 6))
    for make in (nc.StandardScaler, lambda: nc.RobustScaler(keep_sketch=True, quantile_error=0.05)):
        scaler = make().fit(lazy[:1000])
        assert getattr(scaler, "quantile_error_", 0) == 0
        scaler.partial_fit(lazy[1000:3000]).merge(make().fit(lazy[3000:]))
        whole = make().fit(X)
        np.testing.assert_array_equal(scaler.n_samples_seen_, whole.n_samples_seen_)
        if isinstance(scaler, nc.StandardScaler):
            assert_same(scaler, whole)
        else:
            assert 0 < scaler.quantile_error_ <= 0.05
    with pytest.raises(ValueError, match="X has 5 features, but StandardScaler is expecting 6"):
        nc.StandardScaler().fit(lazy).partial_fit(lazy[:, :5])


def test_weights(X):
    weights = np.arange(4000) % 5
    whole = nc.StandardScaler().fit(X, sample_weight=weights)
    lazy = da.from_array(X, chunks=(700, 2))
    frame = dd.from_pandas(pd.DataFrame(X), npartitions=4)
    series = dd.from_pandas(pd.Series(weights), npartitions=4)
    for data, weight in [
        (lazy, weights),
        (lazy, da.from_array(weights, chunks=1000)),
        (lazy[lazy[:, 0] > -np.inf], weights),
        (frame, weights),
        (frame, series),
    ]:
        assert_same(nc.StandardScaler().fit(data, sample_weight=weight), whole)
    assert_same(
        nc.StandardScaler().fit(lazy, sample_weight=2.0),
        nc.StandardScaler().fit(X, sample_weight=2.0),
    )
    sketched = nc.RobustScaler(quantiles="sketch").fit(lazy, sample_weight=weights)
    assert 0 < sketched.quantile_error_ < 0.01
    for wrong, message in [
        (weights[1:], "sample_weight has 3999 values, but X has 4000 rows"),
        (da.from_array(weights[1:], chunks=500), "has shape .3999,., but X has 4000 rows"),
        (weights * 0, "at least one non-zero"),
        (da.zeros(4000, chunks=500), "at least one non-zero"),
        (weights - 1.0, "egative"),
    ]:
        with pytest.raises(ValueError, match=message):
            nc.StandardScaler().fit(lazy, sample_weight=wrong)
    with pytest.raises(ValueError, match="has 3 partitions, but X has 4; give both the same"):
        nc.StandardScaler().fit(frame, sample_weight=series.repartition(npartitions=3))


def test_some_features(X):
    lazy = da.from_array(X, chunks=(500, 2))
    scaler = nc.MinMaxScaler().fit(lazy)
    scaled = scaler.transform(lazy)
    back = scaler.inverse_transform(scaled[:, [4, 0, 1]], columns=[4, 0, 1])
    np.testing.assert_array_equal(
        back, scaler.inverse_transform(scaler.transform(X)[:, [4, 0, 1]], columns=[4, 0, 1])
    )


def test_containers(X):
    lazy = da.from_array(X, chunks=(500, 2))
    scaler = nc.StandardScaler().fit(lazy).set_output(transform="pandas")
    frame = scaler.transform(lazy)
    assert isinstance(frame, dd.DataFrame)
    np.testing.assert_array_equal(frame.compute(), scaler.transform(X))
    assert list(frame.columns) == list(scaler.get_feature_names_out())
    assert isinstance(scaler.inverse_transform(scaler.transform(lazy)), dd.DataFrame)
    scaler.set_output(transform="polars")
    with pytest.raises(ValueError, match="Polars output does not support dask data"):
        scaler.transform(lazy)
    with pytest.raises(TypeError, match="out= is for arrays; dask data is scaled when"):
        scaler.set_output(transform="default").transform(lazy, out=np.empty(X.shape))
    with pytest.raises(TypeError, match="where"):
        scaler.transform(lazy, where=X > 0)


def test_what_was_learned_when_it_was_called_counts(X):
    lazy = da.from_array(X, chunks=(500, 6))
    scaler = nc.StandardScaler().fit(lazy)
    scaled, expected = scaler.transform(lazy), scaler.transform(X)
    other = scaler.fit(lazy * 2).transform(lazy)
    np.testing.assert_array_equal(scaled, expected)
    assert scaled.name != other.name
    assert not np.array_equal(other.compute(), expected)


# -- bad input --------------------------------------------------------------------------


def test_infinity_names_chunk_and_column(X):
    spoiled = X.copy()
    spoiled[2345, 4] = np.inf
    for cls in SCALERS:
        scaler = cls().fit(X)
        before = dict(vars(scaler))
        with pytest.raises(
            ValueError,
            match=r"^chunk \(4, 2\) of X: Input X contains infinity: column 4, first at row 345",
        ):
            scaler.fit(da.from_array(spoiled, chunks=(500, 2)))
        assert vars(scaler) == before
        lazy = scaler.transform(da.from_array(spoiled, chunks=(500, 6)))
        with pytest.raises(ValueError, match=r"chunk \(4, 0\) of X: .* column 4, first at row 345"):
            lazy.compute()
        frame = dd.from_pandas(pd.DataFrame(spoiled, columns=list("abcdef")), npartitions=4)
        with pytest.raises(ValueError, match=r"^partition 2 of X: .* column 'e' \(index 4\)"):
            cls().fit(frame)
        with pytest.raises(ValueError, match=r"partition 2 of X: .*column"):
            cls().fit(pd.DataFrame(X, columns=list("abcdef"))).transform(frame).compute()


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_a_chunk_that_raises_is_named(scheduler, X):
    def spoil(block, block_id=None):
        if block_id == (3, 0):
            raise OSError("disk on fire")
        return block

    lazy = da.from_array(X, chunks=(400, 6)).map_blocks(spoil, dtype=X.dtype)
    with dask.config.set(scheduler=scheduler):
        for cls in SCALERS:
            with pytest.raises(RuntimeError, match=r"^chunk \(3, 0\) of X: OSError: disk on fire"):
                cls().fit(lazy)


def test_partitions_of_another_schema(X):
    parts = [pd.DataFrame(X[:10], columns=list("abcdef")) for _ in range(3)]
    for spoiled, message in [
        (parts[0].rename(columns={"b": "x"}), "there is no 'b'; there is also 'x'"),
        (parts[0][list("bacdef")], "their order differs"),
        (parts[0].assign(c="text"), "column 'c' of X is not numeric"),
        (parts[0][list("abc")], "there is no 'd', 'e', 'f'"),
    ]:
        lazy = [dask.delayed(each) for each in (*parts, spoiled)]
        for cls in (nc.StandardScaler, nc.RobustScaler):
            with pytest.raises(ValueError, match=rf"item 3 of X: .*{message}"):
                cls().fit(lazy)
    arrays = [dask.delayed(np.ones((3, 2))), dask.delayed(np.ones((3, 3)))]
    with pytest.raises(ValueError, match="item 1 of X: it has 3 columns, and the table has 2"):
        nc.StandardScaler().fit(arrays)
    with pytest.raises(ValueError, match="Expected 2D array"):
        nc.StandardScaler().fit([dask.delayed(np.ones(3))])


def test_partitions_without_rows(X):
    frame = pd.DataFrame(X, columns=list("abcdef"))
    lazy = dd.from_pandas(frame, npartitions=4)
    none = lazy[lazy.a > lazy.a.max()]
    mixed = dd.concat([none, lazy, none])
    for cls in SCALERS:
        scaler = cls().fit(mixed)
        assert_same(scaler, cls().fit(frame))
        assert len(scaler.transform(mixed)) == len(frame)
        with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
            cls().fit(none)
    empty = da.zeros((0, 3), chunks=(1, 3))
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        nc.StandardScaler().fit(empty)
    with pytest.raises(ValueError, match=r"Found array with 0 feature\(s\)"):
        nc.StandardScaler().fit(da.zeros((3, 0), chunks=(1, 1)))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        nc.StandardScaler().fit(da.zeros(3, chunks=1))


def test_a_column_of_nothing_but_nan(X):
    values = X.copy()
    values[:, 1] = np.nan
    for cls in SCALERS:
        assert_same(cls().fit(da.from_array(values, chunks=(300, 3))), cls().fit(values))


def test_many_columns():
    X = np.random.default_rng(0).normal(size=(60, 10_000))
    lazy = da.from_array(X, chunks=(20, 4000))
    for cls in SCALERS:
        scaler = cls().fit(lazy)
        assert_same(scaler, cls().fit(X))
        np.testing.assert_array_equal(scaler.transform(lazy), scaler.transform(X))


def test_scalers_of_whole_columns(X):
    lazy = da.from_array(X, chunks=(500, 6))
    with pytest.raises(TypeError, match="PowerTransformer needs all values of a column at once"):
        nc.PowerTransformer().fit(lazy)
    for make in (nc.QuantileTransformer, lambda: nc.PercentileScaler(spread="mad")):
        with pytest.raises(TypeError, match=r"unless quantiles='sketch', which dask data takes"):
            make().fit(lazy)


def test_other_axes():
    X = da.ones((4, 5, 6), chunks=2)
    scaler = nc.StandardScaler(axis=1)
    with pytest.raises(TypeError, match="collections of dask have columns alone"):
        scaler.fit(X)
    with pytest.raises(TypeError, match="collections of dask have columns alone"):
        scaler.fit(np.ones((4, 5, 6))).transform(X)


def test_data_that_changes_between_passes():
    rng = np.random.default_rng(0)

    def draw(number):
        return np.where(rng.random((20_000, 1)) < 0.5, np.nan, rng.random((20_000, 1)))

    lazy = [dask.delayed(draw)(i) for i in range(3)]
    with pytest.raises(ValueError, match=r"X is not the same in each pass: column 0 had .*persist"):
        nc.RobustScaler().fit(lazy)
