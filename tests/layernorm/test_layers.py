"""LayerNorm, RMSNorm, GroupNorm and InstanceNorm as layers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc

SHAPE = (3, 6, 4, 5)


def example(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE) * 2.0 + 1.0


def layers():
    return [
        nc.LayerNorm(5), nc.LayerNorm((4, 5), eps=1e-3), nc.LayerNorm([6, 4, 5], bias=False),
        nc.LayerNorm(5, affine=False), nc.RMSNorm((4, 5)), nc.RMSNorm(5, affine=False),
        nc.GroupNorm(3, 6), nc.GroupNorm(1, 5, axis=-1, eps=1e-3), nc.GroupNorm(6, 6, affine=False),
        nc.InstanceNorm(6), nc.InstanceNorm(6, affine=True),
        nc.InstanceNorm(6, affine=True, track_running_stats=True),
        nc.InstanceNorm(6, track_running_stats=True, momentum=0.7),
    ]  # fmt: skip


LAYERS = range(len(layers()))


def with_parameters(layer, seed=3):
    rng = np.random.default_rng(seed)
    if layer.affine:
        layer.gamma = rng.normal(size=layer.gamma.shape)
    if layer.bias:
        layer.beta = rng.normal(size=layer.beta.shape)
    return layer


def twin(layer):
    """Return PyTorch's layer of the same name, in float64, with the same parameters."""
    torch = pytest.importorskip("torch")
    options = {"eps": layer.eps, "dtype": torch.float64}
    name = type(layer).__name__
    if name == "LayerNorm":
        made = torch.nn.LayerNorm(layer.normalized_shape, elementwise_affine=layer.affine,
                                  bias=layer.bias, **options)  # fmt: skip
    elif name == "RMSNorm":
        made = torch.nn.RMSNorm(layer.normalized_shape, elementwise_affine=layer.affine, **options)
    elif name == "GroupNorm":
        made = torch.nn.GroupNorm(layer.num_groups, layer.num_channels, affine=layer.affine,
                                  **options)  # fmt: skip
    else:
        made = torch.nn.InstanceNorm2d(
            layer.num_features, affine=layer.affine, momentum=layer.momentum,
            track_running_stats=layer.track_running_stats, **options,
        )  # fmt: skip
    with torch.no_grad():
        for mine, theirs in (("gamma", "weight"), ("beta", "bias")):
            if getattr(layer, mine) is not None:
                getattr(made, theirs).copy_(torch.from_numpy(getattr(layer, mine)))
    return made


@pytest.mark.parametrize("which", LAYERS)
def test_agreement_with_torch(backend, which):
    torch = pytest.importorskip("torch")
    layer = with_parameters(layers()[which])
    theirs = twin(layer)
    axis = getattr(layer, "axis", 1)
    for step in range(3):
        training = step < 2
        if isinstance(layer, nc.InstanceNorm):
            layer.train(training)
        theirs.train(training)
        x, dy = example(step), example(step + 10)
        y, found = layer(x), layer.backward(dy)
        tensor = torch.tensor(x, requires_grad=True)
        theirs.zero_grad()
        result = theirs(tensor.movedim(axis, 1)).movedim(1, axis)
        result.backward(torch.tensor(dy))
        assert_allclose(y, result.detach().numpy(), rtol=1e-12, atol=1e-12)
        expected = tensor, theirs.weight, getattr(theirs, "bias", None)
        for one, other in zip(found, expected, strict=False):
            assert (one is None) == (other is None)
            if one is not None:
                assert_allclose(one, other.grad.numpy(), rtol=1e-12, atol=1e-12)
    if getattr(layer, "track_running_stats", False):
        assert_allclose(layer.running_mean, theirs.running_mean.numpy(), rtol=1e-12)
        assert_allclose(layer.running_var, theirs.running_var.numpy(), rtol=1e-12)
        assert layer.num_batches_tracked == 2


@pytest.mark.parametrize("which", LAYERS)
def test_forward_and_backward_may_be_in_place(which):
    layer = with_parameters(layers()[which])
    x, dy = example(), example(1)
    y = layer(x)
    dx = layer.backward(dy)[0]
    out = dy.copy()
    assert layer.backward(out, out=out)[0] is out
    assert_array_equal(out, dx)
    assert_array_equal(layer.backward(dy)[0], dx)  # dy was another array, the input is still there
    layer(x)
    layer.backward(dy, out=x)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        layer.backward(dy)
    x = example()
    assert layer(x, out=x) is x
    assert_array_equal(x, y)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        layer.backward(dy)


