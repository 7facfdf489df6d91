"""Parts of a batch, and batch renormalization: each against its definition in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from batchnorm_examples import (
    CLOSE,
    EPS,
    assert_gradients,
    assert_same_state,
    parameters,
    state,
)
from numpy.testing import assert_allclose, assert_array_equal

from normcore import BatchNorm

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
    torch = pytest.importorskip("torch")
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
