"""BatchNorm from PyTorch's modules and to them, beside the modules themselves."""

from __future__ import annotations

import copy
import itertools
import sys

import numpy as np
import pytest
from conversion_examples import (
    AFFINE,
    CLOSE,
    assert_same_layer,
    assert_trains_as,
    batches,
    example,
    layers,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from normcore import BatchNorm


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


SHAPES = {1: (3, 4), 2: (3, 2, 4), 3: (3, 2, 1, 3)}
MODULES = [(dims, tracked, momentum, affine) for (dims, tracked, momentum), affine in
           itertools.product([(1, True, 0.3), (2, True, None), (3, True, 0.0), (2, False, 0.1)],
                             AFFINE)]  # fmt: skip


def torch_example(torch, dims, tracked, momentum, affine, dtype, **more):
    layer = {1: torch.nn.BatchNorm1d, 2: torch.nn.BatchNorm2d, 3: torch.nn.BatchNorm3d}[dims]
    module = layer(3, 1e-3, momentum, affine is not False, tracked, dtype=dtype, **more)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.dim():
                value.copy_(torch.rand(3, generator=generator, dtype=torch.float64) + 0.5)
    if affine == "beta":
        module.weight = None
    elif affine == "gamma":
        module.bias = None
    return module


def assert_trains_as_module(torch, bn, module, dims):
    module = copy.deepcopy(module)

    def call(x):
        return module(torch.from_numpy(x)).detach().numpy()

    def step(x):
        module.train()
        return call(x)

    def evaluate(x):
        module.eval()
        return call(x)

    def statistics():
        if module.running_mean is None:
            return None, None
        return module.running_mean.numpy(), module.running_var.numpy()

    inputs = batches(SHAPES[dims])
    if module.running_mean is not None:
        assert_trains_as(bn, step, evaluate, statistics, inputs)
        return
    assert bn.running_mean is None
    for mode in (True, False):
        assert_allclose(bn.train(mode)(inputs[0]), call(inputs[0]), **CLOSE)


@pytest.mark.parametrize(("dims", "tracked", "momentum", "affine"), MODULES)
def test_from_torch_computes_the_same(torch, dims, tracked, momentum, affine):
    module = torch_example(torch, dims, tracked, momentum, affine, torch.float64)
    bn = BatchNorm.from_torch(module)
    assert bn.affine == affine
    assert bn.num_batches_tracked == (0 if tracked else None)
    assert_trains_as_module(torch, bn, module, dims)


@pytest.mark.parametrize(("dims", "tracked", "momentum", "affine"), MODULES)
def test_to_torch_computes_the_same(torch, dims, tracked, momentum, affine):
    bn = example(momentum=momentum, affine=affine, track_running_stats=tracked, eps=1e-3)
    module = bn.to_torch(dims, dtype=torch.float64)
    assert type(module) is getattr(torch.nn, f"BatchNorm{dims}d")
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    assert trained == {True: {"weight", "bias"}, "gamma": {"weight"}, "beta": {"bias"}}.get(
        affine, set()
    )
    assert_trains_as_module(torch, bn, module, dims)
    module.reset_parameters()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("training", [True, False])
def test_torch_modules_round_trip(torch, dtype, training):
    for dims, tracked, momentum, affine in MODULES:
        if affine == "beta":  # comes back with a weight
            continue
        given = torch_example(torch, dims, tracked, momentum, affine, getattr(torch, dtype))
        given.train(training)
        if tracked:
            given.num_batches_tracked.fill_(17)
        found = BatchNorm.from_torch(given).to_torch(dims, dtype=getattr(torch, dtype))
        assert repr(found) == repr(given)
        assert found.training is training
        expected = given.state_dict()
        assert found.state_dict().keys() == expected.keys()
        for name, value in found.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_to_torch_without_gamma_loads_anywhere(torch):
    bn = example(affine="beta")
    module = bn.to_torch(2, dtype=torch.float64)
    torch.nn.BatchNorm2d(3, dtype=torch.float64).load_state_dict(module.state_dict())
    assert_array_equal(module.weight.detach(), np.ones(3))
    assert bn.to_torch(1).bias.dtype == torch.get_default_dtype()


def test_layers_of_torch_are_copied(torch):
    module = torch.nn.BatchNorm1d(3)
    bn = BatchNorm.from_torch(module)
    bn.gamma += 1
    bn(batches()[0])
    back = bn.to_torch(1)
    back.running_mean.add_(1)
    assert module.weight.tolist() == [1, 1, 1]
    assert module.running_mean.tolist() == [0, 0, 0]
    assert_array_equal(bn.num_batches_tracked, 1)
    assert_allclose(back.running_mean - 1, bn.running_mean, rtol=1e-6)


def test_from_modules_of_normcore(torch):
    import normcore.torch as nt

    module = nt.BatchNorm2d(3, momentum=None).freeze()
    frozen = BatchNorm.from_torch(module)
    assert frozen.frozen
    assert not BatchNorm.from_torch(module.freeze(False)).frozen
    for each in (nt.SyncBatchNorm(3), torch.nn.SyncBatchNorm(3, eps=1e-3)):
        assert BatchNorm.from_torch(each).eps == each.eps


def test_from_torch_refuses_others(torch):
    for module in (torch.nn.Linear(2, 3), torch.nn.InstanceNorm2d(3), BatchNorm(3), {}):
        with pytest.raises(TypeError, match=f"batch norm module.*{type(module).__name__}"):
            BatchNorm.from_torch(module)
    with pytest.raises(ValueError, match="uninitialized"):
        BatchNorm.from_torch(torch.nn.LazyBatchNorm1d())
    stopped = torch.nn.BatchNorm1d(3)
    stopped.track_running_stats = False
    with pytest.raises(ValueError, match="track_running_stats=False"):
        BatchNorm.from_torch(stopped)
    odd = torch.nn.BatchNorm1d(3)
    odd.running_var = torch.ones(4)
    with pytest.raises(ValueError, match=r"PyTorch's running_var: .* shape \(3,\), got \(4,\)"):
        BatchNorm.from_torch(odd)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ddof": 0}, "ddof=1, and no other, but this one has ddof=0"),
        ({"axis": -1}, "axis=-1"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"single": "skip"}, "single='skip'"),
        ({"virtual_batch_size": 8}, "virtual_batch_size=8"),
        ({"r_max": 3, "d_max": 5}, "[rd]_max="),
    ],
)
def test_what_torch_cannot_express(torch, options, message):
    with pytest.raises(ValueError, match=f"PyTorch's batch norm has .*{message}"):
        BatchNorm(3, **options).to_torch(2)


