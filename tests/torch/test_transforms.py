"""normcore.torch under torch.func, forward mode, modes, tracers: as PyTorch's own layers."""

from __future__ import annotations

import copy
import warnings
from functools import partial

import pytest

pytest.importorskip("torch")
import torch
import torch.autograd.forward_ad as forward_ad
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch_examples import normal, run
from torch_layers import EXAMPLES, labels

import normcore.torch as nt


@pytest.fixture(autouse=True, scope="module")
def forward_mode():
    """The first dual tensor of a process has PyTorch script its decompositions, which warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.ones(1), torch.ones(1))


#: Without running statistics, which no pure function changes.
PURE = [
    each
    if not each.training or "BatchNorm" not in each.kind
    else each._replace(options={"track_running_stats": False})
    for each in EXAMPLES
]
every_layer = pytest.mark.parametrize("example", EXAMPLES, ids=labels(EXAMPLES))
every_pure_layer = pytest.mark.parametrize("example", PURE, ids=labels(PURE))


def close(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def functions(example):
    """Return normcore's layer and PyTorch's as functions of state and input; the state; x."""
    pair = example.pair()
    state = {name: each.detach() for name, each in pair[0].named_parameters()}
    calls = [lambda state, x, each=each: functional_call(each, state, (x,)) for each in pair]
    return *calls, state, example.input()


@every_pure_layer
def test_derivatives_in_both_modes(example):
    layer, x = example.ours(), example.input().requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    given = (x, *layer.parameters())
    assert gradcheck(call, given, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(call, given, check_fwd_over_rev=True, check_batched_grad=True)


def loss(call):
    return lambda state, x: call(state, x).pow(3).sum()


def per_sample(call):
    return lambda state, x: vmap(lambda each: call(state, each))(torch.stack([x, x + 1, 2 * x]))


#: Of a function of state and input: what torch.func makes of it.
TRANSFORMS = {
    "grad": lambda call: grad(loss(call), (0, 1)),
    "jvp": lambda call: lambda state, x: jvp(lambda x: call(state, x), (x,), (normal(x.shape, 7),)),
    "vjp": lambda call: lambda state, x: vjp(call, state, x)[1](normal(x.shape, 7)),
    "vmap": per_sample,
    "gradients per sample": lambda call: lambda state, x: vmap(grad(loss(call)), (None, 0))(
        state, torch.stack([x, x + 1])
    ),
    "an ensemble": lambda call: lambda state, x: vmap(call, (0, None))(
        {name: torch.stack([each, each * 2]) for name, each in state.items()}, x
    ),
    "jacfwd": lambda call: jacfwd(call, 1),
    "jacrev": lambda call: jacrev(call, 1),
    "hessian": lambda call: hessian(loss(call), 1),
    "gradient of gradient": lambda call: grad(
        lambda state, x: grad(loss(call), 1)(state, x).square().sum(), (0, 1)
    ),
    "jacfwd of jacfwd": lambda call: jacfwd(jacfwd(loss(call), 1), 1),
    "jacrev of jacfwd": lambda call: jacrev(jacfwd(loss(call), 1), 1),
    "vmap along the last axis": lambda call: lambda state, x: vmap(
        lambda each: call(state, each), in_dims=-1, out_dims=1
    )(torch.stack([x, x + 1], -1)),
    "no samples": lambda call: lambda state, x: vmap(lambda each: call(state, each))(
        torch.stack([x, x])[:0]
    ),
}  # fmt: skip


@every_pure_layer
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_torch_func(example, transform):
    ours, theirs, state, x = functions(example)
    if transform == "no samples":
        assert TRANSFORMS[transform](ours)(state, x).shape == (0, *x.shape)
        return
    if transform == "an ensemble" and not state:
        state = {"unused": x}
        ours = theirs = lambda state, x: nt.LayerNorm(x.shape[-1], dtype=x.dtype)(
            x * state["unused"]
        )
    # PyTorch's own layers lose a part of what is forward over forward and reverse over forward.
    expected = "hessian" if "of jacfwd" in transform else transform
    close(TRANSFORMS[transform](ours)(state, x), TRANSFORMS[expected](theirs)(state, x), 1e-8)


@every_pure_layer
@pytest.mark.parametrize("enabled", [True, False])
def test_dual_tensors(example, enabled):
    x, tangent = example.input(), normal(example.shape, 7)
    found = []
    for layer in example.pair():
        with forward_ad.dual_level(), torch.set_grad_enabled(enabled):
            y = layer(forward_ad.make_dual(x, tangent))
            found.append(forward_ad.unpack_dual(y))
    close(*found)


# -- tracers -----------------------------------------------------------------------------------


@every_layer
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
def test_jit_trace(example, enabled, tmp_path):
    ours, other = example.ours(), example.ours()
    with torch.set_grad_enabled(enabled):
        if "InstanceNorm" in example.kind:  # PyTorch's own checks of sizes warn too
            with pytest.warns(torch.jit.TracerWarning):
                traced = torch.jit.trace(ours, example.input(1), check_trace=False)
        else:
            traced = torch.jit.trace(ours, example.input(1), check_trace=False)
        assert "normcore::" in str(traced.graph)
        torch.jit.save(traced, tmp_path / "model.pt")
        loaded = torch.jit.load(tmp_path / "model.pt")
        ours(example.input(1))  # nothing of this batch is in the trace
        other(example.input(1))
        for seed in (2, 3):
            x = example.input(seed) * 5
            expected = other(x)
            close(traced(x), expected)
            close(loaded(x), expected)
    close(dict(traced.state_dict()), dict(ours.state_dict()))


@every_pure_layer
def test_make_fx(example):
    ours = example.ours()
    x = example.input(1)
    state = dict(ours.state_dict())
    call = lambda state, x: functional_call(ours, state, (x,))  # noqa: E731
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(call, tracing_mode=mode)(state, x)
        assert "normcore" in graph.code
        close(graph(state, example.input(2)), ours(example.input(2)))


@every_layer
def test_symbolic_trace(example):
    """Layers are leaves, as PyTorch's own are."""
    ours, theirs = example.pair()
    model = nn.Sequential(nn.Identity(), nn.Sequential(ours)).train(example.training)
    graph = torch.fx.symbolic_trace(model)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["0", "1.0"]
    for seed in (1, 2):
        close(graph(example.input(seed)), theirs(example.input(seed)))
    close(dict(graph.get_submodule("1.0").state_dict()), dict(theirs.state_dict()))


