"""Gradients of batch normalization: central differences, exact arithmetic, PyTorch."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from central_differences import central_differences
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import functional

SHAPES = [(7, 3), (6, 3, 4), (4, 3, 2, 3), (3, 2, 2, 3, 2)]


def example(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "axis"), [((6, 2), 1), ((3, 2, 4), 1), ((2, 3, 2, 2), -1)])
def test_central_differences(shape, axis, training, masked, activation):
    x = example(shape, 0)
    weights = example(shape, 1)  # a uniform dy would give dx = 0, whatever the formula
    num_channels = shape[axis]
    gamma, beta = np.linspace(0.5, -2, num_channels), np.linspace(0.2, 0.5, num_channels)
    mask = np.arange(shape[0]) != 1 if masked else None
    options = {"axis": axis, "eps": 1e-2, "mask": mask, "activation": activation}
    mean, var = np.linspace(-0.1, 0.3, num_channels), np.linspace(0.7, 1.5, num_channels)

    def loss(x, gamma, beta):
        if training:
            y, _ = functional.batch_norm(x, gamma, beta, **options)
        else:
            y = functional.batch_norm_inference(x, mean, var, gamma, beta, **options)
        return float(np.sum(weights * y))

    if training:
        y, moments = functional.batch_norm(x, gamma, beta, **{**options, "activation": None})
    else:
        moments = nc.Moments.of(1, mean, var)
        y = functional.batch_norm_inference(
            x, mean, var, gamma, beta, **{**options, "activation": None}
        )
    valid = y if mask is None else y[mask]
    assert np.abs(valid).min() > 1e-4, "too near the kink of the ReLU for a difference"
    gradients = functional.batch_norm_backward(
        weights, x, moments, gamma, beta, training=training, **options
    )
    expected = (
        central_differences(lambda each: loss(each, gamma, beta), x),
        central_differences(lambda each: loss(x, each, beta), gamma),
        central_differences(lambda each: loss(x, gamma, each), beta),
    )
    for found, difference in zip(gradients, expected, strict=True):
        assert_allclose(found, difference, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("training", [True, False])
def test_layer_against_central_differences(training):
    x, weights = example((5, 2, 3), 2), example((5, 2, 3), 3)
    bn = nc.BatchNorm(2, eps=1e-2).train(training)
    bn.gamma, bn.beta, bn.running_var = [1.5, -0.5], [0.1, 0.2], [0.5, 2.0]
    bn(x)
    dx, _, _ = bn.backward(weights)
    other = nc.BatchNorm(2, eps=1e-2).train(training)
    other.gamma, other.beta, other.running_var = [1.5, -0.5], [0.1, 0.2], [0.5, 2.0]
    if not training:
        other.running_mean, other.running_var = bn.running_mean, bn.running_var
    expected = central_differences(lambda each: float(np.sum(weights * other(each))), x)
    assert_allclose(dx, expected, rtol=1e-7, atol=1e-8)


def test_exact_arithmetic():
    # mean 0, var 3, eps 1: the scale is 2, and every step of the formulas is exact in float64
    x = np.array([[-3.0], [1.0], [1.0], [1.0]])
    dy = np.array([[5.0], [-7.0], [2.0], [8.0]])
    moments = functional.moments(x, channel_axis=1)
    gradients = functional.batch_norm_backward(dy, x, moments, [6.0], eps=1.0)
    xhat = [Fraction(int(each), 2) for each in x[:, 0]]
    upstream = [Fraction(int(each)) for each in dy[:, 0]]
    dbeta = sum(upstream)
    dgamma = sum(a * b for a, b in zip(upstream, xhat, strict=True))
    dx = [3 * (g - dbeta / 4 - h * dgamma / 4) for g, h in zip(upstream, xhat, strict=True)]
    assert_array_equal(gradients[0][:, 0], [float(each) for each in dx])
    assert_array_equal(gradients[1], [float(dgamma)])
    assert_array_equal(gradients[2], [float(dbeta)])


def test_gradient_of_zero_gamma():
    x, dy = example((6, 2), 0), example((6, 2), 1)
    _, moments = functional.batch_norm(x, np.zeros(2))
    dx, dgamma, _ = functional.batch_norm_backward(dy, x, moments, np.zeros(2))
    assert_array_equal(dx, np.zeros_like(x))
    assert (dgamma != 0).all()


# -- PyTorch -------------------------------------------------------------------------------


def torch_layer(torch, dimensions, num_features, **options):
    kinds = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
    return getattr(torch.nn, kinds[dimensions])(num_features, dtype=torch.float64, **options)


OPTIONS = list(
    itertools.product(
        [True, False], [True, False], [True, False], [None, 0.0, 0.1, 1.0], ["relu", None]
    )
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [1, -1])
def test_torch_over_all_options(shape, axis):
    torch = pytest.importorskip("torch")
    num_channels = shape[1]
    for training, affine, track, momentum, activation in OPTIONS:
        theirs = torch_layer(
            torch,
            len(shape),
            num_channels,
            affine=affine,
            track_running_stats=track,
            momentum=momentum,
            eps=1e-4,
        )
        ours = nc.BatchNorm(
            num_channels,
            axis=axis,
            eps=1e-4,
            momentum=momentum,
            affine=affine,
            track_running_stats=track,
        )
        if affine:
            ours.gamma = np.linspace(-1, 2, num_channels)
            ours.beta = np.linspace(1, -0.3, num_channels)
            with torch.no_grad():
                theirs.weight.copy_(torch.from_numpy(ours.gamma))
                theirs.bias.copy_(torch.from_numpy(ours.beta))
        for step in range(3):
            if step == 2 and not training:
                theirs.eval()
                ours.eval()
            x = example(shape, step) * (1 + step) + 10 * step
            dy = example(shape, 10 + step)
            theirs.zero_grad()
            leaf = torch.from_numpy(x.copy()).requires_grad_()
            expected = theirs(leaf)
            if activation is not None:
                expected = torch.relu(expected)
            expected.backward(torch.from_numpy(dy))
            moved, moved_dy = (np.moveaxis(each, 1, axis) for each in (x, dy))
            y = ours(moved)
            if activation is not None:
                moved_dy = moved_dy * (y > 0)
                y = np.maximum(y, 0)
            dx, dgamma, dbeta = ours.backward(moved_dy)
            tolerance = {"rtol": 1e-12, "atol": 1e-12}
            assert_allclose(np.moveaxis(y, axis, 1), expected.detach().numpy(), **tolerance)
            assert_allclose(np.moveaxis(dx, axis, 1), leaf.grad.numpy(), **tolerance)
            if affine:
                assert_allclose(dgamma, theirs.weight.grad.numpy(), **tolerance)
                assert_allclose(dbeta, theirs.bias.grad.numpy(), **tolerance)
            if track:
                assert_allclose(ours.running_mean, theirs.running_mean.numpy(), **tolerance)
                assert_allclose(ours.running_var, theirs.running_var.numpy(), **tolerance)
                assert ours.num_batches_tracked == int(theirs.num_batches_tracked)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_torch_functional_with_activation(shape, training):
    torch = pytest.importorskip("torch")
    x, dy = example(shape, 4), example(shape, 5)
    gamma, beta = np.linspace(-1, 2, shape[1]), np.linspace(1, -0.3, shape[1])
    mean, var = np.linspace(0, 1, shape[1]), np.linspace(0.5, 2, shape[1])
    leaves = [torch.from_numpy(each.copy()).requires_grad_() for each in (x, gamma, beta)]
    expected = torch.relu(
        torch.nn.functional.batch_norm(
            leaves[0],
            torch.from_numpy(mean.copy()),
            torch.from_numpy(var.copy()),
            *leaves[1:],
            training=training,
        )
    )
    expected.backward(torch.from_numpy(dy))
    if training:
        y, moments = functional.batch_norm(x, gamma, beta, activation="relu")
    else:
        y = functional.batch_norm_inference(x, mean, var, gamma, beta, activation="relu")
        moments = nc.Moments.of(1, mean, var)
    gradients = functional.batch_norm_backward(
        dy, x, moments, gamma, beta, activation="relu", training=training
    )
    assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    for found, leaf in zip(gradients, leaves, strict=True):
        assert_allclose(found, leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_torch_dtypes(dtype, channels_last):
    """Each narrow result is PyTorch's float64 result on the same data, rounded once."""
    torch = pytest.importorskip("torch")
    x = (example((8, 3, 4, 5), 6) * 3 + 20).astype(dtype)
    if channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = torch.nn.functional.batch_norm(
        torch.from_numpy(x.astype(np.float64)), None, None, training=True
    ).numpy()
    y, _ = functional.batch_norm(x)
    assert y.dtype == dtype
    assert y.strides == x.strides
    if dtype == "float64":
        assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    else:
        spacing = np.spacing(np.abs(expected.astype(dtype)))
        assert (np.abs(y - expected) <= 0.5001 * spacing).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_torch_tensors_in_and_out(backend):
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat")
    values, upstream = example((4, 3, 5), 7), example((4, 3, 5), 8)
    weights, keep = np.linspace(-1, 1, 3), np.array([True, False, True, True])
    x, dy, gamma, mask = (torch.from_numpy(each) for each in (values, upstream, weights, keep))
    with nc.use_backend(backend):
        y, moments = functional.batch_norm(x, gamma, mask=mask, activation="relu")
        expected, host = functional.batch_norm(values, weights, mask=keep, activation="relu")
        assert isinstance(y, torch.Tensor)
        assert y.dtype == x.dtype
        assert_array_equal(y.numpy(), expected)
        gradients = functional.batch_norm_backward(
            dy, x, moments, gamma, mask=mask, activation="relu"
        )
        expected_gradients = functional.batch_norm_backward(
            upstream, values, host, weights, mask=keep, activation="relu"
        )
        for found, each in zip(gradients, expected_gradients, strict=True):
            assert isinstance(found, torch.Tensor)
            assert_allclose(found.numpy(), each, rtol=1e-13, atol=1e-15)
        out = torch.full_like(x, 7.0)
        options = {"mask": mask, "activation": "relu", "out": out}
        assert functional.batch_norm(x, gamma, **options)[0] is out
        assert_array_equal(out.numpy(), expected)

        bn = nc.BatchNorm(3)
        assert isinstance(bn(x), torch.Tensor)
        assert all(isinstance(each, torch.Tensor) for each in bn.backward(dy))
        assert isinstance(bn.running_mean, np.ndarray)
        assert isinstance(bn.eval()(x), torch.Tensor)
        assert all(isinstance(each, torch.Tensor) for each in bn.backward(dy))
        in_place = x.clone()
        bn(in_place, out=in_place)
        with pytest.raises(RuntimeError, match="overwrote"):
            bn.backward(dy)