@pytest.mark.parametrize("which", LAYERS)
def test_bad_input_leaves_the_layer_as_it_was(which):
    layer = with_parameters(layers()[which])
    with pytest.raises(RuntimeError, match=f"forward pass of this {type(layer).__name__} first"):
        layer.backward(example())
    x, dy = example(), example(1)
    layer(x)
    state, dx = layer.__getstate__(), layer.backward(dy)[0]
    for bad, error in (
        (x[:, :5, :3, :3], ValueError), (x.astype(complex), TypeError), (x[0, 0, 0, 0], ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            layer(bad)
    for out, error in ((x.astype(np.float32), TypeError), (x[:1].copy(), ValueError)):
        with pytest.raises(error, match="out"):
            layer(x, out=out)
    for bad, error in ((dy.astype(np.float32), TypeError), (dy[:2], ValueError)):
        with pytest.raises(error, match="dy"):
            layer.backward(bad)
    for name, value in layer.__getstate__().items():
        assert_array_equal(value, state[name], name)
    assert_array_equal(layer.backward(dy)[0], dx)


@pytest.mark.parametrize("which", LAYERS)
def test_optimizers_and_pickles(which):
    layer = with_parameters(layers()[which])
    x, dy = example(), example(1)
    y = layer(x)
    assert type(layer).__module__ == "normcore"  # where pickles find it
    for other in (pickle.loads(pickle.dumps(layer)), copy.copy(layer), copy.deepcopy(layer)):
        assert type(other) is type(layer)
        assert repr(other) == repr(layer)
        with pytest.raises(RuntimeError, match="needs a forward pass"):
            other.backward(dy)
        assert_array_equal(other(x), y)
    dx = layer.backward(dy)[0]
    if layer.affine:
        layer.gamma *= 2.0  # after forward, as an optimizer does
        assert_array_equal(layer.backward(dy)[0], dx)
        with pytest.raises(ValueError, match="gamma must have shape"):
            layer.gamma = np.ones(layer.gamma.size + 1)
    else:
        with pytest.raises(ValueError, match=f"this {type(layer).__name__} was made without gamma"):
            layer.gamma = np.ones(5)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nc.LayerNorm(0), ValueError, "normalized_shape"),
        (lambda: nc.LayerNorm(()), ValueError, "normalized_shape"),
        (lambda: nc.LayerNorm(2.5), TypeError, "normalized_shape must be an integer"),
        (lambda: nc.RMSNorm(3, eps=-1.0), ValueError, "eps"),
        (lambda: nc.GroupNorm(4, 6), ValueError, "divide num_channels, got 4 and 6"),
        (lambda: nc.GroupNorm(0, 6), ValueError, "num_groups must be positive"),
        (lambda: nc.GroupNorm(1, 6, axis=0.5), TypeError, "axis must be an integer"),
        (lambda: nc.InstanceNorm(-1), ValueError, "num_features"),
        (lambda: nc.InstanceNorm(3, momentum=2.0), ValueError, "momentum"),
        (lambda: nc.InstanceNorm(3, momentum="a"), TypeError, "momentum"),
    ],
)
def test_bad_parameters(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_instance_norm_follows_no_variance_of_one_position():
    layer = nc.InstanceNorm(2, track_running_stats=True)
    layer(np.array([[[1.0], [3.0]], [[3.0], [5.0]]]))
    assert_allclose(layer.running_mean, [0.2, 0.4])
    assert_array_equal(layer.running_var, [1.0, 1.0])


def test_instance_norm_averages_all_batches():
    """PyTorch takes no momentum for 0 here, and follows nothing."""
    layer = nc.InstanceNorm(6, track_running_stats=True, momentum=None)
    batches = [example(seed) for seed in range(4)]
    for batch in batches:
        layer(batch)
    expected = np.concatenate(batches)
    assert_allclose(layer.running_mean, expected.mean(axis=(0, 2, 3)), rtol=1e-13)
    assert_allclose(layer.running_var, expected.var(axis=(2, 3), ddof=1).mean(0), rtol=1e-13)
    layer.reset_running_stats()
    assert_array_equal(layer.running_var, 1.0)
    assert layer.num_batches_tracked == 0


def test_running_statistics_of_instance_norm_are_checked():
    layer = nc.InstanceNorm(2, track_running_stats=True)
    with pytest.raises(ValueError, match="running_var is negative in channel 1"):
        layer.running_var = [1.0, -1.0]
    with pytest.raises(ValueError, match=r"running_mean must have shape \(2,\)"):
        layer.running_mean = [1.0]
    with pytest.raises(ValueError, match="no running_mean with track_running_stats=False"):
        nc.InstanceNorm(2).running_mean = [1.0, 2.0]
    assert nc.InstanceNorm(2).num_batches_tracked is None


@pytest.mark.parametrize("order", ["C", "F"])
def test_evaluation_of_instance_norm_in_place(order):
    layer = nc.InstanceNorm(6, track_running_stats=True)
    x = np.array(example(), order=order)
    layer(x)
    y = layer.eval()(x)
    assert_array_equal(layer(x, out=x), y)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        layer.backward(x)
