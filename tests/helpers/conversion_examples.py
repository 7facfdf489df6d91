"""Layers to convert, and what it means that two of them are the same."""

from __future__ import annotations

import copy

import numpy as np
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from normcore import BatchNorm

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
AFFINE = [True, "gamma", "beta", False]


def example(seed=0, **options):
    """Return a layer in some state, no vector of which is what a new one has."""
    rng = np.random.default_rng(seed)
    bn = BatchNorm(3, **options)
    for name in ("gamma", "beta", "running_mean", "running_var"):
        if getattr(bn, name) is not None:
            setattr(bn, name, rng.random(3) + 0.5)
    return bn


def batches(shape=(3,), seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(5, 3, size=(number, *shape)) for number in (7, 2, 9, 5)]


def vectors(bn):
    return {name: getattr(bn, name) for name in ("gamma", "beta", "running_mean", "running_var")}


def assert_same_layer(found, expected):
    assert repr(found) == repr(expected)
    assert (found.training, found.frozen) == (expected.training, expected.frozen)
    assert found.num_batches_tracked == expected.num_batches_tracked
    for name, value in vectors(expected).items():
        assert_array_equal(getattr(found, name), value, strict=value is not None)


def assert_trains_as(bn, step, evaluate, statistics, inputs, close=CLOSE):
    """Compare outputs and running statistics over several batches, and then in evaluation."""
    bn = copy.copy(bn).train()
    for x in inputs:
        assert_allclose(bn(x), step(x), **close)
        for found, expected in zip((bn.running_mean, bn.running_var), statistics(), strict=True):
            assert_allclose(found, expected, **close)
    assert_allclose(bn.eval()(inputs[0]), evaluate(inputs[0]), **close)


@st.composite
def layers(draw):
    """Draw a layer that Keras can express, in a state of float32 numbers."""
    width = draw(st.integers(0, 4))
    numbers = st.floats(width=32, allow_nan=False)
    bn = BatchNorm(
        width,
        axis=draw(st.integers(-3, 3)),
        eps=draw(st.floats(1e-12, 1)),
        decay=draw(st.floats(0.5, 1)),  # below, 1 - (1 - decay) is not decay
        affine=draw(st.sampled_from(AFFINE)),
        ddof=0,
    )
    for name, value in vectors(bn).items():
        if value is not None:
            elements = numbers.map(abs) if name == "running_var" else numbers
            setattr(bn, name, draw(st.lists(elements, min_size=width, max_size=width)))
    return bn
