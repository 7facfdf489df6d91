"""The modes of the BatchNorm layer: each against PyTorch, by hand, or its definition in NumPy."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from normcore import BatchNorm, functional

EPS = 1e-5
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def state(bn):
    arrays = (bn.gamma, bn.beta, bn.running_mean, bn.running_var)
    kept = [None if each is None else each.copy() for each in arrays]
    return [*kept, bn.num_batches_tracked, bn.training, bn.frozen]


def assert_same_state(bn, before):
    for found, expected in zip(state(bn), before, strict=True):
        assert_array_equal(found, expected)


def parameters(bn, rng):
    for name in ("gamma", "beta"):
        if getattr(bn, name) is not None:
            setattr(bn, name, rng.normal(size=bn.num_features))
    return bn


def central_differences(loss, x, step=1e-5):
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * step
            ends.append(loss(moved))
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def assert_gradients(bn, x, dy, **call):
    """Compare with central differences; running statistics do not move meanwhile."""
    call = {**call, "update_stats": False}
    bn(x, **call)
    dx, dgamma, dbeta = bn.backward(dy)
    moving = {"x": (x, dx), "gamma": (bn.gamma, dgamma), "beta": (bn.beta, dbeta)}
    for name, (value, gradient) in moving.items():
        if value is None:
            assert gradient is None
            continue

        def loss(moved, name=name):
            other = copy.copy(bn)
            if name != "x":
                setattr(other, name, moved)
            return float(np.sum(dy * other(moved if name == "x" else x, **call)))

        expected = central_differences(loss, value)
        assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7, err_msg=name)


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
    assert layer.num_batches_tracked == 0


# -- virtual batches and groups ------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "shape"), [(1, (7, 3)), (1, (7, 3, 4)), (-1, (7, 2, 2, 3)),
                                             (0, (3, 7, 2))])  # fmt: skip
@pytest.mark.parametrize(("masked", "given_out"), [(False, True), (True, False)])
@pytest.mark.parametrize("kind", ["virtual", "labels", "slices"])
def test_parts_are_batches_of_their_own(on, rng, axis, shape, masked, given_out, kind):
    x, dy = rng.normal(size=(2, *shape))
    samples = 1 if axis == 0 else 0
    mask = None
    if masked:
        mask = np.ones([n for i, n in enumerate(shape) if i != axis % len(shape)], bool)
        mask[0] = False
    options, call = {"axis": axis, "activation": "relu"}, {}
    parts = [[0, 2, 3, 6], [1, 4, 5]]
    if kind == "virtual":
        options["virtual_batch_size"], parts = 4, [[0, 1, 2], [3, 4, 5, 6]]
    elif kind == "labels":
        call["groups"] = np.array(["a", "b", "a", "a", "b", "b", "a"])
    else:
        call["groups"], parts = [slice(1, None, 2), slice(0, None, 2)], [[1, 3, 5], [0, 2, 4, 6]]
    bn = parameters(on.BatchNorm(3, **options), rng)
    plain = on.BatchNorm(3, axis=axis, activation="relu")
    plain.gamma, plain.beta = bn.gamma, bn.beta
    out, dx = (np.empty(shape), np.empty(shape)) if given_out else (None, None)
    y = bn(x, out, mask=mask, **call)
    gradients = bn.backward(dy, dx)
    if given_out:
        assert y is out
        assert gradients[0] is dx
    sums = np.zeros((2, 3))
    for part in parts:
        chosen = (slice(None),) * samples + (part,)
        expected = plain(x[chosen], mask=None if mask is None else mask[part])
        assert_allclose(y[chosen], expected, **CLOSE)
        found = plain.backward(dy[chosen])
        assert_allclose(gradients[0][chosen], found[0], **CLOSE)
        sums += found[1:]
    assert_allclose(gradients[1:], sums, **CLOSE)
    assert_allclose(bn.running_mean, plain.running_mean, **CLOSE)
    assert_allclose(bn.running_var, plain.running_var, **CLOSE)
    assert bn.num_batches_tracked == plain.num_batches_tracked == 2
    again = x.copy()
    assert_array_equal(bn(again, again, mask=mask, update_stats=False, **call), y)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        bn.backward(dy)


def test_gradients_of_parts(rng):
    x, dy = rng.normal(size=(2, 6, 2))
    bn = parameters(BatchNorm(2, eps=1e-2, virtual_batch_size=3), rng)
    assert_gradients(bn, x, dy)
    assert_gradients(parameters(BatchNorm(2, eps=1e-2), rng), x, dy, groups=[1, 0, 1, 0, 0, 1])


def test_parts_in_evaluation_are_one_batch(on, rng):
    x = rng.normal(size=(6, 3))
    bn = on.BatchNorm(3).eval()
    expected = bn(x)
    assert_array_equal(bn(x, groups=[0, 1, 0, 1, 0, 2]), expected)
    assert_array_equal(on.BatchNorm(3, virtual_batch_size=2).eval()(x), expected)
    assert_array_equal(on.BatchNorm(3).freeze()(x, groups=[0, 1, 0, 1, 0, 2]), expected)


def test_a_group_of_one_sample(on, rng):
    x, groups = rng.normal(size=(5, 3)), [0, 0, 1, 0, 0]
    bn = on.BatchNorm(3)
    before, out = state(bn), np.full((5, 3), 7.0)
    with pytest.raises(ValueError, match="at least 2 values"):
        bn(x, out, groups=groups)
    assert_same_state(bn, before)
    assert_array_equal(out, 7.0)
    bn = on.BatchNorm(3, single="skip", momentum=1.0)
    y = bn(x, groups=groups)
    rest = [0, 1, 3, 4]
    assert_array_equal(y[2], np.zeros(3))
    assert_allclose(y[rest], on.BatchNorm(3)(x[rest]), **CLOSE)
    assert bn.num_batches_tracked == 1
    assert_allclose(bn.running_mean, x[rest].mean(0), **CLOSE)
    bn = on.BatchNorm(3, single="running")
    assert_allclose(bn(x, groups=groups)[2], x[2] / np.sqrt(1 + EPS), **CLOSE)
    assert_allclose(bn.backward(x)[0][2], x[2] / np.sqrt(1 + EPS), **CLOSE)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ([0, 1, 0], ValueError, r"shape \(3,\); expected \(6,\)"),
        ([[0], [1]], ValueError, "groups has shape"),
        ([slice(0, 3), slice(2, 6)], ValueError, "sample 2 2 times"),
        ([slice(0, 3)], ValueError, "sample 3 0 times"),
        ([slice(0, 3), 1], TypeError, "slices alone"),
    ],
)
def test_bad_groups(on, rng, groups, error, message):
    bn = on.BatchNorm(3)
    before = state(bn)
    with pytest.raises(error, match=message):
        bn(rng.normal(size=(6, 3)), groups=groups)
    assert_same_state(bn, before)
    with pytest.raises(ValueError, match="virtual_batch_size"):
        on.BatchNorm(3, virtual_batch_size=3)(np.ones((6, 3)), groups=[0] * 6)


def test_parts_refuse_an_out_that_overlaps_in_part(rng):
    buffer = rng.normal(size=(7, 3))
    bn, before = BatchNorm(3, virtual_batch_size=3), buffer.copy()
    with pytest.raises(ValueError, match="overlaps the input in part"):
        bn(buffer[:-1], buffer[1:])
    assert_array_equal(buffer, before)
    assert bn.num_batches_tracked == 0


# -- batch renormalization -----------------------------------------------------------------------


def renormalized(x, mean, var, gamma, beta, r_max, d_max):
    """Algorithm 1 of the paper, where torch's gradient stops at r and d."""
    mean_b, var_b = x.mean(0), x.var(0, correction=0)
    scale_b, scale = (var_b + EPS).sqrt(), (var + EPS).sqrt()
    r = (scale_b / scale).clip(1 / r_max, r_max).detach()
    d = ((mean_b - mean) / scale).clip(-d_max, d_max).detach()
    return ((x - mean_b) / scale_b * r + d) * gamma + beta


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("r_max", "d_max"), [(1, 0), (1.1, 0.2), (3, 5), (float("inf"), 1e9)])
def test_renormalization(on, rng, r_max, d_max, relu):
    x, dy = rng.normal(size=(2, 6, 3))
    x = x * [0.5, 1.0, 4.0] + [0.1, 1.0, -3.0]
    bn = on.BatchNorm(3, r_max=r_max, d_max=d_max, activation="relu" if relu else None)
    parameters(bn, rng)
    bn.running_mean, bn.running_var = rng.normal(size=3), rng.random(3) + 0.5
    mean, var = bn.running_mean.copy(), bn.running_var.copy()
    given = mean, var, bn.gamma, bn.beta
    leaves = [torch.from_numpy(each).requires_grad_() for each in (x, bn.gamma, bn.beta)]
    expected = renormalized(
        leaves[0], *map(torch.from_numpy, (mean, var)), *leaves[1:], r_max, d_max
    )
    expected = expected.relu() if relu else expected
    expected.backward(torch.from_numpy(dy))
    y = bn(x)
    assert_allclose(y, expected.detach().numpy(), **CLOSE)
    gradients = bn.backward(dy)
    for found, leaf in zip(gradients, leaves, strict=True):
        assert_allclose(found, leaf.grad.numpy(), rtol=1e-11, atol=1e-11)
    assert_allclose(bn.running_mean, 0.9 * mean + 0.1 * x.mean(0), **CLOSE)
    options = {"r_max": r_max, "d_max": d_max, "activation": bn.activation}
    again, moments = on.batch_renorm(x, *given, **options)
    assert_array_equal(again, y)
    backward = on.batch_renorm_backward(dy, x, moments, *given, **options)
    for found, before in zip(backward, gradients, strict=True):
        assert_array_equal(found, before)
    if r_max == 1:
        assert_allclose(y, _plain(on, bn)(x), **CLOSE)
    if r_max > 3 and not relu:  # nothing is clipped: the running statistics normalize
        assert_allclose(y, on.batch_norm_inference(x, *given), rtol=1e-9, atol=1e-9)


