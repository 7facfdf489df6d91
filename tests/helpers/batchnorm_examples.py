"""What tests of the BatchNorm layer share: its state, and gradients by central differences."""

from __future__ import annotations

import copy

import numpy as np
from central_differences import central_differences
from numpy.testing import assert_allclose, assert_array_equal

EPS = 1e-5
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


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
