"""normcore.keras.Normalization on the backend that KERAS_BACKEND names; see `on_backend.py`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as theirs
from keras import ops

import normcore.keras as ours


def draw(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(dtype)


@pytest.mark.parametrize("axis", [-1, 1, None, (1, 2), (2, 1)])
@pytest.mark.parametrize("invert", [False, True])
def test_statistics_and_results_are_keras(axis, invert):
    x = draw((7, 4, 3))
    layer, other = (each.Normalization(axis=axis, invert=invert) for each in (ours, theirs))
    layer.adapt(x)
    other.adapt(x)
    for found, wanted in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), ops.convert_to_numpy(other(x)), rtol=1e-5, atol=1e-6
    )


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
        ops.convert_to_numpy(layer(np.array([1.0, 2, 3]))), [-(2**0.5), -(0.5**0.5), 0], rtol=1e-6
    )


REFUSED = [
    ([], "no batch"),
    (np.array([[1.0, np.inf, 1.0]]), "infin"),
    (draw((4, 2)), "was built for inputs of shape"),
    ([draw((4, 3)), draw((4, 2))], "expecting"),
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
    with pytest.raises(TypeError, match=r"'float' object is not iterable"):
        ours.Normalization().adapt(3.0)


def test_an_adapted_layer_is_saved(tmp_path):
    x = draw((10, 3))
    layer = ours.Normalization()
    layer.adapt(x)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[0]) is ours.Normalization
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))
