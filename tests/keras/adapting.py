"""normcore.keras.Normalization on the backend that KERAS_BACKEND names; see `on_backend.py`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as theirs
from keras import ops
from keras_layers import draw, numpy

import normcore as nc
import normcore.keras as ours


@pytest.mark.parametrize("axis", [-1, 1, None, (1, 2), (2, 1)])
@pytest.mark.parametrize("invert", [False, True])
def test_statistics_and_results_are_keras(axis, invert):
    x = draw((7, 4, 3))
    layer, other = (each.Normalization(axis=axis, invert=invert) for each in (ours, theirs))
    layer.adapt(x)
    other.adapt(x)
    for found, wanted in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(numpy(layer(x)), numpy(other(x)), rtol=1e-5, atol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.x[index * 40 : (index + 1) * 40], np.zeros(40)


def sources(x, folder):
    """Yield the same data in many forms."""
    yield x
    yield ops.convert_to_tensor(x)
    yield [x[:3], x[3:]]
    yield ((x[start : start + 13], None) for start in range(0, 80, 13))
    yield ([x[start : start + 9], np.zeros(9)] for start in range(0, 80, 9))
    yield (ops.convert_to_tensor(x[start : start + 50]) for start in (0, 50))
    yield Batches(x)
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(x, schema=["a", "b", "c"])
    yield frame
    frame.write_parquet(folder / "x.parquet")
    yield folder / "x.parquet"
    yield str(folder / "x.parquet")


def test_every_source_gives_the_same(tmp_path):
    x = draw((80, 3)) + np.float32(1e4)
    wide = x.astype(np.float64)
    for data in sources(x, tmp_path):
        layer = ours.Normalization()
        layer.adapt(draw((5, 3)))  # is forgotten
        layer.adapt(data)
        mean, variance, _ = layer.get_weights()
        np.testing.assert_array_equal(mean, wide.mean(0).astype(np.float32))
        np.testing.assert_array_equal(variance, wide.var(0).astype(np.float32))


def test_missing_values_are_left_out():
    x = draw((9, 2))
    x[3, 1] = np.nan
    layer = ours.Normalization()
    layer.adapt([x[:5], x[5:]])
    np.testing.assert_allclose(layer.get_weights()[0], np.nanmean(x, 0), rtol=1e-6)


def test_one_axis_alone():
    layer = ours.Normalization(axis=None)
    layer.adapt(np.array([1.0, 2, 3, 4, 5], "float32"))
    np.testing.assert_allclose(
        numpy(layer(np.array([1.0, 2, 3]))), [-(2**0.5), -(0.5**0.5), 0], rtol=1e-6
    )


REFUSED = [
    ([], "no batch"),
    (np.array([[1.0, np.inf, 1.0]]), "infin"),
    (draw((4, 2)), "was built for inputs of shape"),
    ([draw((4, 3)), draw((4, 2))], "expecting"),
    ([draw((4, 3)), draw((3,))], r"batch 0 has shape \(4, 3\), but batch 1 has shape \(3,\)"),
    (draw((3,)), "was built for inputs of shape"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED)
def test_after_an_error_the_layer_is_as_it_was(data, message):
    layer = ours.Normalization()
    layer.adapt(draw((10, 3)))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=message):
        layer.adapt(data)
    for found, wanted in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_cannot_be_adapted_says_why(tmp_path):
    with pytest.raises(ValueError, match="given its mean and variance"):
        ours.Normalization(mean=[0.0, 1.0], variance=[1.0, 1.0]).adapt(draw((3, 2)))
    with pytest.raises(ValueError, match="a table has its features on its last axis"):
        ours.Normalization(axis=None).adapt(tmp_path / "x.parquet")


class OfDicts(Batches):
    def __getitem__(self, index):
        return {"x": self.x}, np.zeros(40)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3.0, "a table, a path or an iterable of batches, not to float"),
        ({"x": draw((3, 2))}, "not to dict"),
        (OfDicts(draw((3, 2))), "batches that are arrays, not dict; choose one input"),
        ([None], "not NoneType"),
    ],
)
def test_what_holds_no_arrays_is_refused_by_name(data, message):
    with pytest.raises(TypeError, match=message):
        ours.Normalization().adapt(data)


def test_sparse_and_lazy_data_is_refused_with_what_to_do():
    sparse = pytest.importorskip("scipy.sparse").csr_array(draw((3, 2)))
    for data in (sparse, [sparse]):
        with pytest.raises(TypeError, match=r"convert sparse ones with toarray\(\)"):
            ours.Normalization().adapt(data)
    lazy = pytest.importorskip("polars").LazyFrame({"x": [1.0]})
    with pytest.raises(TypeError, match=r"from a lazy frame what collect\(\) returns"):
        ours.Normalization().adapt(lazy)


def test_a_labelled_array_is_an_array():
    xarray = pytest.importorskip("xarray")
    x = draw((9, 4, 3))
    for axis, data in ((-1, x), ((1, 2), x), (-1, x[:, 0])):
        layer, other = ours.Normalization(axis=axis), ours.Normalization(axis=axis)
        layer.adapt(xarray.DataArray(data))
        other.adapt(data)
        for found, wanted in zip(layer.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("axis", [-1, 1, None, (1, 2)])
def test_masked_values_are_left_out(axis):
    x = draw((9, 4, 3), "float64")
    hidden = np.random.default_rng(1).random(x.shape) < 0.3
    masked = np.ma.masked_array(np.where(hidden, np.inf, x), hidden)
    axes = tuple({0, 1, 2} - {each % 3 for each in np.atleast_1d(() if axis is None else axis)})
    for data in (masked, [masked[:2], masked[2:]], [(masked, None)]):
        layer = ours.Normalization(axis=axis)
        layer.adapt(data)
        mean, variance, _ = layer.get_weights()
        known = np.where(hidden, np.nan, x)
        np.testing.assert_allclose(mean, np.nanmean(known, axes), rtol=1e-6)
        np.testing.assert_allclose(variance, np.nanvar(known, axes), rtol=1e-6)


def test_a_column_of_a_frame_has_all_axes_reduced():
    column = pytest.importorskip("pandas").Series([1.0, 2.0, 6.0])
    layer = ours.Normalization(axis=None)
    layer.adapt(column)
    assert layer.get_weights()[0] == 3
    with pytest.raises(TypeError, match="one column and no table"):
        ours.Normalization().adapt(column)


def test_an_opened_table_and_a_dataset_are_tables(tmp_path):
    dataset = pytest.importorskip("pyarrow.dataset")
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.table({"a": [1.0, 3.0], "b": [2.0, 6.0]}), tmp_path / "x.parquet")
    for data in (nc.io.open_table(tmp_path / "x.parquet"), dataset.dataset(tmp_path / "x.parquet")):
        layer = ours.Normalization()
        layer.adapt(data)
        np.testing.assert_array_equal(layer.get_weights()[0], [2, 4])


def test_an_adapted_layer_is_saved(tmp_path):
    x = draw((10, 3))
    layer = ours.Normalization()
    layer.adapt(x)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[0]) is ours.Normalization
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))
