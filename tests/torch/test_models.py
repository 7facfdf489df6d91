"""Whole models: converted, trained, loaded; population statistics."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from torch import nn

import normcore as nc
import normcore.torch as nt


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels_in, channels, stride=1, activation=nn.ReLU):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.activation = activation(inplace=True)

    def forward(self, x):
        y = self.activation(self.bn1(self.conv1(x)))
        return self.activation(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A small residual network with batch norm in the manner of He et al. 2015."""

    def __init__(self, seed=0, activation=nn.ReLU):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), activation(inplace=True)
        )
        self.blocks = nn.Sequential(
            Block(8, 8, 1, activation), Block(8, 16, 2, activation), Block(16, 32, 2, activation)
        )
        self.head = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def images(n=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, 3, 16, 16, generator=generator),
        torch.randint(10, (n,), generator=generator),
    )


def train(model, steps=20):
    """Return the loss of each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for step in range(steps):
        x, target = images(seed=step)
        loss = nn.functional.cross_entropy(model(x.to(model.head[0].weight.dtype)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def kinds(model):
    return [type(each) for each in model.modules() if "Norm" in type(each).__name__]


# In float32 a rounding may put a value on the other side of a ReLU, and then two runs of the
# original itself part by 1e-2; with a smooth activation they stay together.
@pytest.mark.parametrize(
    ("dtype", "activation", "atol"),
    [(torch.float64, nn.ReLU, 1e-12), (torch.float32, nn.SiLU, 1e-5)],
    ids=["float64", "float32"],
)
def test_a_converted_model_trains_the_same_losses(dtype, activation, atol):
    theirs = ResNet(0, activation).to(dtype)
    ours = nt.convert(copy.deepcopy(theirs))
    assert set(kinds(theirs)) == {nn.BatchNorm2d, nn.BatchNorm1d}
    assert set(kinds(ours)) == {nt.BatchNorm2d, nt.BatchNorm1d}
    expected = train(theirs)
    np.testing.assert_allclose(train(ours), expected, rtol=0, atol=atol)
    assert expected[-1] != expected[0]


def test_checkpoints_load_both_ways():
    theirs = ResNet()
    train(theirs)
    ours = nt.convert(copy.deepcopy(theirs))
    x, _ = images(seed=99)
    for source, target in ((theirs, nt.convert(ResNet(1))), (ours, ResNet(2))):
        target.load_state_dict(source.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(target.eval()(x), source.eval()(x), rtol=1e-5, atol=1e-5)


def test_conversion_changes_nothing_but_the_class():
    model = nn.ModuleDict(
        {
            "bn": nn.BatchNorm2d(4, eps=0.1, momentum=None, affine=False),
            "sync": nn.SyncBatchNorm(4),
            "layer": nn.LayerNorm((4, 2)),
            "group": nn.GroupNorm(2, 4),
            "rms": nn.RMSNorm(4),
            "other": nn.Linear(2, 2),
        }
    )
    called = []
    model["bn"].register_forward_hook(lambda *_: called.append(1))
    model["bn"].eval()
    before = {name: (each, dict(each.__dict__)) for name, each in model.items()}
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    assert nt.convert(model) is model
    assert [type(each) for each in model.values()] == [
        nt.BatchNorm2d, nt.SyncBatchNorm, nt.LayerNorm, nt.GroupNorm, nt.RMSNorm, nn.Linear,
    ]  # fmt: skip
    for name, each in model.items():
        assert each is before[name][0]
        assert each.__dict__ == before[name][1]
    after = dict(model.named_parameters()) | dict(model.named_buffers())
    assert all(after[name] is each for name, each in tensors.items())
    model["bn"](torch.ones(2, 4, 3, 3))
    assert called == [1]
    assert nt.convert(model, to="torch") is model
    assert [type(each) for each in model.values()] == [
        nn.BatchNorm2d, nn.SyncBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Linear,
    ]  # fmt: skip


def test_conversion_of_a_layer_itself_and_of_derived_classes():
    class Own(nn.BatchNorm1d):
        pass

    layer, own = nn.BatchNorm1d(3), Own(3)
    assert type(nt.convert(layer)) is nt.BatchNorm1d
    assert type(nt.convert(own)) is Own
    with pytest.raises(ValueError, match="to must be 'normcore' or 'torch', not 'keras'"):
        nt.convert(layer, to="keras")


@pytest.mark.parametrize("model", [torch.ones(3), None, [nn.BatchNorm1d(3)], nn.BatchNorm1d])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("convert", nt.convert),
        ("convert", lambda model: nt.convert(model, to="torch")),
        ("convert_sync_batchnorm", nt.SyncBatchNorm.convert_sync_batchnorm),
        ("population_statistics", lambda model: nt.population_statistics(model, [])),
    ],
)
def test_what_is_no_model_is_refused(model, name, call):
    kind = "the class BatchNorm1d" if isinstance(model, type) else type(model).__name__
    message = rf"the model that {name} takes must be a torch\.nn\.Module, not {kind}"
    with pytest.raises(TypeError, match=message):
        call(model)


# -- population statistics -------------------------------------------------------------------


def test_population_statistics_of_a_first_layer_are_those_of_all_samples():
    rows = np.random.default_rng(0).normal(5, 2, (23, 3))
    bn = nt.BatchNorm1d(3, dtype=torch.float64)
    batches = [torch.from_numpy(each) for each in np.split(rows, [7, 9, 20])]
    nt.population_statistics(bn, batches)
    moments = nc.functional.moments(rows, channel_axis=1)
    np.testing.assert_allclose(bn.running_mean.numpy(), moments.mean, rtol=2**-52)
    np.testing.assert_allclose(bn.running_var.numpy(), moments.var(ddof=1), rtol=4 * 2**-52)
    assert bn.num_batches_tracked == 4


def test_population_statistics_of_every_layer_at_once():
    """Each layer's inputs are pooled, those that the layers before it gave in training mode."""
    model = nt.convert(ResNet()).double().eval()
    modes = {name: each.training for name, each in model.named_modules()}
    seen = {}
    for name, each in model.named_modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0])
            )
    batches = [(images(n, seed)[0].double(), "target") for seed, n in enumerate((8, 3, 12))]
    nt.population_statistics(model, batches)
    assert {name: each.training for name, each in model.named_modules()} == modes
    for name, layers in seen.items():
        pooled = torch.cat(layers).transpose(0, 1).flatten(1)
        layer = model.get_submodule(name)
        torch.testing.assert_close(layer.running_mean, pooled.mean(1), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.running_var, pooled.var(1), rtol=1e-12, atol=1e-12)
        assert layer.num_batches_tracked == 3
        assert "_update_running_stats" not in vars(layer)
    assert len(seen) == 10


