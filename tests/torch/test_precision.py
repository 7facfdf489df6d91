"""Native precision of layers: named by them or by the context, kept to the backward pass."""

from __future__ import annotations

import copy
import pickle

import pytest

pytest.importorskip("torch")
import torch
from torch_examples import normal, run
from torch_layers import Example, labels

import normcore as nc
import normcore.torch as nt

EXAMPLES = [
    Example("BatchNorm1d", (40,), (70, 40)),
    Example("BatchNorm2d", (20,), (9, 20, 6, 5)),
    Example("BatchNorm1d", (40,), (70, 40), False),
    Example("LayerNorm", (40,), (70, 40)),
    Example("LayerNorm", ((6, 40),), (9, 6, 40), True, {"bias": False}),
    Example("RMSNorm", (40,), (70, 40)),
    Example("GroupNorm", (2, 8), (9, 8, 30)),
    Example("InstanceNorm2d", (8,), (9, 8, 6, 5), True, {"affine": True}),
]
every_layer = pytest.mark.parametrize("example", EXAMPLES, ids=labels(EXAMPLES))
BACKEND = nc.get_backend("cpu")


def step(layer, example, forward="exact", backward="exact"):
    """Return the results of a step whose passes are in contexts of some precision."""
    x = example.input(dtype=torch.float32).requires_grad_()
    with nc.use_precision(forward):
        y = layer(x)
    variables = [x, *layer.parameters()]
    with nc.use_precision(backward):
        gradients = torch.autograd.grad(y, variables, normal(example.shape, 5).float())
    return [y, *gradients]


def same(found, expected):
    return [torch.equal(*pair) for pair in zip(found, expected, strict=True)]


@every_layer
def test_native_precision_is_another_and_near(example):
    exact, native = (
        step(example.ours(torch.float32), example, each) for each in ("exact", "native")
    )
    assert not all(same(exact, native))
    for each, other in zip(exact, native, strict=True):
        torch.testing.assert_close(each, other, rtol=1e-5, atol=1e-5)


@every_layer
def test_backward_has_the_precision_of_its_forward(example):
    layer = example.ours(torch.float32)
    for precision in ("exact", "native"):
        expected = step(layer.eval(), example, precision, precision)
        for backward in ("exact", "native"):
            assert all(same(step(layer, example, precision, backward), expected))


@every_layer
def test_layers_override_the_context(example):
    layer, plain = example.ours(torch.float32), example.ours(torch.float32)
    for precision, other in (("exact", "native"), ("native", "exact")):
        layer.precision = precision
        assert all(same(step(layer, example, other), step(plain, example, precision)))


@every_layer
def test_both_ways_have_the_same_bits(example, monkeypatch):
    found = step(example.ours(torch.float32), example, "native")
    monkeypatch.setattr(BACKEND, "memory_kernels", None)
    monkeypatch.setattr(BACKEND.native, "memory_kernels", None)
    assert all(same(found, step(example.ours(torch.float32), example, "native")))


def test_results_are_those_of_the_core():
    x, dy = normal((70, 40)).float() + 3, normal((70, 40), 1).float()
    x.requires_grad_()
    y = nt.functional.layer_norm(x, (40,), precision="native")
    (dx,) = torch.autograd.grad(y, x, dy)
    arrays = dy.numpy(), x.detach().numpy()
    expected, moments = nc.functional.layer_norm(arrays[1], precision="native")
    gradient = nc.functional.layer_norm_backward(*arrays, moments, precision="native")[0]
    assert (y.detach().numpy() == expected).all()
    assert (dx.numpy() == gradient).all()


FUNCTIONS = {
    "batch_norm": (None, None, None, None, True),
    "layer_norm": ((40,),),
    "rms_norm": ((40,),),
    "group_norm": (4,),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    function, x = getattr(nt.functional, name), normal((70, 40)).float() + 3
    native = function(x, *FUNCTIONS[name], precision="native")
    with nc.use_precision("native"):
        assert torch.equal(function(x, *FUNCTIONS[name]), native)
        exact = function(x, *FUNCTIONS[name], precision="exact")
    assert torch.equal(function(x, *FUNCTIONS[name]), exact)
    assert not torch.equal(native, exact)
    with pytest.raises(ValueError, match="precision must be"):
        function(x, *FUNCTIONS[name], precision="float32")


@every_layer
def test_layers_keep_their_precision(example):
    kind = getattr(nt, example.kind)
    layer = kind(*example.arguments, **example.options, precision="native")
    assert "precision='native'" in repr(layer)
    assert "precision" not in repr(kind(*example.arguments, **example.options))
    copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)
    assert [each.precision for each in copies] == ["native"] * 3
    back = nt.convert(nt.convert(torch.nn.Sequential(layer), to="torch"))[0]
    assert type(back) is kind
    assert back.precision == "native"
    assert (
        nt.convert(torch.nn.Sequential(kind.counterpart(*example.arguments)))[0].precision is None
    )
    with pytest.raises(ValueError, match="precision must be"):
        kind(*example.arguments, precision="half")
    layer.precision = "half"
    with pytest.raises(ValueError, match="precision must be"):
        layer(example.input(dtype=torch.float32))


def test_other_layers_keep_it_too():
    lazy = nt.LazyBatchNorm1d(precision="native")
    lazy(normal((5, 3)).float())
    assert type(lazy) is nt.BatchNorm1d
    assert lazy.precision == "native"
    synchronized = nt.SyncBatchNorm.convert_sync_batchnorm(lazy)
    assert type(synchronized) is nt.SyncBatchNorm
    assert synchronized.precision == "native"
    assert nt.SyncBatchNorm(3, precision="native").precision == "native"
    assert nt.RMSNorm(3, weight_offset=1.0, precision="native").precision == "native"


@every_layer
def test_compiled_models_follow_the_context(example):
    """The context is asked when the model runs, not when it is compiled."""
    torch._dynamo.reset()
    layer, plain = example.ours(torch.float32), example.ours(torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    if layer.training:  # a frozen state, so that steps are alike
        layer.momentum = plain.momentum = 0.0
    for precision in ("exact", "native", "exact"):
        for backward in ("exact", "native"):
            found = run_in(compiled, layer, example, precision, backward)
            assert all(same(found, step(plain, example, precision)))


def run_in(model, layer, example, forward, backward):
    x = example.input(dtype=torch.float32).requires_grad_()
    with nc.use_precision(forward):
        y = model(x)
    with nc.use_precision(backward):
        dy = normal(example.shape, 5).float()
        return [y, *torch.autograd.grad(y, [x, *layer.parameters()], dy)]


@every_layer
def test_compiled_layers_of_one_precision(example):
    torch._dynamo.reset()
    layer, plain = example.ours(torch.float32), example.ours(torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for precision in ("native", "exact"):
        layer.precision = precision  # which is a guard
        found = run_in(compiled, layer, example, "exact", "native")
        assert all(same(found, step(plain, example, precision)))


def test_float64_is_exact_in_either():
    x = normal((70, 40))
    layer = nt.LayerNorm(40, dtype=x.dtype)
    expected = run(layer, x, x)
    with nc.use_precision("native"):
        assert all(same(run(layer, x, x), expected))
