"""normcore.keras beside Keras's own layers, on the backend that KERAS_BACKEND names.

`test_backends.py` runs this file once for each: a process has one backend.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as theirs
from keras import ops
from keras_layers import BACKEND, draw, needs_gradients, numpy, pair, slopes

import normcore.keras as ours
from normcore.keras import operations


def expected(kind, layer, x, *, training=True):
    """Return the result by NumPy's float64; `layer` is built."""
    x = x.astype(np.float64)
    weights = {each.name: numpy(each.value).astype(np.float64) for each in layer.weights}
    if kind == "GroupNormalization":
        axis = layer.axis % x.ndim
        split = (*x.shape[:axis], layer.groups, -1, *x.shape[axis + 1 :])
        grouped = x.reshape(split)
        axes = tuple(each for each in range(1, x.ndim + 1) if each != axis)
        grouped = grouped - grouped.mean(axes, keepdims=True)
        y = grouped / np.sqrt((grouped**2).mean(axes, keepdims=True) + layer.epsilon)
        y, kept = y.reshape(x.shape), [axis]
    elif kind == "BatchNormalization":
        kept = [layer.axis % x.ndim]
        axes = tuple(each for each in range(x.ndim) if each not in kept)
        shape = [x.shape[each] if each in kept else 1 for each in range(x.ndim)]
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        if not training:
            mean, var = (weights[f"moving_{each}"].reshape(shape) for each in ("mean", "variance"))
        y = (x - mean) / np.sqrt(var + layer.epsilon)
    else:
        axis = [layer.axis] if isinstance(layer.axis, int) else layer.axis
        kept = sorted(each % x.ndim for each in axis)
        mean = x.mean(tuple(kept), keepdims=True) * (kind == "LayerNormalization")
        y = (x - mean) / np.sqrt(((x - mean) ** 2).mean(tuple(kept), keepdims=True) + layer.epsilon)
    shape = [x.shape[each] if each in kept else 1 for each in range(x.ndim)]
    for name in ("gamma", "scale"):
        y = y * weights[name].reshape(shape) if name in weights else y
    return y + weights["beta"].reshape(shape) if "beta" in weights else y


CASES = [
    ("BatchNormalization", (8, 3), {}),
    ("BatchNormalization", (4, 3, 5), {"axis": 1, "scale": False}),
    ("BatchNormalization", (4, 3, 2, 5), {"center": False, "epsilon": 0.1}),
    ("BatchNormalization", (2, 3, 4, 2, 3), {"axis": 2}),
    ("LayerNormalization", (8, 3), {}),
    ("LayerNormalization", (4, 3, 5), {"axis": [1, 2], "center": False}),
    ("LayerNormalization", (2, 3, 4, 2, 3), {"axis": [-2, -1], "scale": False, "epsilon": 0.1}),
    ("RMSNormalization", (4, 3, 5), {}),
    ("RMSNormalization", (4, 3, 5), {"axis": [1, 2], "epsilon": 0.1}),
    ("GroupNormalization", (4, 3, 6), {"groups": 2}),
    ("GroupNormalization", (4, 6, 2, 3), {"groups": 3, "axis": 1, "center": False}),
    ("GroupNormalization", (4, 3, 6), {"groups": -1, "scale": False}),
]  # fmt: skip
#: Of which Keras has no result on some backends, or on all.
OTHER_AXES = [
    ("LayerNormalization", (4, 3, 5), {"axis": 1}),
    ("LayerNormalization", (2, 3, 4, 2, 3), {"axis": [1, 3]}),
    ("RMSNormalization", (4, 3, 5), {"axis": 1}),
]


def calls_of(kind):
    return [{"training": True}, {"training": False}] if kind == "BatchNormalization" else [{}]


@pytest.mark.parametrize(("kind", "shape", "options"), [*CASES, *OTHER_AXES])
def test_results_are_float64_rounded_once(kind, shape, options):
    for dtype, tolerance in (("float64", 2e-15), ("float32", 2**-24)):
        x = draw(shape, dtype)
        for call in calls_of(kind):
            layer = pair(kind, shape, dtype=dtype, **options)[0]
            wanted = expected(kind, layer, x, **call)
            found = numpy(layer(x, **call))
            assert found.dtype == dtype
            rounded = 4e-15 * abs(wanted).max()  # of float64, where terms cancel
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=rounded)


