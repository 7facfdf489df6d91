"""Groups and virtual batches in the functions of batch norm: each part as a batch of its own."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import functional

PARTS = {
    "virtual": ({"virtual_batch_size": 3}, [[0, 1], [2, 3, 4], [5, 6, 7]]),
    "labels": ({"groups": np.array([2, 1, 1, 2, 2, 1, 1, 2])}, [[1, 2, 5, 6], [0, 3, 4, 7]]),
    "slices": ({"groups": (slice(1, None, 2), slice(0, 8, 2))}, [[1, 3, 5, 7], [0, 2, 4, 6]]),
}
RENORM = {"r_max": 1.5, "d_max": 0.5}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("renorm", [False, True])
def test_parts_are_batches_of_their_own(on, kind, renorm):
    options, parts = PARTS[kind]
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 8, 3, 2))
    gamma, beta = rng.normal(size=(2, 3))
    mask = rng.random((8, 2)) < 0.8
    given = (rng.normal(size=3), rng.random(3) + 0.5) if renorm else ()
    both = {"activation": "relu", "eps": 1e-3, **(RENORM if renorm else {})}
    forward = on.batch_renorm if renorm else on.batch_norm
    backward = on.batch_renorm_backward if renorm else on.batch_norm_backward
    out = np.empty_like(x)
    y, moments = forward(x, *given, gamma, beta, mask=mask, out=out, **both, **options)
    assert y is out
    arguments = dy, x, moments, *given, gamma, beta
    dx, dgamma, dbeta = backward(*arguments, mask=mask, **both, **options)
    sums = np.zeros((2, 3))
    for part, found in zip(parts, moments, strict=True):
        some = {**both, "mask": mask[part]}
        expected, own = forward(x[part], *given, gamma, beta, **some)
        assert_allclose(y[part], expected, rtol=1e-12, atol=1e-12)
        assert_array_equal(found.count, own.count)
        assert_allclose(found.mean, own.mean, rtol=1e-14)
        gradients = backward(dy[part], x[part], own, *given, gamma, beta, **some)
        assert_allclose(dx[part], gradients[0], rtol=1e-12, atol=1e-12)
        sums += gradients[1:]
    assert_allclose([dgamma, dbeta], sums, rtol=1e-12, atol=1e-12)


def test_moments_of_parts_move_running_statistics_as_a_layer_does():
    x = np.random.default_rng(1).normal(size=(7, 2))
    layer = nc.BatchNorm(2, virtual_batch_size=4)
    layer(x)
    mean, var = np.zeros(2), np.ones(2)
    for moments in functional.batch_norm(x, virtual_batch_size=4)[1]:
        mean, var = moments.running(mean, var, 0.1)
    assert_array_equal(mean, layer.running_mean)
    assert_array_equal(var, layer.running_var)


def test_one_part_is_the_batch():
    x = np.random.default_rng(2).normal(size=(7, 2))
    expected, moments = functional.batch_norm(x)
    for options in ({"virtual_batch_size": 7}, {"groups": np.zeros(7)}, {"groups": [slice(None)]}):
        y, (own,) = functional.batch_norm(x, **options)
        assert_array_equal(y, expected)
        assert own == moments


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 0]])
def test_single_values_that_are_skipped(on, groups):
    x, dy = np.random.default_rng(6).normal(size=(2, 4 if groups else 1, 2))
    gamma, beta = np.array([2.0, -1.0]), np.array([0.5, 1.5])
    y, moments = on.batch_norm(x, gamma, beta, groups=groups, single="skip")
    dx, dgamma, dbeta = on.batch_norm_backward(dy, x, moments, gamma, beta, groups=groups)
    alone = 2 if groups else 0
    assert_array_equal(y[alone], beta)
    assert_array_equal(dx[alone], [0, 0])
    assert_allclose(dbeta, dy.sum(axis=0), rtol=1e-14)
    if groups is None:
        assert_array_equal(dgamma, [0, 0])
        for found, before in zip(moments.running([1.0, 2.0], [3.0, 4.0], 0.1),
                                 ([1.0, 2.0], [3.0, 4.0]), strict=True):  # fmt: skip
            assert_array_equal(found, before)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0)])
@pytest.mark.parametrize("kind", PARTS)
def test_empty_batches(on, shape, kind):
    options = dict(PARTS[kind][0])
    if kind != "virtual":
        options["groups"] = np.zeros(shape[0]) if kind == "labels" else (slice(None),)
    x = np.empty(shape, np.float32)
    y, moments = on.batch_norm(x, **options)
    assert (y.shape, y.dtype) == (shape, np.float32)
    dx, dgamma, dbeta = on.batch_norm_backward(x, x, moments, **options)
    assert dx.shape == shape
    assert_array_equal([dgamma, dbeta], np.zeros((2, 3)))


def test_groups_do_not_matter_to_given_statistics():
    x, dy = np.random.default_rng(3).normal(size=(2, 6, 2))
    moments = nc.Moments.of(1, [0.5, 1.0], [1.0, 2.0])
    plain = functional.batch_norm_backward(dy, x, moments, training=False)
    found = functional.batch_norm_backward(dy, x, moments, training=False, virtual_batch_size=2)
    for one, other in zip(found, plain, strict=True):
        assert_array_equal(one, other)


class Alone:
    rank, size = 0, 1

    def allreduce(self, array):
        return array


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"groups": [0, 1, 0]}, ValueError, r"groups has shape \(3,\); expected \(6,\)"),
        ({"groups": [0, 0, 0, 0, 0, 1]}, ValueError, "at least 2 values"),
        ({"virtual_batch_size": 1}, ValueError, "at least 2 values"),
        ({"mask": np.zeros(6, bool), "single": "skip"}, ValueError, "under the mask"),
        ({"single": "running"}, ValueError, "single must be one of 'error', 'skip'"),
        ({"single": "skip", "communicator": Alone()}, ValueError, "of the batch of one process"),
        ({"virtual_batch_size": 0}, ValueError, "virtual_batch_size must be positive"),
        ({"virtual_batch_size": 2.0}, TypeError, "virtual_batch_size must be an integer"),
        ({"groups": [0] * 6, "virtual_batch_size": 3}, ValueError, "use one of them"),
        ({"groups": [0] * 6, "communicator": Alone()}, ValueError, "groups split"),
        ({"virtual_batch_size": 3, "communicator": Alone()}, ValueError, "virtual_batch_size spl"),
    ],
)
def test_bad_parts(options, error, message):
    x = np.random.default_rng(4).normal(size=(6, 2))
    out = np.full_like(x, -725.0)
    with pytest.raises(error, match=message):
        functional.batch_norm(x, out=out, **options)
    assert_array_equal(out, -725.0)


def test_moments_of_other_parts():
    x = np.random.default_rng(5).normal(size=(6, 2))
    _, parts = functional.batch_norm(x, virtual_batch_size=3)
    for moments, message in [
        (parts[0], "one for each of the 2 parts of the batch, not Moments"),
        (parts[:1], "2 parts of the batch, not list of 1"),
        ([parts[0], None], None),
    ]:
        with pytest.raises(TypeError if message is None else ValueError, match=message):
            functional.batch_norm_backward(x, x, moments, virtual_batch_size=3)
    with pytest.raises(TypeError, match="moments must be Moments, not list"):
        functional.batch_norm_backward(x, x, parts)
