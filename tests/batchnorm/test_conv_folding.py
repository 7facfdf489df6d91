"""Batch norm folded into the map beside it, against PyTorch's layers one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from normcore.functional import fold_batch_norm

pytest.importorskip("torch")
import torch


def example(channels, dtype):
    rng = np.random.default_rng(0)
    return [rng.normal(size=channels), rng.random(channels) + 0.5,
            *rng.normal(size=(2, channels))], rng.normal, dtype  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(("groups", "kernel"), [(1, ()), (1, (3, 2)), (2, (3, 2)), (4, (1, 1))])
@pytest.mark.parametrize("biased", [True, False])
def test_folded_equals_pytorch(where, groups, kernel, biased, dtype, tolerance):
    vectors, normal, _ = example(4 if where == "before" else 8, dtype)
    weight = normal(size=(8, 4 // groups, *kernel)).astype(dtype)
    bias = normal(size=8).astype(dtype) if biased else None
    x = torch.from_numpy(normal(size=(5, 4, *(6 for _ in kernel))).astype(dtype))

    def linear(x, weight, bias):
        given = torch.from_numpy(weight), None if bias is None else torch.from_numpy(bias)
        if not kernel:
            return torch.nn.functional.linear(x, *given)
        return torch.nn.functional.conv2d(x, *given, groups=groups)

    def norm(x):
        mean, var, gamma, beta = (torch.from_numpy(each.astype(dtype)) for each in vectors)
        return torch.nn.functional.batch_norm(x, mean, var, gamma, beta, eps=1e-3)

    expected = linear(norm(x), weight, bias) if where == "before" else norm(linear(x, weight, bias))
    options = {"where": where, "eps": 1e-3, "groups": groups, "padding": 0}
    folded = fold_batch_norm(weight, bias, *vectors, **options)
    assert folded[0].dtype == folded[1].dtype == dtype
    assert_allclose(linear(x, *folded).numpy(), expected.numpy(), rtol=tolerance, atol=tolerance)
    if not kernel:
        turned = fold_batch_norm(weight.T, bias, *vectors, **options, output_axis=1, input_axis=0)
        assert_allclose(turned[0].T, folded[0], rtol=0)
        assert_allclose(turned[1], folded[1], rtol=tolerance)


def test_folded_weights_are_of_the_kind_of_the_weights(on):
    vectors, normal, _ = example(3, np.float32)
    weight, bias = normal(size=(3, 4)).astype(np.float32), normal(size=3)
    expected = fold_batch_norm(weight, bias, *vectors, where="after")
    found = on.fold_batch_norm(weight, bias, *vectors, where="after")  # of the kind: on says so
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype == np.float32
        assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"where": "inside"}, ValueError, "where"),
        ({"var": [1, -1, 1]}, ValueError, "var is negative in channel 1"),
        ({"mean": np.zeros(2)}, ValueError, "mean must have shape"),
        ({"bias": np.zeros(3)}, ValueError, "bias must have shape"),
        ({"weight": np.ones((2, 3), int)}, TypeError, "weight"),
        ({"weight": np.ones(3)}, ValueError, "weight"),
        ({"weight": np.ones((2, 3, 1))}, ValueError, "padding=0"),
        ({"weight": np.ones((2, 3, 1)), "padding": 1}, ValueError, "padding is 1"),
        ({"groups": 3}, ValueError, "groups=3"),
        ({"eps": -1e-5}, ValueError, "eps"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"weight": np.ones((2, 3)), "bias": None, "mean": np.zeros(3), "var": np.ones(3)}
    with pytest.raises(error, match=message):
        fold_batch_norm(**{"where": "before", **arguments, **change})