def _plain(on, bn):
    plain = on.BatchNorm(bn.num_features, activation=bn.activation)
    plain.gamma, plain.beta = bn.gamma, bn.beta
    return plain


def test_renormalization_of_parts_in_evaluation_and_relaxed(on, rng):
    x, dy = rng.normal(size=(2, 6, 3))
    bn = on.BatchNorm(3, r_max=1.5, d_max=0.5, virtual_batch_size=3)
    y = bn(x)
    other = on.BatchNorm(3, r_max=1.5, d_max=0.5)
    assert_allclose(y[:3], other(x[:3], update_stats=False), **CLOSE)
    assert_allclose(bn.backward(dy)[0][:3], other.backward(dy[:3])[0], **CLOSE)
    expected = on.batch_norm_inference(x, bn.running_mean, bn.running_var)
    assert_array_equal(bn.eval()(x), expected)
    assert_allclose(bn.backward(dy)[0], dy / np.sqrt(bn.running_var + EPS), **CLOSE)
    bn.r_max, bn.d_max = 3, 5
    assert (bn.r_max, bn.d_max) == (3.0, 5.0)
    for name, value in (("r_max", 0.9), ("d_max", -1)):
        with pytest.raises(ValueError, match=name):
            setattr(bn, name, value)
        with pytest.raises(ValueError, match=f"no {name}"):
            setattr(on.BatchNorm(3), name, 3.0)
    assert (bn.r_max, bn.d_max) == (3.0, 5.0)


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
