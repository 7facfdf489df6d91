"""Lists, masked arrays, frames, tables and tensors, in and out of the three scalers."""

import numpy as np
import pytest
from scalers import each_scaler

import normcore as nc


@each_scaler
def test_nested_lists_and_masked_arrays(cls, X):
    expected = cls().fit(X).transform(X)
    np.testing.assert_array_equal(cls().fit(X.tolist()).transform(X.tolist()), expected)
    holes = X.copy()
    holes[3, 1] = np.nan
    masked = np.ma.masked_array(X, mask=np.isnan(holes))
    np.testing.assert_array_equal(cls().fit_transform(masked), cls().fit_transform(holes))


@each_scaler
def test_pandas_frame(cls, X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    scaler = cls().fit(frame)
    assert scaler.feature_names_in_.tolist() == ["a", "b", "c"]
    assert scaler.get_feature_names_out().tolist() == ["a", "b", "c"]
    result = scaler.transform(frame)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, cls().fit_transform(X))


@each_scaler
def test_pandas_columns_of_many_kinds(cls):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({
        "int": [1, 2, 3, 5],
        "bool": [True, False, True, True],
        "nullable": pd.array([1, None, 4, 2], dtype="Int64"),
        "float32": np.array([0.5, 1.5, 2.5, 8.5], np.float32),
        "object": np.array([1, 2.5, None, 4], dtype=object),
    })  # fmt: skip
    plain = np.array([
        [1, 1, 1, 0.5, 1], [2, 0, np.nan, 1.5, 2.5], [3, 1, 4, 2.5, np.nan], [5, 1, 2, 8.5, 4],
    ])  # fmt: skip
    np.testing.assert_array_equal(cls().fit_transform(frame), cls().fit_transform(plain))


@each_scaler
def test_polars_frame_and_arrow_table(cls, X):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(X, schema=["a", "b", "c"])
    expected = cls().fit_transform(X)
    np.testing.assert_array_equal(cls().fit_transform(frame), expected)
    table = pytest.importorskip("pyarrow").table({name: frame[name].to_numpy() for name in "abc"})
    scaler = cls().fit(table)
    assert scaler.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(scaler.transform(frame), expected)


def test_polars_nulls_are_skipped():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": [1, None, 3], "b": [1.0, 2.0, None]})
    np.testing.assert_array_equal(nc.StandardScaler().fit(frame).mean_, [2.0, 1.5])


def test_arrow_record_batch_with_nulls():
    pa = pytest.importorskip("pyarrow")
    batch = pa.RecordBatch.from_pydict({"a": [1, 3, None], "b": [True, False, True]})
    scaler = nc.MinMaxScaler().fit(batch)
    np.testing.assert_array_equal(scaler.transform(batch), [[0, 1], [1, 0], [np.nan, 1]])
    assert scaler.feature_names_in_.tolist() == ["a", "b"]


def test_arrow_arrays_are_weights():
    pa = pytest.importorskip("pyarrow")
    whole = pa.array([3, 1])
    for weights in (
        whole,
        pa.chunked_array([[3.0], [1.0]]),
        whole.dictionary_encode(),
        whole.cast(pa.decimal128(22, 2)),
        pa.array(np.array([3, 1], np.float16)),
    ):
        scaler = nc.StandardScaler().fit([[1.0], [3.0]], sample_weight=weights)
        assert scaler.mean_.tolist() == [1.5]
    with pytest.raises(TypeError, match="must hold real numbers, but there is text"):
        nc.StandardScaler().fit([[1.0], [3.0]], sample_weight=pa.array(["3", "1"]))
    with pytest.raises(ValueError, match="weight 1 is nan"):
        nc.StandardScaler().fit([[1.0], [3.0]], sample_weight=pa.array([1.0, None]))
    with pytest.raises(ValueError, match="got 2D array"):
        nc.StandardScaler().fit([[1.0], [3.0]], sample_weight=pa.table({"w": [3, 1]}))