@pytest.mark.parametrize(("kind", "shape", "options"), CASES)
def test_results_and_weights_are_keras(kind, shape, options):
    for call in calls_of(kind):
        layer, other = pair(kind, shape, **options)
        assert [each.path.rpartition("/")[2] for each in layer.weights] == [
            each.path.rpartition("/")[2] for each in other.weights
        ]
        assert [each.trainable for each in layer.weights] == [
            each.trainable for each in other.weights
        ]
        for seed in range(3):
            x = draw(shape, seed=seed)
            y = other(x, **call)
            assert layer.compute_output_shape(shape) == tuple(y.shape)
            np.testing.assert_allclose(numpy(layer(x, **call)), numpy(y), rtol=2e-5, atol=2e-5)
        for found, wanted in zip(layer.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


@needs_gradients
@pytest.mark.parametrize(("kind", "shape", "options"), CASES)
def test_gradients_are_keras(kind, shape, options):
    x, dy = draw(shape), draw(shape, seed=1)
    for call in calls_of(kind):
        layer, other = pair(kind, shape, **options)
        for found, wanted in zip(slopes(layer, x, dy, **call), slopes(other, x, dy, **call),
                                 strict=True):  # fmt: skip
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def masked_case():
    return draw((6, 5, 3)), np.random.default_rng(3).random((6, 5)) > 0.3


def test_masked_positions_are_out_of_the_statistics():
    x, mask = masked_case()
    layer, other = pair("BatchNormalization", x.shape)
    y = numpy(layer(x, training=True, mask=mask))
    np.testing.assert_allclose(y, numpy(other(x, training=True, mask=mask)), rtol=1e-5, atol=1e-5)
    for found, wanted in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_array_equal(numpy(layer(x, mask=mask)), numpy(layer(x)))
    with pytest.raises(ValueError, match=r"mask.shape=\(6,\)"):
        layer(x, training=True, mask=mask[:, 0])


@needs_gradients
def test_gradients_under_a_mask_are_keras():
    x, mask = masked_case()
    layer, other = pair("BatchNormalization", x.shape)
    dy = draw(x.shape, seed=1)
    found, wanted = (slopes(each, x, dy, training=True, mask=mask) for each in (layer, other))
    for one, another in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-4)


def test_a_mask_beside_other_axes_is_keras():
    x, mask = draw((4, 3, 5)), np.ones((4, 3), bool)
    layer, other = pair("BatchNormalization", x.shape, axis=1)
    np.testing.assert_array_equal(
        numpy(layer(x, training=True, mask=mask)), numpy(other(x, training=True, mask=mask))
    )


def test_momentum_is_the_weight_of_the_old_statistics():
    layer = ours.BatchNormalization(momentum=0.75)
    x = draw((6, 2))
    layer(x, training=True)
    wide = x.astype(float)
    np.testing.assert_allclose(layer.moving_mean, 0.25 * wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.75 + 0.25 * wide.var(0), rtol=1e-6)


def test_what_does_not_train_keeps_its_statistics():
    x = draw((6, 2))
    layer = ours.BatchNormalization(trainable=False)
    y = layer(x, training=True)
    np.testing.assert_array_equal(layer.moving_mean, [0, 0])
    np.testing.assert_array_equal(numpy(y), numpy(layer(x, training=False)))


