"""BatchNorm from and to Keras, Flax and ONNX, beside these themselves; they need not be there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conversion_examples import AFFINE, assert_same_layer, assert_trains_as, batches, example
from numpy.testing import assert_array_equal

from normcore import BatchNorm

TWO_FLAGS = list(itertools.product([True, False], repeat=2))


# -- Keras -------------------------------------------------------------------------------------

# Keras computes in float32 whatever the dtype, and reads its variables as NumPy deprecates.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}
OF_KERAS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def keras():
    keras = pytest.importorskip("keras")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx(before)


def keras_layer(keras, arrays, config, shape):
    layer = keras.layers.BatchNormalization(**config)
    layer.build((None, *shape))
    layer.set_weights(arrays)
    return layer


def assert_trains_as_keras(bn, layer, shape):
    def call(x, training):
        return np.asarray(layer(x, training=training))

    def statistics():
        return layer.get_weights()[-2:]

    calls = lambda x: call(x, True), lambda x: call(x, False)
    assert_trains_as(bn, *calls, statistics, batches(shape), FLOAT32)


@OF_KERAS
@pytest.mark.parametrize(("center", "scale"), TWO_FLAGS)
@pytest.mark.parametrize(("axis", "shape"), [(-1, (3,)), (-1, (4, 5, 3)), (1, (3, 2))])
def test_keras_itself(keras, center, scale, axis, shape):
    options = {"axis": axis, "momentum": 0.75, "epsilon": 0.1, "center": center, "scale": scale}
    arrays = list(np.random.default_rng(0).random((2 + center + scale, 3)) + 0.5)
    layer = keras_layer(keras, arrays, options, shape)
    bn = BatchNorm.from_keras(layer.get_weights(), **layer.get_config())
    weights, config = bn.to_keras(dtype=np.float64)
    for found, expected in zip(weights, arrays, strict=True):
        assert_array_equal(found, expected, strict=True)
    assert config == {**options, "trainable": True}
    assert_trains_as_keras(bn, layer, shape)
    assert_trains_as_keras(bn, keras_layer(keras, weights, config, shape), shape)


@OF_KERAS
def test_keras_own_defaults(keras):
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    weights, config = BatchNorm.from_keras(3).to_keras(dtype=np.float64)
    expected = layer.get_config()
    assert config == {name: expected[name] for name in config}
    for found, array in zip(weights, layer.get_weights(), strict=True):
        assert_array_equal(found, array, strict=True)


@OF_KERAS
def test_keras_freezes_alike(keras):
    layer = keras.layers.BatchNormalization(trainable=False)
    layer.build((None, 3))
    bn = BatchNorm.from_keras(layer.get_weights(), **layer.get_config())
    assert bn.frozen
    assert_trains_as_keras(bn, layer, (3,))
    assert bn.to_keras()[1]["trainable"] is False


# -- Flax --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flax():
    pytest.importorskip("flax.nnx")
    return pytest.importorskip("flax")


def assert_trains_as_linen(flax, bn, variables, options, shape):
    module, state = flax.linen.BatchNorm(**options, use_fast_variance=False), dict(variables)

    def step(x):
        y, after = module.apply(state, x, use_running_average=False, mutable=["batch_stats"])
        state.update(after)
        return np.asarray(y)

    def evaluate(x):
        return np.asarray(module.apply(state, x, use_running_average=True))

    def statistics():
        return state["batch_stats"]["mean"], state["batch_stats"]["var"]

    assert_trains_as(bn, step, evaluate, statistics, batches(shape))


@pytest.mark.parametrize(("bias", "scale"), TWO_FLAGS)
@pytest.mark.parametrize(("axis", "shape"), [(-1, (3,)), (-1, (4, 5, 3)), (1, (3, 2))])
def test_flax_linen_itself(flax, bias, scale, axis, shape):
    import jax

    options = {"axis": axis, "momentum": 0.75, "epsilon": 0.1}
    options |= {"use_bias": bias, "use_scale": scale}
    affine = {(1, 1): True, (1, 0): "gamma", (0, 1): "beta", (0, 0): False}[scale, bias]
    given = example(axis=axis, decay=0.75, eps=0.1, affine=affine, ddof=0)
    variables, found = given.to_flax(dtype=np.float64)
    assert found == options
    assert_trains_as_linen(flax, given, variables, options, shape)
    module = flax.linen.BatchNorm(**options)
    own = module.init(jax.random.key(0), batches(shape)[0], use_running_average=False)
    assert jax.tree.structure(own) == jax.tree.structure(
        {name: each for name, each in variables.items() if each}
    )
    fresh = BatchNorm.from_flax(own, **options)
    assert_same_layer(fresh, BatchNorm(3, axis=axis, decay=0.75, eps=0.1, affine=affine, ddof=0))
    assert_same_layer(BatchNorm.from_flax(variables, **options), given)


def test_flax_nnx_itself(flax):
    import jax
    from flax import nnx

    layer = nnx.BatchNorm(3, momentum=0.75, use_fast_variance=False, rngs=nnx.Rngs(0))
    variables, _ = example(axis=-1, ddof=0).to_flax(dtype=np.float64)
    for collection, kind in (("params", nnx.Param), ("batch_stats", nnx.BatchStat)):
        for name, value in variables[collection].items():
            setattr(layer, name, kind(jax.numpy.asarray(value)))
    bn = BatchNorm.from_flax(nnx.state(layer), momentum=0.75)
    assert_same_layer(bn, BatchNorm.from_flax(nnx.to_pure_dict(nnx.state(layer)), momentum=0.75))

    def step(x):
        layer.train()
        return np.asarray(layer(x))

    def evaluate(x):
        layer.eval()
        return np.asarray(layer(x))

    assert_trains_as(bn, step, evaluate, lambda: (layer.mean[...], layer.var[...]), batches())


def test_flax_own_defaults(flax):
    _, options = BatchNorm.from_flax(3).to_flax()
    module = flax.linen.BatchNorm()
    assert options == {name: getattr(module, name) for name in options}


# -- ONNX --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("onnx.reference")
    return pytest.importorskip("onnx")


def run_onnx(onnx, x, inputs, attributes):
    """Return what the reference implementation makes of one node: y, and maybe the statistics."""
    names = ["X", "scale", "B", "input_mean", "input_var"]
    outputs = ["Y", "running_mean", "running_var"][: 3 if attributes["training_mode"] else 1]
    kind = onnx.TensorProto.DOUBLE

    def declared(names):  # the data and the result, and then vectors
        shapes = [x.shape, *[(3,)] * (len(names) - 1)]
        return list(map(onnx.helper.make_tensor_value_info, names, [kind] * len(names), shapes))

    node = onnx.helper.make_node("BatchNormalization", names, outputs, **attributes)
    graph = onnx.helper.make_graph([node], "one node", declared(names), declared(outputs))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)])
    onnx.checker.check_model(model)
    evaluator = onnx.reference.ReferenceEvaluator(model)
    return evaluator.run(None, dict(zip(names, [x, *inputs], strict=True)))


@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize("shape", [(3,), (3, 4, 2)])
def test_onnx_itself(onnx, shape, affine):
    # its attributes are float32
    bn = example(decay=0.75, eps=0.125, ddof=0, affine=affine)
    inputs, attributes = bn.to_onnx(dtype=np.float64)
    assert attributes == {"epsilon": 0.125, "momentum": 0.75, "training_mode": 1}

    def step(x):
        y, *inputs[2:] = run_onnx(onnx, x, inputs, attributes)
        return y

    def evaluate(x):
        return run_onnx(onnx, x, inputs, {**attributes, "training_mode": 0})[0]

    again = BatchNorm.from_onnx(inputs, **attributes)
    assert_trains_as(bn, step, evaluate, lambda: inputs[2:], batches(shape))
    inputs[2:] = bn.running_mean, bn.running_var
    assert_trains_as(again, step, evaluate, lambda: inputs[2:], batches(shape))


def test_onnx_own_defaults(onnx):
    schema = onnx.defs.get_schema("BatchNormalization")
    bn = BatchNorm.from_onnx(3)
    assert not bn.training
    _, attributes = bn.to_onnx()
    assert attributes.keys() == schema.attributes.keys()
    for name, value in attributes.items():
        default = onnx.helper.get_attribute_value(schema.attributes[name].default_value)
        assert np.float32(value) == np.float32(default)
    names = [each.name for each in schema.inputs][1:]
    given = example(decay=0.5, ddof=0)
    inputs, attributes = given.to_onnx(dtype=np.float64)
    named = dict(zip(names, inputs, strict=True))
    assert_same_layer(BatchNorm.from_onnx(named, **attributes), given)
