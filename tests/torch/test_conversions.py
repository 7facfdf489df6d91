"""Conversions of lazy, frozen, derived layers; functions beside torch.nn.functional's."""

from __future__ import annotations

import copy
import warnings

import pytest

pytest.importorskip("torch")
import torch
import torch.nn.functional as theirs
from torch import nn
from torch_examples import normal

import normcore.torch as nt

LAZY = {
    "LazyBatchNorm1d": (4, 3), "LazyBatchNorm2d": (4, 3, 2, 2), "LazyBatchNorm3d": (4, 3, 2, 1, 2),
    "LazyInstanceNorm1d": (4, 3, 2), "LazyInstanceNorm2d": (4, 3, 2, 2),
    "LazyInstanceNorm3d": (4, 3, 2, 1, 2),
}  # fmt: skip


def lazily(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch: lazy modules are new
        return make()


@pytest.mark.parametrize("kind", LAZY)
@pytest.mark.parametrize("how", ["made", "converted"])
def test_lazy_layers(kind, how):
    other = lazily(lambda: getattr(nn, kind)(dtype=torch.float64))
    ours = lazily(lambda: getattr(nt, kind)(dtype=torch.float64))
    if how == "converted":
        ours = nt.convert(lazily(lambda: getattr(nn, kind)(dtype=torch.float64)))
        assert type(nt.convert(ours, to="torch")) is getattr(nn, kind)
        assert type(nt.convert(ours)) is getattr(nt, kind)
    x = normal(LAZY[kind]) + 3
    torch.testing.assert_close(ours(x), other(x), rtol=1e-12, atol=1e-12)
    assert type(ours) is getattr(nt, kind.removeprefix("Lazy"))
    torch.testing.assert_close(ours.state_dict(), other.state_dict(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in LAZY if "Batch" in kind])
@pytest.mark.parametrize("training", [True, False])
def test_state_loaded_into_a_lazy_layer(kind, training):
    """As in PyTorch's, num_features stays 0 and counts for nothing."""
    x = normal(LAZY[kind]) + 3
    full = getattr(nn, kind.removeprefix("Lazy"))(3, dtype=torch.float64)
    full(x)
    layers = [lazily(getattr(of, kind)).double() for of in (nt, nn)]
    for layer in layers:
        layer.load_state_dict(full.state_dict())
        layer.train(training)
    torch.testing.assert_close(*(layer(x) for layer in layers), rtol=1e-12, atol=1e-12)
    states = [layer.state_dict() for layer in layers]
    torch.testing.assert_close(*states, rtol=1e-12, atol=1e-12)
    assert [layer.num_features for layer in layers] == [0, 0]


def test_lazy_and_derived_layers_synchronized():
    class Activated(nn.BatchNorm1d):
        pass

    model = nn.Sequential(
        lazily(nn.LazyBatchNorm1d), nn.BatchNorm1d(3), Activated(3), nt.BatchNorm1d(3).freeze()
    )
    with pytest.warns(UserWarning, match="2 stays a batch norm of its process alone: .*Activated"):
        nt.SyncBatchNorm.convert_sync_batchnorm(model)
    model(normal((4, 3), 0, torch.float32))
    assert [type(each) for each in model] == [nt.SyncBatchNorm] * 2 + [Activated, nt.SyncBatchNorm]
    assert model[3].frozen
    assert not model.train()[3].training


def test_frozen_layers_do_not_become_pytorchs():
    model = nn.Sequential(nt.BatchNorm1d(3), nn.Sequential(nt.BatchNorm1d(3).freeze()))
    with pytest.raises(ValueError, match=r"cannot be frozen, unlike 1\.0; call freeze"):
        nt.convert(model, to="torch")
    assert type(model[0]) is nt.BatchNorm1d  # nothing has changed
    with pytest.raises(ValueError, match="no running statistics to normalize with"):
        nt.BatchNorm1d(3, track_running_stats=False).freeze()


X = normal((4, 6, 5)) * 2 + 1
WEIGHT, BIAS = normal((6,), 1), normal((6,), 2)
LAST = normal((5,), 3), normal((5,), 4)
CALLS = [
    *(("layer_norm", (X, (5,), *vectors), {}) for vectors in [(), LAST, (None, LAST[1])]),
    ("layer_norm", (X, [6, 5]), {"eps": 0.0}),
    ("rms_norm", (X, (5,)), {}),
    ("rms_norm", (X, (5,), LAST[0]), {"eps": 0.0}),
    *(("group_norm", (X, groups, WEIGHT, BIAS), {}) for groups in (1, 2, 6)),
    ("group_norm", (X, 2, None, BIAS), {"eps": 0.0}),
    ("instance_norm", (X,), {}),
    ("instance_norm", (X, None, None, WEIGHT, BIAS), {"eps": 0.1}),
    ("batch_norm", (X, None, None, WEIGHT), {"training": True}),
    ("batch_norm", (X, BIAS, WEIGHT.square(), None, BIAS), {"eps": 0.0}),
]


@pytest.mark.parametrize(("name", "arguments", "options"), CALLS)
def test_functions(name, arguments, options):
    found = getattr(nt.functional, name)(*arguments, **options)
    expected = getattr(theirs, name)(*arguments, **options)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_functions_move_running_statistics(name):
    results = []
    for functions in (nt.functional, theirs):
        running = BIAS.clone(), WEIGHT.square()
        option = "training" if name == "batch_norm" else "use_input_stats"
        y = getattr(functions, name)(X, *running, momentum=0.3, **{option: True})
        evaluated = getattr(functions, name)(X, *running, **{option: False})
        results.append((y, *running, evaluated))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nt.functional.group_norm(X, 4), "num_groups=4 of group_norm must divide the 6"),
        (lambda: nt.functional.layer_norm(X, ()), "must have at least one size"),
        (lambda: nt.functional.layer_norm(X.int(), (5,)), "must be of floating point"),
        (lambda: nt.functional.layer_norm(X.to(torch.complex64), (5,)), "of floating point"),
        (lambda: nt.functional.batch_norm(X, None, None), "needs running_mean and running_var"),
        (lambda: nt.functional.batch_norm(X, BIAS[:2], WEIGHT), "running_mean has shape .2,"),
        (lambda: nt.functional.instance_norm(X[0]), "needs at least 3 axes, not 2"),
        (lambda: nt.functional.batch_norm(X, None, None, training=True, eps=0.0), "positive"),
    ],
)
def test_functions_refuse(call, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        call()


@pytest.mark.parametrize("missing", ["running_mean", "running_var"])
@pytest.mark.parametrize("kind", ["BatchNorm1d", "InstanceNorm1d"])
@pytest.mark.parametrize("training", [True, False])
def test_one_running_statistic_alone(missing, kind, training):
    """ValueError and RuntimeError, as in PyTorch, and nothing has changed."""
    for of in (nt, nn):
        layer = getattr(of, kind)(6, track_running_stats=True).train(training)
        setattr(layer, missing, None)
        before = copy.deepcopy(layer.state_dict())
        with pytest.raises(ValueError if training else RuntimeError, match="running_"):
            layer(normal((4, 6, 5), 0, torch.float32))
        if of is nt:
            torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
        if kind == "BatchNorm1d" and training:  # those that are not tracked are not looked at
            layer.track_running_stats = False
            assert layer(normal((4, 6, 5), 0, torch.float32)).shape == (4, 6, 5)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", ["BatchNorm2d", "InstanceNorm2d"])
def test_no_channels(affine, training, momentum, kind):
    """An empty result, as in PyTorch, whose layers with a weight stumble over it."""
    x = torch.empty(5, 0, 2, 2)
    layers = [
        getattr(of, kind)(0, affine=affine, momentum=momentum, track_running_stats=True)
        for of in ([nt] if affine else [nt, nn])
    ]
    for layer in layers:
        layer.train(training)
        y = layer(x.requires_grad_())
        y.sum().backward()
        assert (y.shape, x.grad.shape) == (x.shape, x.shape)
    torch.testing.assert_close(layers[0].state_dict(), layers[-1].state_dict())
    assert layers[0].num_batches_tracked == (training and kind == "BatchNorm2d")


@pytest.mark.parametrize("momentum", [0.1, None])
def test_an_empty_batch_counts_and_moves_nothing(momentum):
    """As in PyTorch."""
    layers = nt.BatchNorm1d(3, momentum=momentum), nn.BatchNorm1d(3, momentum=momentum)
    for layer in layers:
        layer(normal((4, 3), 0, torch.float32))
        assert layer(torch.empty(0, 3)).shape == (0, 3)
        layer(normal((4, 3), 1, torch.float32))
    torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())