@every_layer
def test_symbolic_trace_of_a_layer_itself(example):
    ours, theirs = example.pair()
    if example.training and "BatchNorm" in example.kind:
        with pytest.raises(NotImplementedError, match=r"torch\.fx cannot trace .* of normcore"):
            torch.fx.symbolic_trace(ours)
        return
    if "InstanceNorm" in example.kind:  # looks at the number of axes, PyTorch's likewise
        with pytest.raises(torch.fx.proxy.TraceError):
            torch.fx.symbolic_trace(theirs)
        return
    graph = torch.fx.symbolic_trace(ours)
    assert "normcore" in graph.code
    close(graph(example.input(1)), theirs(example.input(1)))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@every_layer
def test_jit_script_takes_pytorchs_layers(example):
    ours, theirs = example.pair()
    scripted = torch.jit.script(nn.Sequential(ours).train(example.training))
    close(scripted(example.input(1)), theirs(example.input(1)))
    assert type(ours).__module__ == "normcore.torch"
    close(dict(ours.state_dict()), dict(theirs.state_dict()))  # the same buffers


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_jit_script_refuses_what_has_no_counterpart():
    class Own(nt.LayerNorm):
        pass

    with pytest.raises(NotImplementedError, match=r"torch\.jit\.script needs .*not those derived"):
        torch.jit.script(Own(3))
    with pytest.raises(ValueError, match=r"torch\.jit\.script .*freeze\(False\)"):
        torch.jit.script(nt.BatchNorm1d(3).freeze())


# -- modes ---------------------------------------------------------------------------------------


class Seen(torch.utils._python_dispatch.TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@every_layer
def test_dispatch_modes_see_operators(example):
    ours, theirs = example.pair()
    x, dy = example.input(), normal(example.shape, 1)
    with Seen() as seen:
        found = run(ours, x, dy)
    assert [each for each in seen.names if each.startswith("normcore.")]
    assert any("backward" in each for each in seen.names if each.startswith("normcore."))
    close(found, run(theirs, x, dy))


@every_layer
def test_function_modes(example):
    ours, theirs = example.pair()
    with torch.device("cpu"):
        found = ours(example.input())
    close(found, theirs(example.input()))


class Recorded(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})


@every_layer
def test_subclasses_see_functions(example):
    ours, theirs = example.pair()
    Recorded.seen = []
    y = ours(example.input().as_subclass(Recorded))
    assert type(y) is Recorded
    if not (example.training and "BatchNorm" in example.kind):
        assert f"{example.kind[:-4].rstrip('0123456789').lower()}_norm"[:5] in str(Recorded.seen)
    close(y.as_subclass(torch.Tensor), theirs(example.input()))


