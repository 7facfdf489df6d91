"""Layers and norms of samples take any strides of any operand, and write to any that fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from placements import copied, placements, targets

import normcore as nc
from normcore import functional

DTYPES = ("float16", "float32", "float64", "int16", "int64")
SIZES = st.sampled_from([1, 2, 3, 4, 17])
TOLERANCE = {"float16": 4e-3, "float32": 1e-5, "float64": 1e-10}
ANOTHER_ORDER = "another memory order"


@st.composite
def batches(draw, axis=None, dtypes=DTYPES, smallest=1):
    """Draw the channel axis, x and dy, which may have no samples at all."""
    shape = [max(draw(SIZES), smallest) for _ in range(draw(st.integers(2, 4)))]
    axis = draw(st.integers(0, len(shape) - 1)) if axis is None else axis
    if draw(st.integers(0, 9)) == 0:
        shape[1 if axis == 0 else 0] = 0
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    result = dtype if dtype.kind == "f" else np.dtype(np.float64)
    return axis, draw(placements(shape, dtype)), draw(placements(shape, result)), result


def close(found, expected, dtype):
    tolerance = TOLERANCE[dtype.name]
    assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def written(call, out):
    """Return the result of a call that may write to an array; None if that has another order."""
    try:
        found = call(out)
    except ValueError as error:
        if out is None or ANOTHER_ORDER not in str(error):
            raise
        return None
    if out is not None:
        assert found[0] is out
    return found


@pytest.mark.parametrize("name", ["cpu", "reference"])
@given(batches(), st.data())
def test_norms_of_samples(name, batch, data):
    """With the bits of contiguous copies on the CPU backend, where no sum is over samples."""
    axis, x, dy, dtype = batch
    num_axes = data.draw(st.integers(1, x.ndim - 1))
    inner = x.shape[x.ndim - num_axes :]
    channels = (x.shape[axis],)
    num_groups = data.draw(
        st.sampled_from([each for each in (1, 2, 4, 17) if channels[0] % each == 0])
    )
    assert x.size < 1 << 17  # larger samples may have other bits where they lie otherwise
    for function, shape, groups, options in (
        ("layer_norm", inner, (), {"num_axes": num_axes}),
        ("rms_norm", inner, (), {"num_axes": num_axes}),
        ("group_norm", channels, (num_groups,), {"axis": axis}),
        ("instance_norm", channels, (), {"axis": axis}),
    ):
        if 0 in shape:
            continue
        options = {"eps": 0.1, "backend": name} | options
        vectors = [data.draw(placements(shape, np.float64)) for _ in range(2)]
        vectors = vectors[:1] if function == "rms_norm" else vectors
        forward = getattr(functional, function)
        backward = getattr(functional, f"{function}_backward")
        expected, moments = forward(*copied(x), *groups, *copied(*vectors), **options)
        out = data.draw(targets(x, dtype))
        found = written(lambda out: forward(x, *groups, *vectors, **options, out=out), out)  # noqa: B023
        if found is not None:
            if name == "cpu":
                assert_array_equal(found[0], expected)
            close(found[0], expected, dtype)
        gradients = backward(*copied(dy, x), moments, *groups, *copied(vectors[0]), **options)
        out = data.draw(targets(dy, dtype))
        found = written(
            lambda out: backward(dy, x, moments, *groups, vectors[0], **options, out=out),  # noqa: B023
            out,
        )
        if found is None:
            continue
        if name == "cpu":
            assert_array_equal(found[0], gradients[0])
        for one, other in zip(found, gradients, strict=True):
            assert one is other is None or close(one, other, dtype) is None


def layers(channels, axis, inner, half):
    """Yield pairs of layers that are alike."""
    options = {"axis": axis, "eps": 0.1}
    for make in (
        lambda: nc.BatchNorm(channels, **options),
        lambda: nc.BatchNorm(channels, r_max=3, d_max=5, activation="relu", **options),
        lambda: nc.BatchNorm(channels, virtual_batch_size=half, **options),
        lambda: nc.LayerNorm(inner, eps=0.1),
        lambda: nc.RMSNorm(inner, eps=0.1),
        lambda: nc.GroupNorm(1, channels, **options),
        lambda: nc.InstanceNorm(channels, affine=True, track_running_stats=True, **options),
    ):
        yield make(), make()


@given(batches(dtypes=("float32", "float64"), smallest=2), st.data())
def test_layers(batch, data):
    axis, x, dy, dtype = batch
    num_samples = x.shape[1 if axis == 0 else 0]
    if num_samples < 4:
        return
    for layer, plain in layers(x.shape[axis], axis, x.shape[-1:], (num_samples + 1) // 2):
        for name in ("gamma", "beta"):
            if getattr(plain, name) is not None:
                value = data.draw(placements(getattr(plain, name).shape, np.float64))
                setattr(layer, name, value)
                setattr(plain, name, value.copy())
        for training in (True, False):
            if hasattr(layer, "train"):
                layer.train(training), plain.train(training)
            out = data.draw(targets(x, dtype))
            y = written(lambda out: (layer(x, out=out),), out)  # noqa: B023
            if y is None:
                y = (layer(x),)
            close(y[0], plain(*copied(x)), dtype)
            gradients = written(
                lambda out: layer.backward(dy, out=out),  # noqa: B023
                data.draw(targets(dy, dtype)),
            )
            if gradients is None:
                gradients = layer.backward(dy)
            # What a ReLU lets pass is decided by the last bit of what lies near 0.
            if getattr(layer, "activation", None) is None:
                for one, other in zip(gradients, plain.backward(*copied(dy)), strict=True):
                    if one is not None:
                        close(one, other, np.dtype("float32"))
        for name in ("running_mean", "running_var"):
            if getattr(layer, name, None) is not None:
                assert_allclose(getattr(layer, name), getattr(plain, name), rtol=1e-10, atol=1e-12)


@given(batches(dtypes=("float32", "float64"), smallest=2), st.data())
def test_population_statistics(batch, data):
    axis, x, _, dtype = batch
    if x.size // max(x.shape[axis], 1) < 2:
        return
    found, expected = (nc.BatchNorm(x.shape[axis], axis=axis, eps=0.1) for _ in range(2))
    for layer, given_x in ((found, x), (expected, copied(x)[0])):
        with nc.population_statistics([layer]):
            layer(given_x)
        layer.eval()
    assert_allclose(found.running_mean, expected.running_mean, rtol=1e-13, atol=1e-15)
    close(found(x), expected(*copied(x)), dtype)
