"""Pieces of Dask's collections that are not what their table says, and what is no table."""

from __future__ import annotations

import pytest

import normcore as nc

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

FRAME = pd.DataFrame({"a": [1.0, 2.0], "b": [30.0, 50.0]})


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def partitions(*parts):
    lazy = [dask.delayed(part) for part in parts]
    return dd.from_delayed(lazy, meta=FRAME.iloc[:0], verify_meta=False)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (FRAME[["b", "a"]], "their order differs"),
        (FRAME.rename(columns={"b": "c"}), "there is no 'b'; there is also 'c'"),
        (FRAME[["a"]], "there is no 'b'"),
        (FRAME.assign(c=1.0), "there is also 'c'"),
    ],
    ids=["order", "name", "fewer", "more"],
)
@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("fitted_to", [FRAME, FRAME.to_numpy()], ids=["frame", "array"])
def test_other_columns_are_refused_by_maps_too(other, message, fitted_to):
    scaler = nc.StandardScaler().fit(fitted_to)
    lazy = partitions(FRAME, other)
    items = [dask.delayed(FRAME), dask.delayed(other)]
    for run in (scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match=f"partition 1 of X: its columns .*{message}"):
            run(lazy).compute()
        with pytest.raises(ValueError, match=f"item 1 of X: its columns .*{message}"):
            dask.compute(*run(items))


def test_an_empty_partition_may_lack_columns():
    lazy = partitions(FRAME, pd.DataFrame(), FRAME)
    scaler = nc.StandardScaler().fit(lazy)
    expected = scaler.set_output(transform="pandas").transform(FRAME)
    pd.testing.assert_frame_equal(scaler.transform(lazy).compute(), pd.concat([expected] * 2))


@pytest.mark.parametrize("dtype", ["bool", "boolean", "int8", "Int64", "float32", "Float32"])
def test_meta_has_the_dtypes_of_results(dtype):
    frame = pd.DataFrame({"a": [0, 1, 1], "b": [1, 0, 0]}).astype(dtype)
    lazy = dd.from_pandas(frame, npartitions=2)
    scaler = nc.MinMaxScaler().fit(lazy)
    expected = scaler.set_output(transform="pandas").transform(frame).dtypes
    assert expected.a.kind == "f"
    scaled = scaler.transform(lazy)
    for made in (scaled, scaled[scaled.a > 2], scaler.inverse_transform(scaled)):
        assert made.dtypes.to_dict() == made.compute().dtypes.to_dict() == expected.to_dict()


def test_what_is_no_table():
    scaler = nc.StandardScaler().fit(FRAME.to_numpy())
    rows = FRAME.to_numpy()
    bag = pytest.importorskip("dask.bag").from_sequence([1, 2])
    for run in (scaler.fit, scaler.transform):
        for one in (dask.delayed(rows), bag):
            with pytest.raises(TypeError, match=r"X is a \w+ of Dask: give an array, a data frame"):
                run(one)
        with pytest.raises(TypeError, match="some items are delayed objects and some are not"):
            run([dask.delayed(rows), rows])