@every_layer
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing(example, reentrant):
    found = []
    for layer in example.pair():
        x = example.input().requires_grad_()
        y = checkpoint(lambda x, layer=layer: layer(x * 1).square(), x, use_reentrant=reentrant)
        y.sum().backward()
        found.append((y, x.grad, [each.grad for each in layer.parameters()], layer.state_dict()))
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs)


@every_layer
def test_inference_mode(example):
    ours, theirs = example.pair()
    with torch.inference_mode():
        close(ours(example.input()), theirs(example.input()))
        assert ours(example.input()).is_inference()
    x = example.input()
    close(run(ours, x, x), run(theirs, x, x))


@every_layer
def test_a_negative_bit(example):
    """The memory of such a tensor is not its values."""
    ours, theirs = example.pair()
    x = torch.complex(example.input(), example.input(1)).conj().imag
    assert x.is_neg()
    close(ours(x), theirs(x))


@every_layer
def test_memory_stays_resizable(example):
    ours = example.ours(torch.float32)
    x = example.input(dtype=torch.float32).requires_grad_()
    y = ours(x)
    y.backward(torch.ones_like(y))
    for each in (y, x.grad, x, *(each.grad for each in ours.parameters()), *ours.parameters()):
        each.data.untyped_storage().resize_(0)


@every_layer
def test_gradients_are_right_whatever_happens_to_the_layer_meanwhile(example):
    ours, theirs = example.pair()
    results = []
    for layer in (ours, theirs):
        layer = copy.deepcopy(layer)
        x = example.input().requires_grad_()
        y = layer.eval()(x)
        layer.train()(example.input(5))
        if layer is not ours and "Batch" not in example.kind:
            pass
        y.backward(normal(x.shape, 1))
        results.append(x.grad)
    if "BatchNorm" not in example.kind:
        close(*results)
        return
    # PyTorch's own uses the statistics of the time of the backward pass.
    layer = copy.deepcopy(ours).eval()
    close(results[0], run(layer, example.input(), normal(example.shape, 1))[1])


NESTED = {
    "BatchNorm1d": (8,), "InstanceNorm1d": (8,), "LazyBatchNorm1d": (), "LazyInstanceNorm1d": (),
    "LayerNorm": (8,), "RMSNorm": (8,), "GroupNorm": (2, 4),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested", "ignore:Lazy modules")
@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_nested_tensors_are_refused(kind, layout):
    nested = torch.nested.nested_tensor([torch.randn(2, 8), torch.randn(5, 8)], layout=layout)
    layer = getattr(nt, kind)(*NESTED[kind])
    calls = [layer, layer.eval()]
    if kind == "RMSNorm":
        options = {"weight_offset": 1.0}, {"precision": "native"}, {"residual": nested}
        rms_norm = partial(nt.functional.rms_norm, normalized_shape=(8,))
        calls += [partial(rms_norm, **each) for each in options]
    for call in calls:
        with pytest.raises(NotImplementedError, match=r"normcore's \w+_norm takes no nested"):
            call(nested)


def test_sparse_tensors_are_refused():
    with pytest.raises(TypeError, match=r"must be a dense tensor, not torch\.sparse_coo"):
        nt.LayerNorm(3)(torch.eye(3).to_sparse())


def test_fuse_modules():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nt.BatchNorm2d(3), nn.ReLU()).double()
    model(normal((4, 2, 5, 5)))
    model.eval()
    fused = torch.ao.quantization.fuse_modules(model, [["0", "1", "2"]])
    assert [type(each).__name__ for each in fused] == ["ConvReLU2d", "Identity", "Identity"]
    close(fused(normal((4, 2, 5, 5), 1)), model(normal((4, 2, 5, 5), 1)))
    assert type(model[1]) is nt.BatchNorm2d
    trained = torch.ao.quantization.fuse_modules_qat(model.train(), [["0", "1", "2"]])
    assert type(trained[0]).__name__ == "ConvBnReLU2d"


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_running_statistics_have_no_derivatives(name):
    """As in PyTorch; a gradient of zero would be wrong."""
    layer = nt.BatchNorm1d(3).eval()

    def call(each):
        return functional_call(layer, {name: each}, (torch.ones(4, 3),)).sum()

    with pytest.raises(RuntimeError, match=f"not differentiable with respect to {name}"):
        grad(call)(torch.ones(3))
    with pytest.raises(RuntimeError, match=f"not differentiable with respect to {name}"):
        jvp(call, (torch.ones(3),), (torch.ones(3),))
    getattr(layer, name).requires_grad_()
    with pytest.raises(RuntimeError, match=f"not differentiable with respect to {name}"):
        layer(torch.ones(4, 3))
