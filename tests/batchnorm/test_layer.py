"""The BatchNorm layer: modes, running statistics, and what a failed call leaves behind."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from batchnorm_examples import assert_same_state, state
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import BatchNorm, functional


def batches(number=4, shape=(6, 3, 2), dtype=np.float64):
    rng = np.random.default_rng(0)
    offset = np.array([0.0, 5.0, -2.0])[:, None]
    return [(rng.normal(size=shape) * (1 + step) + offset).astype(dtype) for step in range(number)]


def test_fresh_layer():
    bn = BatchNorm(3)
    assert (bn.num_features, bn.axis, bn.eps, bn.momentum) == (3, 1, 1e-5, 0.1)
    assert bn.affine
    assert bn.track_running_stats
    assert bn.training
    assert_array_equal(bn.gamma, np.ones(3))
    assert_array_equal(bn.beta, np.zeros(3))
    assert_array_equal(bn.running_mean, np.zeros(3))
    assert_array_equal(bn.running_var, np.ones(3))
    assert bn.num_batches_tracked == 0
    for array in (bn.gamma, bn.beta, bn.running_mean, bn.running_var):
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
    assert BatchNorm.__module__ == "normcore"
    assert nc.BatchNorm is BatchNorm


def test_running_statistics_by_hand():
    # means 2 and 6; unbiased variances 2 and 8 (biased ones 1 and 4)
    first, second = np.array([[1.0], [3.0]]), np.array([[4.0], [8.0]])
    bn = BatchNorm(1, momentum=0.25)
    bn(first)
    assert_array_equal(bn.running_mean, [0.5])
    assert_array_equal(bn.running_var, [1.25])
    bn(second)
    assert_array_equal(bn.running_mean, [0.25 * 6 + 0.75 * 0.5])
    assert_array_equal(bn.running_var, [0.25 * 8 + 0.75 * 1.25])
    assert bn.num_batches_tracked == 2

    bn = BatchNorm(1, momentum=None)
    bn(first)
    assert_array_equal([bn.running_mean[0], bn.running_var[0]], [2, 2])
    bn(second)
    assert_array_equal([bn.running_mean[0], bn.running_var[0]], [4, 5])
    bn.reset_running_stats()
    assert_array_equal([bn.running_mean[0], bn.running_var[0]], [0, 1])
    assert bn.num_batches_tracked == 0


@pytest.mark.parametrize("momentum", [0, 1, 0.0, 1.0])
def test_momentum_at_its_ends(momentum):
    bn = BatchNorm(3, momentum=momentum)
    x = batches()[0]
    bn(x)
    moments = functional.moments(x, channel_axis=1)
    assert_array_equal(bn.running_mean, moments.mean if momentum else np.zeros(3))
    assert_array_equal(bn.running_var, moments.var(ddof=1) if momentum else np.ones(3))


def test_modes():
    bn = BatchNorm(3)
    x, other = batches(2)
    bn(x)
    before = state(bn)
    assert bn.eval() is bn
    assert not bn.training
    expected = functional.batch_norm_inference(other, bn.running_mean, bn.running_var)
    assert_array_equal(bn(other), expected)
    assert_array_equal(bn.forward(other), expected)
    before[-2] = False  # training; the last says whether it is frozen
    assert_same_state(bn, before)
    assert_array_equal(bn(other[:1, :, :1]), expected[:1, :, :1])  # one value is fine here
    assert bn.train() is bn
    assert bn.training
    assert bn.train(False) is bn
    assert not bn.training


def test_without_running_statistics():
    bn = BatchNorm(3, track_running_stats=False).eval()
    assert bn.running_mean is bn.running_var is bn.num_batches_tracked is None
    x = batches()[0]
    y = bn(x)
    expected, moments = functional.batch_norm(x)
    assert_array_equal(y, expected)
    dx, _, _ = bn.backward(x)
    assert_array_equal(dx, functional.batch_norm_backward(x, x, moments)[0])
    bn.reset_running_stats()
    assert bn.running_mean is None
    with pytest.raises(ValueError, match="at least 2 values"):
        bn(np.ones((1, 3)))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        with pytest.raises(ValueError, match=f"no {name} with track_running_stats=False"):
            setattr(bn, name, np.ones(3))


def test_without_parameters():
    bn = BatchNorm(3, affine=False)
    assert bn.gamma is None
    assert bn.beta is None
    x = batches()[0]
    assert_array_equal(bn(x), functional.batch_norm(x)[0])
    dx, dgamma, dbeta = bn.backward(x)
    assert dx.shape == x.shape
    assert dgamma is None
    assert dbeta is None
    for name in ("gamma", "beta"):
        with pytest.raises(ValueError, match=f"no {name} with affine=False"):
            setattr(bn, name, np.ones(3))


def test_parameters_may_change_in_place_after_the_forward_pass():
    bn = BatchNorm(3)
    bn.gamma = [1.0, 2.0, 3.0]
    x, dy = batches(2)
    bn(x)
    expected = bn.backward(dy)
    bn(x)
    bn.gamma -= 0.5
    bn.beta[:] = 9
    assert_array_equal(bn.gamma, [0.5, 1.5, 2.5])
    for found, before in zip(bn.backward(dy), expected, strict=True):
        assert_array_equal(found, before)
    bn.eval()(x)
    expected = bn.backward(dy)
    bn.running_var *= 2
    for found, before in zip(bn.backward(dy), expected, strict=True):
        assert_array_equal(found, before)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_every_axis(axis):
    x = batches()[0]
    moved = np.moveaxis(x, 1, axis)
    bn, plain = BatchNorm(3, axis=axis, momentum=0.5), BatchNorm(3, momentum=0.5)
    bn.gamma = plain.gamma = [1.0, -2.0, 0.5]
    assert_allclose(np.moveaxis(bn(moved), axis, 1), plain(x), rtol=1e-12, atol=1e-14)
    assert_allclose(bn.running_var, plain.running_var, rtol=1e-14)
    dx, dgamma, dbeta = bn.backward(np.moveaxis(x**2, 1, axis))
    expected = plain.backward(x**2)
    assert_allclose(np.moveaxis(dx, axis, 1), expected[0], rtol=1e-11, atol=1e-12)
    assert_allclose(dgamma, expected[1], rtol=1e-12)
    assert_allclose(dbeta, expected[2], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype_is_kept(dtype):
    bn = BatchNorm(3)
    x = batches(dtype=dtype)[0]
    assert bn(x).dtype == dtype
    dx, dgamma, dbeta = bn.backward(x)
    assert dx.dtype == dtype
    assert dgamma.dtype == dbeta.dtype == np.float64
    assert bn.eval()(x).dtype == dtype
    assert bn.running_mean.dtype == np.float64


def test_out_and_backward():
    bn = BatchNorm(3)
    x, dy = batches(2)
    kept = x.copy()
    y = bn(x)
    expected = bn.backward(dy)
    out, dx = np.empty_like(x), np.empty_like(x)
    assert bn(x, out=out) is out
    assert bn(x, out) is out
    assert_array_equal(out, y)
    assert bn.backward(dy, out=dx)[0] is dx
    assert_array_equal(dx, expected[0])
    assert_array_equal(x, kept)
    gradient = dy.copy()
    assert bn.backward(gradient, out=gradient)[0] is gradient
    assert_array_equal(gradient, expected[0])


@pytest.mark.parametrize("training", [True, False])
def test_no_backward_after_overwriting_the_input(training):
    bn = BatchNorm(3).train(training)
    x, dy = batches(2)
    expected = bn(x.copy())
    in_place = x.copy()
    assert bn(in_place, out=in_place) is in_place
    assert_array_equal(in_place, expected)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        bn.backward(dy)
    bn(x)
    dx = bn.backward(dy)[0]
    assert_array_equal(bn.backward(dy, out=x)[0], dx)  # allowed, but only once
    with pytest.raises(RuntimeError, match="overwrote its input"):
        bn.backward(dy)


def test_neighbours_in_memory_are_no_overlap():
    buffer = np.zeros((6, 6, 2))
    x, out = buffer[:, ::2], buffer[:, 1::2]
    x[...] = batches()[0]
    bn = BatchNorm(3)
    y = bn(x, out=out)
    assert_array_equal(y, functional.batch_norm(batches()[0])[0])
    bn.backward(y)


def test_backward_needs_a_forward_pass():
    with pytest.raises(RuntimeError, match="forward pass"):
        BatchNorm(3).backward(np.ones((4, 3)))


def test_mask():
    bn, compressed = BatchNorm(3), BatchNorm(3)
    x, dy = batches(2)
    mask = np.array([True, False, True, True, False, True])
    y = bn(x, mask=mask)
    expected = compressed(x[mask])
    assert_allclose(y[mask], expected, rtol=1e-12, atol=1e-14)
    assert_array_equal(y[~mask], 0)
    assert_allclose(bn.running_mean, compressed.running_mean, rtol=1e-14)
    assert_allclose(bn.running_var, compressed.running_var, rtol=1e-14)
    dx, dgamma, dbeta = bn.backward(dy)
    expected = compressed.backward(dy[mask])
    assert_allclose(dx[mask], expected[0], rtol=1e-11, atol=1e-13)
    assert_array_equal(dx[~mask], 0)
    assert_allclose(dgamma, expected[1], rtol=1e-12)
    assert_allclose(dbeta, expected[2], rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.0, None])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_batches_propagate(value, momentum):
    bn = BatchNorm(3, momentum=momentum)
    x = batches()[0]
    x[2, 1, 0] = value
    y = bn(x)
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, [0, 2]]).all()
    assert np.isnan(bn.running_var[1])
    assert np.isfinite(bn.running_var[[0, 2]]).all()
    assert not np.isfinite(bn.running_mean[1])
    assert np.isnan(bn.backward(x)[0][:, 1]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_features": -1}, ValueError, "num_features"),
        ({"num_features": 2.5}, TypeError, "num_features"),
        ({"num_features": 3, "axis": 1.0}, TypeError, "axis"),
        ({"num_features": 3, "axis": None}, TypeError, "axis"),
        ({"num_features": 3, "eps": float("nan")}, ValueError, "eps"),
        ({"num_features": 3, "eps": -1e-5}, ValueError, "eps"),
        ({"num_features": 3, "eps": "small"}, TypeError, "eps"),
        ({"num_features": 3, "momentum": -0.1}, ValueError, "momentum"),
        ({"num_features": 3, "momentum": "0.1"}, TypeError, "momentum"),
        ({"num_features": 3, "momentum": 1.1}, ValueError, "momentum"),
        ({"num_features": 3, "momentum": float("nan")}, ValueError, "momentum"),
    ],
)
def test_bad_options(arguments, error, message):
    with pytest.raises(error, match=message):
        BatchNorm(**arguments)


@pytest.mark.parametrize("name", ["gamma", "beta", "running_mean", "running_var"])
def test_assignment(name):
    bn = BatchNorm(3)
    value = np.array([1, 2, 3], dtype=np.float32)
    setattr(bn, name, value)
    value[0] = 99
    assert_array_equal(getattr(bn, name), [1, 2, 3])
    assert getattr(bn, name).dtype == np.float64
    before = state(bn)
    for bad in (np.ones(2), np.ones((3, 1)), 1.0, None):
        with pytest.raises((ValueError, TypeError), match=name):
            setattr(bn, name, bad)
    assert_same_state(bn, before)


def test_assignment_of_counts_and_variances():
    bn = BatchNorm(3)
    bn.num_batches_tracked = np.int64(7)
    assert bn.num_batches_tracked == 7
    with pytest.raises(ValueError, match="num_batches_tracked"):
        bn.num_batches_tracked = -1
    with pytest.raises(TypeError):
        bn.num_batches_tracked = 1.5
    with pytest.raises(ValueError, match="running_var is negative in channel 2"):
        bn.running_var = [1.0, 0.0, -1.0]
    assert_array_equal(bn.running_var, np.ones(3))


BAD_INPUTS = [
    (lambda x: {"x": x[:, :2]}, ValueError, "num_features=3"),
    (lambda x: {"x": x[0, :, 0]}, ValueError, "2 dimensions"),
    (lambda x: {"x": x[:1, :, :1]}, ValueError, "at least 2 values"),
    (lambda x: {"x": x + 1j}, TypeError, "complex"),
    (lambda x: {"x": x.astype("U8")}, TypeError, "<U8|str"),
    (lambda x: {"x": x.astype(object)}, TypeError, "object"),
    (lambda x: {"x": x, "out": np.empty((3, 6, 2))}, ValueError, "out"),
    (lambda x: {"x": x, "out": np.empty((6, 3, 2), np.float32)}, TypeError, "out"),
    (lambda x: {"x": x, "mask": np.ones(5, bool)}, ValueError, "mask"),
    (lambda x: {"x": x, "mask": np.zeros(6, bool)}, ValueError, "under the mask"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_INPUTS)
def test_failed_forward_changes_nothing(change, error, message):
    bn = BatchNorm(3, momentum=None)
    x, dy = batches(2)
    bn(x)
    expected = bn.backward(dy)
    before = state(bn)
    with pytest.raises(error, match=message):
        bn(**change(x))
    assert_same_state(bn, before)
    for found, gradient in zip(bn.backward(dy), expected, strict=True):
        assert_array_equal(found, gradient)


def test_failed_backward_changes_nothing():
    bn = BatchNorm(3)
    x, dy = batches(2)
    bn(x)
    before = state(bn)
    with pytest.raises(ValueError, match="dy has shape"):
        bn.backward(dy[:3])
    with pytest.raises(TypeError, match="dy has dtype float32"):
        bn.backward(dy.astype(np.float32))
    with pytest.raises(TypeError, match="out"):
        bn.backward(dy, out=np.empty(dy.shape, np.float16))
    assert_same_state(bn, before)
    bn.backward(dy)


@pytest.mark.parametrize("axis", [2, -3])
def test_axis_that_the_batch_does_not_have(axis):
    with pytest.raises(ValueError, match=f"axis {axis}"):
        BatchNorm(3, axis=axis)(np.ones((4, 3)))


@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda bn: pickle.loads(pickle.dumps(bn))]
)
def test_copies(travel):
    bn = BatchNorm(3, axis=-1, eps=1e-3, momentum=None).eval()
    bn.gamma, bn.running_var, bn.num_batches_tracked = [1, 2, 3], [4, 5, 6], 7
    x = np.random.default_rng(0).normal(size=(5, 3))
    y = bn(x)
    other = travel(bn)
    assert_same_state(other, state(bn))
    assert repr(other) == repr(bn)
    assert_array_equal(other(x), y)
    with pytest.raises(RuntimeError, match="forward pass"):
        travel(bn).backward(y)
    bn.backward(y)  # the original keeps its own
    other.train()(x)
    assert bn.num_batches_tracked == 7
    assert other.num_batches_tracked == 8
    assert_array_equal(bn.running_var, [4, 5, 6])


def test_repr():
    assert repr(BatchNorm(3)) == (
        "BatchNorm(3, axis=1, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    )
    bn = BatchNorm(3, axis=-1, momentum=None, backend="reference")
    assert eval(repr(bn)).backend == "reference"


def test_backend_option():
    x = batches()[0]
    by_name = BatchNorm(3, backend="reference")
    by_instance = BatchNorm(3, backend=nc.get_backend("reference"))
    assert_array_equal(by_name(x), by_instance(x))
    with pytest.raises(ValueError, match="nosuch"):
        BatchNorm(3, backend="nosuch")(x)


def test_threads_lose_no_batch():
    bn = BatchNorm(3, momentum=None)
    x = batches()[0]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: bn(x), range(40)))
    moments = functional.moments(x, channel_axis=1)
    assert bn.num_batches_tracked == 40
    assert_allclose(bn.running_mean, moments.mean, rtol=1e-13, atol=1e-15)
    assert_allclose(bn.running_var, moments.var(ddof=1), rtol=1e-13)


def test_an_eps_of_zero_divides_by_the_deviation_alone():
    x = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]])
    np.testing.assert_allclose(
        BatchNorm(2, eps=0)(x), (x - x.mean(0)) / x.std(0), rtol=1e-15, atol=1e-16
    )