def test_other_refusals_of_to_torch(torch):
    with pytest.raises(ValueError, match="frozen=True"):
        BatchNorm(3).freeze().to_torch(2)
    with pytest.raises(ValueError, match="dims must be one of 1, 2, 3, got 4"):
        BatchNorm(3).to_torch(4)
    bn = BatchNorm(3)
    bn.running_var = [1, 1e60, np.inf]
    with pytest.raises(ValueError, match=r"running_var is 1e\+60 in channel 1, .* 3.40282e\+38"):
        bn.to_torch(2)
    assert bn.to_torch(2, dtype=torch.float64).running_var.tolist() == [1, 1e60, np.inf]
    BatchNorm(3, ddof=0, track_running_stats=False).to_torch(2)  # stores no variance


def test_to_torch_says_what_is_missing(monkeypatch):
    class Absent:
        @staticmethod
        def find_spec(name, path, target=None):
            if name == "torch":
                raise ImportError(name)

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(ImportError, match=r"normcore-arrays\[torch\]"):
        BatchNorm(3).to_torch(1)


@given(layers(), st.integers(0, 2**40), st.one_of(st.none(), st.floats(0, 1)))
def test_round_trips_through_torch(torch, bn, number, momentum):
    bn.ddof, bn.axis, bn.momentum, bn.num_batches_tracked = 1, 1, momentum, number
    again = BatchNorm.from_torch(bn.to_torch(1))
    if bn.affine == "beta":
        assert_array_equal(again.gamma, np.ones(bn.num_features))
        again.affine, again._gamma = "beta", None
    assert_same_layer(again, bn)