def test_population_statistics_leave_frozen_and_unreached_layers_alone():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.frozen, self.unused = (nt.BatchNorm1d(2) for _ in range(3))
            self.frozen.freeze()

        def forward(self, x):
            return self.frozen(self.first(x))

    model = Model()
    nt.population_statistics(model, [torch.randn(5, 2)], device="cpu")
    assert model.first.num_batches_tracked == 1
    for layer in (model.frozen, model.unused):
        assert layer.num_batches_tracked == 0
        assert layer.running_var.tolist() == [1, 1]
    assert model.unused.training
    assert not model.frozen.training


def failing():
    yield torch.randn(4, 3)
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("loader", "error"),
    [
        (failing(), OSError),
        ([torch.randn(4, 3), torch.randn(4, 2)], ValueError),
        ([torch.randn(4, 3), torch.randn(1, 3)], ValueError),
        ([], ValueError),
    ],
    ids=["loader", "channels", "single", "empty"],
)
def test_nothing_has_changed_where_population_statistics_fail(loader, error):
    model = nn.Sequential(nt.BatchNorm1d(3), nt.BatchNorm1d(3)).eval()
    model[1].train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error):
        nt.population_statistics(model, loader)
    assert [each.training for each in model] == [False, True]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    model(torch.randn(4, 3))
    assert model[1].num_batches_tracked == 1


def test_population_statistics_need_a_batch_norm_of_normcore():
    model = nn.Sequential(nn.BatchNorm1d(3), nt.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match=r"normcore\.torch\.convert\(model\)"):
        nt.population_statistics(model, [torch.randn(4, 3)])
