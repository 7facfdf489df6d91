"""The modes of the BatchNorm layer: each against PyTorch, by hand, or its definition in NumPy."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from batchnorm_examples import (
    CLOSE,
    assert_gradients,
    assert_same_state,
    parameters,
    state,
)
from numpy.testing import assert_allclose, assert_array_equal

from normcore import BatchNorm, functional

# -- running statistics ----------------------------------------------------------------------


def test_decay_is_the_weight_of_the_old_value(on):
    # means 2 and 6; unbiased variances 2 and 8
    bn = on.BatchNorm(1, decay=0.75)
    bn(np.array([[1.0], [3.0]]))
    bn(np.array([[4.0], [8.0]]))
    assert_array_equal(bn.running_mean, [0.25 * 6 + 0.75 * 0.5])
    assert_array_equal(bn.running_var, [0.25 * 8 + 0.75 * 1.25])
    assert (bn.momentum, bn.decay) == (0.25, 0.75)
    assert on.BatchNorm(1).decay == 0.9
    assert on.BatchNorm(1, momentum=None).decay is None
    assert type(on.BatchNorm(1).momentum) is float


@pytest.mark.parametrize("momentum", [0.1, 0.2, None])
def test_momentum_and_decay_are_an_error(momentum):
    with pytest.raises(ValueError, match=r"momentum=.* decay=0\.9"):
        BatchNorm(1, momentum=momentum, decay=0.9)


def test_ddof_of_the_stored_variance(on):
    x = np.array([[1.0], [3.0]])
    bn = on.BatchNorm(1, momentum=1.0, ddof=0)
    bn(x)
    assert_array_equal(bn.running_var, [1.0])
    assert_array_equal(on.BatchNorm(1, ddof=0)(x), on.BatchNorm(1)(x))


def test_update_stats_false(on, rng):
    x, dy = rng.normal(size=(2, 6, 3))
    bn, other = on.BatchNorm(3), on.BatchNorm(3)
    before = state(bn)
    assert_array_equal(bn(x, update_stats=False), other(x))
    assert_same_state(bn, before)
    assert_array_equal(bn.backward(dy)[0], other.backward(dy)[0])


def test_freeze_survives_train(on, rng):
    x, dy = rng.normal(size=(2, 6, 3))
    bn = parameters(on.BatchNorm(3), rng)
    bn(x * 2 + 1)
    frozen = copy.copy(bn)
    assert frozen.freeze() is frozen
    assert frozen.train().training
    before = state(frozen)
    assert_array_equal(frozen(x), bn.eval()(x))
    assert_same_state(frozen, before)
    for found, expected in zip(frozen.backward(dy), bn.backward(dy), strict=True):
        assert_array_equal(found, expected)
    assert frozen.unfreeze() is frozen
    frozen(x)
    assert frozen.num_batches_tracked == 2
    with pytest.raises(ValueError, match="track_running_stats=False"):
        on.BatchNorm(3, track_running_stats=False).freeze()


# -- parameters and activation -----------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False, "gamma", "beta"])
def test_affine(on, rng, affine):
    x, dy = rng.normal(size=(2, 4, 3))
    bn = parameters(on.BatchNorm(3, affine=affine), rng)
    assert (bn.gamma is not None, bn.beta is not None) == (
        affine in (True, "gamma"),
        affine in (True, "beta"),
    )
    expected, moments = on.batch_norm(x, bn.gamma, bn.beta)
    assert_array_equal(bn(x), expected)
    assert_array_equal(
        bn.backward(dy)[0], on.batch_norm_backward(dy, x, moments, bn.gamma, bn.beta)[0]
    )
    assert f"affine={affine!r}" in repr(bn)
    for name in ("gamma", "beta"):
        if getattr(bn, name) is None:
            with pytest.raises(ValueError, match=f"no {name} with affine={affine!r}"):
                setattr(bn, name, np.ones(3))


@pytest.mark.parametrize("affine", [True, False, "gamma", "beta"])
def test_gradients_of_parameters(rng, affine):
    x, dy = rng.normal(size=(2, 6, 3))
    assert_gradients(parameters(BatchNorm(3, affine=affine), rng), x, dy)


@pytest.mark.parametrize("training", [True, False])
def test_relu_equals_pytorch(on, rng, training):
    torch = pytest.importorskip("torch")
    x, dy = rng.normal(size=(2, 6, 3, 4))
    bn = parameters(on.BatchNorm(3, activation="relu"), rng).train(training)
    bn.running_mean, bn.running_var = rng.normal(size=3), rng.random(3) + 0.5
    theirs = torch.nn.BatchNorm1d(3, dtype=torch.float64).train(training)
    for name, value in zip(("weight", "bias", "running_mean", "running_var"), state(bn)[:4],
                           strict=True):  # fmt: skip
        getattr(theirs, name).data.copy_(torch.from_numpy(value))
    leaf = torch.from_numpy(x).requires_grad_()
    expected = torch.relu(theirs(leaf))
    expected.backward(torch.from_numpy(dy))
    assert_allclose(bn(x), expected.detach().numpy(), **CLOSE)
    gradients = leaf.grad, theirs.weight.grad, theirs.bias.grad
    for found, gradient in zip(bn.backward(dy), gradients, strict=True):
        assert_allclose(found, gradient.numpy(), **CLOSE)
    assert_allclose(bn.running_var, theirs.running_var.numpy(), **CLOSE)


# -- batches with one value or none --------------------------------------------------------------


@pytest.mark.parametrize("ddof", [0, 1])
def test_single_values_skipped(on, rng, ddof):
    bn = parameters(on.BatchNorm(3, single="skip", ddof=ddof), rng)
    bn(rng.normal(size=(5, 3)))
    before = state(bn)
    x, dy = rng.normal(size=(2, 1, 3))
    assert_array_equal(bn(x), bn.beta[None])
    assert_same_state(bn, before)
    dx, dgamma, dbeta = bn.backward(dy)
    assert_array_equal(dx, np.zeros((1, 3)))
    assert_array_equal(dgamma, np.zeros(3))
    assert_array_equal(dbeta, dy[0])


def test_single_values_by_running_statistics(on, rng):
    bn = parameters(on.BatchNorm(3, single="running"), rng)
    bn(rng.normal(size=(5, 3)))
    before = state(bn)
    x, dy = rng.normal(size=(2, 1, 3))
    y = bn(x)
    assert_same_state(bn, before)
    gradients = bn.backward(dy)
    assert_array_equal(y, bn.eval()(x))
    for found, expected in zip(gradients, bn.backward(dy), strict=True):
        assert_array_equal(found, expected)


@pytest.mark.parametrize("single", ["error", "skip", "running"])
def test_a_mask_that_leaves_nothing_is_an_error(on, single):
    bn = on.BatchNorm(3, single=single)
    before = state(bn)
    if on.name == "cupy":  # nothing waits for a device to say so
        assert_array_equal(bn(np.ones((4, 3)), mask=np.zeros(4, bool)), np.zeros((4, 3)))
        assert_array_equal([bn.running_mean, bn.running_var], before[2:4])
        return
    with pytest.raises(ValueError, match="under the mask"):
        bn(np.ones((4, 3)), mask=np.zeros(4, bool))
    assert_same_state(bn, before)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)])
@pytest.mark.parametrize(
    "options", [{}, {"virtual_batch_size": 2}, {"r_max": 2.0, "d_max": 1.0}, {"affine": False}]
)
def test_empty_batches(on, shape, options):
    bn = on.BatchNorm(3, momentum=None, **options)
    bn(np.arange(12.0).reshape(4, 3) ** 2)
    before = state(bn)
    x = np.empty(shape, np.float32)
    y = bn(x)
    assert (y.shape, y.dtype) == (shape, np.float32)
    assert_same_state(bn, before)
    dx, dgamma, dbeta = bn.backward(x)
    assert (dx.shape, dx.dtype) == (shape, np.float32)
    if bn.affine:
        assert_array_equal(dgamma, np.zeros(3))
        assert_array_equal(dbeta, np.zeros(3))


def test_empty_batches_of_the_stateless_face_and_of_pytorch():
    torch = pytest.importorskip("torch")
    import normcore.torch as nt

    x = np.empty((0, 3))
    y, moments = functional.batch_norm(x)
    assert y.shape == (0, 3)
    assert_array_equal(moments.count, np.zeros(3))
    for each in functional.batch_norm_backward(x, x, moments)[1:]:
        assert_array_equal(each, np.zeros(3))
    layer = nt.BatchNorm1d(3)
    assert layer(torch.empty(0, 3)).shape == (0, 3)
    assert_array_equal(layer.running_mean.numpy(), np.zeros(3))
    assert layer.num_batches_tracked == 1  # as PyTorch counts


# -- bad options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"decay": 1.5}, ValueError, "decay"),
        ({"decay": "0.9"}, TypeError, "decay"),
        ({"ddof": 2}, ValueError, "ddof"),
        ({"affine": "delta"}, ValueError, "affine"),
        ({"activation": "gelu"}, ValueError, "activation"),
        ({"single": "ignore"}, ValueError, "single"),
        ({"virtual_batch_size": 0}, ValueError, "virtual_batch_size"),
        ({"virtual_batch_size": 1.5}, TypeError, "virtual_batch_size"),
        ({"r_max": 0.5, "d_max": 1.0}, ValueError, "r_max must be at least 1"),
        ({"r_max": float("nan"), "d_max": 1.0}, ValueError, "r_max"),
        ({"r_max": 1.0, "d_max": -1.0}, ValueError, "d_max must be at least 0"),
        ({"r_max": "3", "d_max": 1.0}, TypeError, "r_max"),
        ({"r_max": 3.0}, ValueError, "go together"),
        ({"d_max": 3.0}, ValueError, "go together"),
        ({"r_max": 3, "d_max": 5, "track_running_stats": False}, ValueError, "renormalization"),
        ({"single": "running", "track_running_stats": False}, ValueError, "single='running'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        BatchNorm(3, **options)


def test_options_travel():
    bn = BatchNorm(3, decay=0.75, ddof=0, activation="relu", single="skip", virtual_batch_size=4,
                   r_max=3.0, d_max=5.0).freeze()  # fmt: skip
    copies = pickle.loads(pickle.dumps(bn)), copy.copy(bn), copy.deepcopy(bn)
    assert all(each.frozen for each in copies)
    for other in (eval(repr(bn)), *copies):
        assert repr(other) == repr(bn)
        assert (other.momentum, other.r_max, other.single) == (0.25, 3.0, "skip")
