"""What holds little or nothing, in layers of normcore.keras; see `on_backend.py`."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as theirs
from keras import ops
from keras_layers import BACKEND, draw, needs_gradients, numpy, pair, slopes

import normcore.keras as ours


@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (1, 1, 3)])
def test_one_value_of_each_channel_becomes_beta(shape):
    layer = pair("BatchNormalization", shape)[0]
    before = layer.get_weights()
    y = numpy(layer(draw(shape), training=True))
    np.testing.assert_array_equal(y, np.broadcast_to(before[1], shape))
    for found, wanted in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_one_missing_value_of_a_channel_stays_missing():
    layer = ours.BatchNormalization()
    y = numpy(layer(np.array([[np.nan, 2.0]], "float32"), training=True))
    np.testing.assert_array_equal(y, [[np.nan, 0.0]])


@needs_gradients
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}])
def test_one_value_of_each_channel_has_gradients(options):
    layer = pair("BatchNormalization", (1, 3), **options)[0]
    dy = draw((1, 3), seed=1)
    found = slopes(layer, draw((1, 3)), dy, training=True)
    assert len(found) == 1 + len(layer.trainable_variables)
    for name, each in zip(["x", *(each.name for each in layer.trainable_variables)], found,
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(each, dy[0] if name == "beta" else np.zeros(each.shape))


def few_counted(counted):
    mask = np.zeros((4, 2), bool)
    mask.flat[:counted] = True
    return draw((4, 2, 3)), mask


@pytest.mark.parametrize("counted", [0, 1])
def test_a_mask_that_leaves_one_position_or_none_is_the_same(counted):
    x, mask = few_counted(counted)
    layer = pair("BatchNormalization", x.shape)[0]
    before = layer.get_weights()
    y = numpy(layer(x, training=True, mask=ops.convert_to_tensor(mask)))
    np.testing.assert_array_equal(y, np.broadcast_to(before[1], x.shape))
    for found, wanted in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, wanted)


@needs_gradients
@pytest.mark.parametrize("counted", [0, 1])
def test_a_mask_that_leaves_one_position_or_none_has_gradients(counted):
    x, mask = few_counted(counted)
    layer = pair("BatchNormalization", x.shape)[0]
    dy = draw(x.shape, seed=1)
    dx, dgamma, dbeta = slopes(layer, x, dy, training=True, mask=mask)
    np.testing.assert_array_equal(dx, np.zeros(x.shape))
    np.testing.assert_array_equal(dgamma, np.zeros(3))
    np.testing.assert_allclose(dbeta, dy.sum((0, 1)), rtol=1e-5)


@pytest.mark.skipif(BACKEND != "jax", reason="traces with JAX")
def test_masks_may_be_traced():
    import jax

    x, mask = few_counted(3)
    layer = pair("BatchNormalization", x.shape)[0]

    @jax.jit
    def step(moving, mask):
        own = [each.value for each in layer.trainable_variables]
        return layer.stateless_call(own, moving, x, training=True, mask=mask)

    for each in (mask, mask & False):
        y, moved = step([each.value for each in layer.non_trainable_variables], each)
        np.testing.assert_allclose(y, numpy(layer(x, training=True, mask=each)), rtol=1e-6)
        for found, wanted in zip(moved, layer.non_trainable_variables, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


@needs_gradients
def test_a_last_batch_of_one_sample_trains():
    model = keras.Sequential([keras.Input((2,)), ours.BatchNormalization(center=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(draw((3, 2)), draw((3, 2), seed=1), batch_size=2, verbose=0)
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of Keras's on NumPy, which divides by 0
@pytest.mark.parametrize("training", [True, False])
def test_an_epsilon_of_zero_is_keras(training):
    x = np.array([[1.0, 2.0], [3.0, 2.0]], "float32")
    layer, other = (each.BatchNormalization(epsilon=0.0) for each in (ours, theirs))
    np.testing.assert_allclose(*(numpy(each(x, training=training)) for each in (layer, other)))
    with pytest.raises(ValueError, match="eps must be positive or zero"):
        ours.BatchNormalization(epsilon=-1.0)(x, training=training)


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        ("LayerNormalization", (3, 0), {}),
        ("RMSNormalization", (3, 0), {}),
        ("LayerNormalization", (0, 3), {}),
        ("GroupNormalization", (2, 0, 4), {"groups": 2}),
        ("BatchNormalization", (3, 0), {}),
    ],
)
def test_what_holds_nothing_stays_so(kind, shape, options):
    y = numpy(getattr(ours, kind)(**options)(np.ones(shape, "float32")))
    assert (y.shape, y.dtype) == (shape, "float32")


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_an_axis_named_twice_is_refused(kind):
    layer = getattr(ours, kind)(axis=[1, -1])
    with pytest.raises(ValueError, match="names an axis twice"):
        layer(draw((3, 4)))
