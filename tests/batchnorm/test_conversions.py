"""BatchNorm from and to what Keras, Flax and ONNX hold, by their published formulas."""

from __future__ import annotations

import numpy as np
import pytest
from conversion_examples import assert_same_layer, assert_trains_as, batches, layers, vectors
from hypothesis import given
from hypothesis import strategies as st
from processes import printed_json

from normcore import BatchNorm


class Published:
    """Batch norm as the documentation of Keras, Flax and ONNX states it."""

    def __init__(self, scale, offset, mean, var, momentum, epsilon, axis):
        self.scale, self.offset, self.mean, self.var = scale, offset, mean, var
        self.momentum, self.epsilon, self.axis = momentum, epsilon, axis

    def apply(self, x, mean, var):
        x = np.moveaxis(x, self.axis, -1)
        y = self.scale * (x - mean) / np.sqrt(var + self.epsilon) + self.offset
        return np.moveaxis(y, -1, self.axis)

    def step(self, x):
        rows = np.moveaxis(x, self.axis, -1).reshape(-1, len(self.mean))
        mean = rows.sum(axis=0) / len(rows)
        var = ((rows - mean) ** 2).sum(axis=0) / len(rows)
        self.mean = self.mean * self.momentum + mean * (1 - self.momentum)
        self.var = self.var * self.momentum + var * (1 - self.momentum)
        return self.apply(x, mean, var)

    def evaluate(self, x):
        return self.apply(x, self.mean, self.var)

    def statistics(self):
        return self.mean, self.var


FOUR = [[2.0, -1.0, 0.5], [0.5, 0.0, 3.0], [4.0, 5.0, 6.0], [9.0, 1.0, 0.25]]
KERAS = dict(zip(("gamma", "beta", "moving_mean", "moving_variance"), FOUR, strict=True))
FLAX = {"params": {"scale": FOUR[0], "bias": FOUR[1]},
        "batch_stats": {"mean": FOUR[2], "var": FOUR[3]}}  # fmt: skip
DEFAULTS = {
    "keras": (FOUR, {"momentum": 0.99, "epsilon": 1e-3, "axis": -1}),
    "flax": (FLAX, {"momentum": 0.99, "epsilon": 1e-5, "axis": -1}),
    "onnx": (FOUR, {"momentum": 0.9, "epsilon": 1e-5, "axis": 1}),
}


@pytest.mark.parametrize("framework", DEFAULTS)
@pytest.mark.parametrize("given", [{}, {"momentum": 0.4, "epsilon": 0.2}])
def test_published_formulas(framework, given):
    arrays, defaults = DEFAULTS[framework]
    options = {**defaults, **given}
    shape = (3, 2, 4) if options["axis"] == 1 else (2, 4, 3)
    published = Published(*map(np.array, FOUR), **options)
    bn = getattr(BatchNorm, f"from_{framework}")(arrays, **given)
    published_calls = published.step, published.evaluate, published.statistics
    assert_trains_as(bn, *published_calls, batches(shape))


@pytest.mark.parametrize("framework", DEFAULTS)
def test_new_layers_have_the_defaults(framework):
    _, options = DEFAULTS[framework]
    bn = getattr(BatchNorm, f"from_{framework}")(np.int64(5))
    expected = BatchNorm(
        5, axis=options["axis"], eps=options["epsilon"], decay=options["momentum"], ddof=0
    )
    assert_same_layer(bn, expected.train(framework != "onnx"))


def test_a_subclass_makes_its_own():
    class Mine(BatchNorm):
        pass

    assert type(Mine.from_keras(FOUR)) is Mine


# -- round trips -------------------------------------------------------------------------------


@given(layers(), st.booleans(), st.booleans())
def test_round_trips(bn, frozen, training):
    before = vectors(bn)
    bn.train(training)
    variables, options = bn.to_flax()
    assert_same_layer(BatchNorm.from_flax(variables, **options).train(training), bn)

    bn.frozen = frozen
    weights, config = bn.to_keras()
    again = BatchNorm.from_keras(weights, **config)
    assert_same_layer(again.train(training), bn)
    twice, config_twice = again.to_keras()
    assert [each.tobytes() for each in twice] == [each.tobytes() for each in weights]
    assert config_twice == config

    bn.axis = 1
    inputs, attributes = bn.to_onnx()
    assert attributes["training_mode"] == (training and not frozen)
    inputs_twice, attributes_twice = BatchNorm.from_onnx(inputs, **attributes).to_onnx()
    assert [each.tobytes() for each in inputs_twice] == [each.tobytes() for each in inputs]
    assert attributes_twice == attributes
    for name, value in vectors(bn).items():
        assert value is before[name]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_dtypes(kind):
    for framework in DEFAULTS:
        made = getattr(BatchNorm, f"from_{framework}")(DEFAULTS[framework][0])
        arrays, _ = getattr(made, f"to_{framework}")(dtype=kind)
        if framework == "flax":
            arrays = [array for each in arrays.values() for array in each.values()]
        assert {array.dtype for array in arrays} == {np.dtype(kind)}