@pytest.mark.parametrize("method", ["fit", "transform"])
def test_arrow_arrays_are_no_tables(method):
    pa = pytest.importorskip("pyarrow")
    scaler = nc.StandardScaler().fit([[1.0], [3.0]])
    column = pa.array([1.0, 2.0])
    for array in (column, pa.chunked_array([column]), pa.array(["a"]), pa.array([{"a": 1.0}])):
        with pytest.raises(
            ValueError, match=r"Expected 2D array, got 1D array[\s\S]*reshape\(-1, 1\)"
        ):
            getattr(scaler, method)(array)
    with pytest.raises(TypeError, match=r"RecordBatchReader .*read_all.*fit_source"):
        getattr(scaler, method)(pa.table({"a": column}).to_reader())


def test_an_arrow_tensor_is_an_array():
    pa = pytest.importorskip("pyarrow")
    x = np.array([[1.0], [3.0]])
    assert nc.StandardScaler().fit(pa.Tensor.from_numpy(x)).mean_.tolist() == [2]


def test_frame_is_never_written_into():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]})
    before = frame.copy()
    nc.StandardScaler(copy=False).fit_transform(frame)
    pd.testing.assert_frame_equal(frame, before)


@each_scaler
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output(cls, X, container):
    library = pytest.importorskip(container)
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=range(100, 150))
    scaler = cls().set_output(transform=container)
    result = scaler.fit_transform(frame)
    assert isinstance(result, library.DataFrame)
    assert list(result.columns) == ["a", "b", "c"]
    if container == "pandas":
        assert result.index.equals(frame.index)
    np.testing.assert_array_equal(result.to_numpy(), cls().fit_transform(X))
    assert list(scaler.fit(X).transform(X).columns) == ["x0", "x1", "x2"]
    assert isinstance(scaler.set_output(transform="default").transform(X), np.ndarray)


def test_set_output_refuses_an_unknown_container():
    with pytest.raises(ValueError, match="output config must be in"):
        nc.StandardScaler().set_output(transform="xarray")


@each_scaler
def test_torch_tensors_in_and_out(cls, X):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X)
    scaler = cls().fit(tensor)
    result = scaler.transform(tensor)
    assert isinstance(result, torch.Tensor)
    assert isinstance(scaler.scale_, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), cls().fit_transform(X))
    # The state behind is on the host: the same scaler serves NumPy.
    np.testing.assert_array_equal(scaler.transform(X), result.numpy())
    out = torch.empty_like(tensor)
    assert scaler.transform(tensor, out=out) is out
    assert torch.equal(out, result)
    np.testing.assert_allclose(scaler.inverse_transform(result).numpy(), X, rtol=1e-12)


@pytest.mark.parametrize("kind", ["frame", "array", "arrow dictionary"])
def test_pandas_na_among_objects_is_missing(kind):
    pd = pytest.importorskip("pandas")
    if kind == "frame":
        X = pd.DataFrame({"a": [1.5, pd.NA, 2.5], "b": pd.Series([1, None, 3], dtype=object)})
    elif kind == "array":
        X = np.array([[1.5, 1], [pd.NA, None], [2.5, 3]], dtype=object)
    else:
        pa = pytest.importorskip("pyarrow")
        column = pa.chunked_array([pa.array([1.5, None, 2.5]).dictionary_encode()])
        X = pd.DataFrame({"a": pd.Series(pd.arrays.ArrowExtensionArray(column)), "b": [1, None, 3]})
    y = np.asarray(nc.MinMaxScaler().fit_transform(X), dtype=np.float64)
    np.testing.assert_array_equal(y, [[0, 0], [np.nan, np.nan], [1, 1]])
    with pytest.raises(TypeError, match="not numeric"):
        nc.MinMaxScaler().fit(np.array([[1.0], [object()]], dtype=object))