def test_float32_keeps_its_digits_at_a_large_offset():
    x = (draw((4096, 2), "float64") + 1e6).astype("float32")
    layer, other = pair("BatchNormalization", x.shape)
    wanted = expected("BatchNormalization", layer, x)
    found, keras_own = (numpy(each(x, training=True)) for each in (layer, other))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert abs(keras_own - wanted).max() > 1e-2


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_policies(policy):
    for kind, shape, options in CASES[::3]:
        layer, other = pair(kind, shape, dtype=policy, **options)
        x = draw(shape)
        y, reference = layer(x), other(x)
        assert layer.compute_dtype == keras.backend.standardize_dtype(y.dtype)
        assert [each.dtype for each in layer.weights] == [each.dtype for each in other.weights]
        both = (numpy(ops.cast(each, "float32")) for each in (y, reference))
        np.testing.assert_allclose(*both, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization", "RMSNormalization"])
def test_integers_become_floats(kind):
    x = np.arange(12).reshape(6, 2)
    layer = pair(kind, x.shape)[0]
    np.testing.assert_array_equal(numpy(layer(x)), numpy(layer(x.astype("float32"))))


def network(module):
    inputs = keras.Input((5, 3))
    y = keras.layers.Masking()(inputs)
    y = module.BatchNormalization(momentum=0.9)(y)
    y = keras.layers.Dense(4)(y)
    y = module.LayerNormalization()(y)
    y = module.GroupNormalization(2)(y)
    y = keras.layers.Flatten()(y)
    y = module.RMSNormalization()(y)
    return keras.Model(inputs, keras.layers.Dense(1)(y))


#: Keras says so of a mask that a layer does not hand on; these models are meant to lose it.
loses_mask = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")


@loses_mask
@needs_gradients
def test_a_model_trains_as_with_keras(tmp_path):
    x, y = draw((11, 5, 3)), draw((11, 1), seed=1)
    x[2, 3] = 0  # masked
    models = [network(each) for each in (ours, theirs)]
    models[0].set_weights(models[1].get_weights())
    losses = []
    for model in models:
        model.compile(keras.optimizers.SGD(0.01), "mse")
        fitted = model.fit(x, y, epochs=3, batch_size=5, shuffle=False, verbose=0)
        losses.append(fitted.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][-1] < losses[0][0]
    for found, wanted in zip(*(each.get_weights() for each in models), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(*(each.predict(x, verbose=0) for each in models),
                               rtol=1e-3, atol=1e-4)  # fmt: skip


@loses_mask
def test_weights_load_both_ways(tmp_path):
    for first, second in ((ours, theirs), (theirs, ours)):
        model, other = network(first), network(second)
        model.set_weights([draw(each.shape, seed=2) ** 2 for each in model.get_weights()])
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        for found, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(found, wanted)


@loses_mask
def test_models_are_saved_and_loaded(tmp_path):
    model, x = network(ours), draw((2, 5, 3))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert [type(each) for each in again.layers] == [type(each) for each in model.layers]
    np.testing.assert_array_equal(numpy(again(x)), numpy(model(x)))


def test_layers_of_a_model_become_normcores():
    def converted(layer):
        kind = getattr(ours, type(layer).__name__, type(layer))
        return kind.from_config(layer.get_config())

    model = keras.Sequential([keras.Input((3,)), theirs.Normalization(),
                              theirs.BatchNormalization(epsilon=0.1), theirs.Dense(2)])  # fmt: skip
    model.layers[0].adapt(draw((20, 3)))
    other = keras.models.clone_model(model, clone_function=converted)
    other.set_weights(model.get_weights())
    other.layers[0].finalize_state()
    assert type(other.layers[0]) is ours.Normalization
    assert type(other.layers[1]) is ours.BatchNormalization
    assert other.layers[1].epsilon == 0.1
    x = draw((2, 3), seed=1)
    np.testing.assert_allclose(numpy(other(x)), numpy(model(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ours.__all__)
def test_configurations_are_keras(name):
    layer, other = getattr(ours, name)(name="a"), getattr(theirs, name)(name="a")
    assert layer.get_config() == other.get_config()
    assert getattr(ours, name).from_config(other.get_config()).get_config() == other.get_config()
    assert keras.saving.get_registered_name(getattr(ours, name)) == f"normcore>{name}"
    assert getattr(ours, name).__module__ == "normcore.keras"


def test_synchronized_statistics_are_refused():
    with pytest.raises(ValueError, match="synchronized=True is only supported"):
        ours.BatchNormalization(synchronized=True)


def test_renorm_is_keras_own():
    x = draw((6, 3))
    layer, other = (each.BatchNormalization(renorm=True) for each in (ours, theirs))
    np.testing.assert_array_equal(numpy(layer(x, training=True)), numpy(other(x, training=True)))


@pytest.mark.filterwarnings("ignore:(?s).*rms_scaling=True:UserWarning")
def test_rms_scaling_is_keras_own():
    x = draw((6, 3))
    layer, other = (each.LayerNormalization(rms_scaling=True) for each in (ours, theirs))
    np.testing.assert_array_equal(numpy(layer(x)), numpy(other(x)))


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ImportError, match="jax, torch and numpy, not on tensorflow"):
        operations._operations()


@pytest.mark.skipif(BACKEND != "torch", reason="compiles with torch")
def test_torch_compiles_layers():
    import torch

    x = torch.tensor(draw((6, 5, 3)))
    layer = pair("BatchNormalization", x.shape)[0]
    compiled = torch.compile(lambda x: layer.call(x, training=True), backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer.call(x, training=True), rtol=0, atol=0)