def test_conversions_import_no_framework():
    code = """
import sys, normcore
for name in ("keras", "flax", "onnx"):
    made = getattr(normcore.BatchNorm, "from_" + name)(3)
    getattr(made, "to_" + name)()
print(sorted({"torch", "keras", "flax", "jax", "onnx", "tensorflow"} & set(sys.modules)))
"""
    assert printed_json(code) == []


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        (FOUR[:3], {}, ValueError, "gamma, beta, moving_mean, moving_variance, but there are 3"),
        (FOUR, {"scale": False}, ValueError, "has beta, moving_mean, .* there are 4 arrays"),
        ({k: v for k, v in KERAS.items() if k != "beta"}, {}, ValueError, "beta is missing"),
        (KERAS, {"center": False}, ValueError, "beta was given too"),
        ({**KERAS, "kernel": [1]}, {}, ValueError, "kernel was given too"),
        ({**KERAS, "moving_mean": [1]}, {}, ValueError,
         r"Keras's moving_mean: .* shape \(3,\), got \(1,\)"),
        ({**KERAS, "gamma": 1.0}, {}, ValueError, r"gamma must be a vector .* shape \(\)"),
        ({**KERAS, "beta": [1j, 0, 0]}, {}, ValueError, "beta must be .* real .* complex128"),
        ({**KERAS, "beta": ["a", "b", "c"]}, {}, ValueError, "beta must be a vector of real"),
        ({**KERAS, "moving_variance": [1, 1, -1]}, {}, ValueError,
         "moving_variance: running_var is negative in channel 2"),
        (FOUR, {"epsilom": 1}, TypeError, "'epsilom' is no option .* epsilon"),
        (FOUR, {"epsilon": -1}, ValueError, "eps"),
        (FOUR, {"momentum": 1.5}, ValueError, r"decay must be .* got 1.5"),
        (FOUR, {"momentum": None}, TypeError, "Keras's momentum must not be None"),
        (FOUR, {"axis": (1, 2)}, TypeError, "axis must be an integer"),
        (FOUR, {"renorm": True}, ValueError, "renorm=True"),
        (3, {"gamma_initializer": "zeros"}, TypeError, "'gamma_initializer' .* for a new layer"),
        (-1, {}, ValueError, "num_features must not be negative"),
        (None, {}, TypeError, "not iterable"),
    ],
)  # fmt: skip
def test_bad_input(arrays, options, error, message):
    with pytest.raises(error, match=message):
        BatchNorm.from_keras(arrays, **options)


@pytest.mark.parametrize("framework", DEFAULTS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ddof": 1}, "ddof=0, and no other, but this one has ddof=1"),
        ({"momentum": None}, "momentum=None"),
        ({"activation": "relu"}, "activation"),
        ({"single": "running"}, "single"),
        ({"track_running_stats": False}, "track_running_stats=False"),
    ],
)
def test_what_the_others_cannot_express(framework, options, message):
    bn = BatchNorm(3, **{"ddof": 0, **options})
    with pytest.raises(ValueError, match=message):
        getattr(bn, f"to_{framework}")()


def test_other_refusals():
    with pytest.raises(ValueError, match="frozen"):
        BatchNorm(3, ddof=0).freeze().to_flax()
    with pytest.raises(ValueError, match="axis=1, and no other, but this one has axis=-1"):
        BatchNorm.from_keras(3).to_onnx()
    with pytest.raises(TypeError, match="floats, got int64"):
        BatchNorm.from_keras(3).to_keras(dtype=int)
    bn = BatchNorm.from_keras(3)
    bn.gamma = [1, -70000, 1]
    with pytest.raises(ValueError, match=r"gamma is -70000 in channel 1, .* is 65504"):
        bn.to_keras(dtype=np.float16)
