"""RMS norm as language models have it: weights kept as weight - 1, a residual added first."""

from __future__ import annotations

import copy
import io

import pytest

pytest.importorskip("torch")
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch_examples import normal

import normcore.torch as nt
from normcore.torch import functional

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


class Gemma(nn.Module):
    """The layer of that model: in float32 or wider, by ``1 + weight``, rounded at the end."""

    def __init__(self, size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(size, dtype=dtype))

    def forward(self, x):
        wide = x.double() if x.dtype == torch.float64 else x.float()
        y = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * (1.0 + self.weight.to(wide.dtype))).to(x.dtype)


class Block(nn.Module):
    """A part of a network that hands on the sum that it normalizes."""

    def __init__(self, offset=1.0, dtype=torch.float64):
        super().__init__()
        self.norm = nt.RMSNorm(6, eps=1e-6, dtype=dtype, weight_offset=offset)
        self.linear = nn.Linear(6, 6, dtype=dtype)

    def forward(self, x, residual):
        y, total = self.norm(x, residual)
        return self.linear(y), total


def gemma(dtype=torch.float64):
    """Return normcore's layer and Gemma's, in the same state."""
    ours = nt.RMSNorm(6, eps=1e-6, dtype=dtype, weight_offset=1.0)
    theirs = Gemma(6, dtype=dtype)
    assert torch.equal(ours.weight, theirs.weight)  # at first both are 0
    theirs.weight.data.copy_(normal((6,), 1) / 512)  # beside 1, bfloat16 keeps nothing of it
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@each_dtype
def test_an_offset_is_that_of_gemma(dtype):
    ours, theirs = gemma(dtype)
    x, dy = (normal((5, 3, 6), seed, dtype).requires_grad_() for seed in (2, 3))
    unit = torch.finfo(dtype).eps
    for layer in (ours, theirs):
        layer(x).backward(dy.detach())
    torch.testing.assert_close(ours(x), theirs(x), rtol=unit, atol=unit)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=4 * unit, atol=16 * unit)


@each_dtype
def test_the_offset_is_added_in_float64(dtype):
    ours, _ = gemma(dtype)
    x = normal((5, 6), 2, dtype)
    wide = nt.RMSNorm(6, eps=1e-6, dtype=torch.float64)
    wide.weight.data.copy_(ours.weight.double() + 1.0)
    found, expected = ours(x), wide(x.double())
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, rtol=0.501 * unit, atol=unit / 1000)


@each_dtype
@pytest.mark.parametrize("affine", [True, False])
def test_a_residual_is_added_and_rounded_first(dtype, affine):
    layer = nt.RMSNorm(6, elementwise_affine=affine, dtype=dtype, weight_offset=1.0)
    x, residual = normal((5, 6), 0, dtype), normal((5, 6), 1, dtype)
    y, total = layer(x, residual)
    assert torch.equal(total, (x.double() + residual.double()).to(dtype))
    assert torch.equal(y, layer(total))
    x.requires_grad_()
    residual.requires_grad_()
    y, total = layer(x, residual)
    dy, dtotal = normal((5, 6), 2, dtype), normal((5, 6), 3, dtype)
    torch.autograd.backward((y, total), (dy, dtotal))
    again = total.detach().requires_grad_()
    layer(again).backward(dy)
    torch.testing.assert_close(x.grad, again.grad + dtotal)
    assert torch.equal(x.grad, residual.grad)


def test_derivatives():
    layer = nt.RMSNorm((2, 3), eps=0.1, dtype=torch.float64, weight_offset=1.0)
    x, residual = (normal((2, 2, 3), seed).requires_grad_() for seed in (0, 1))
    weight = normal((2, 3), 2).requires_grad_()

    def call(x, residual, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (x, residual))

    assert gradcheck(call, (x, residual, weight), check_forward_ad=True)
    assert gradgradcheck(call, (x, residual, weight))


def test_transforms_of_functions():
    layer = nt.RMSNorm(6, eps=0.1, dtype=torch.float64, weight_offset=1.0)
    x, residual = normal((4, 5, 6)), normal((4, 5, 6), 1)
    y, total = torch.func.vmap(layer)(x, residual)
    torch.testing.assert_close(y, layer(x, residual)[0])
    torch.testing.assert_close(total, x + residual)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_compiles_and_exports_as_one_graph(offset):
    torch._dynamo.reset()
    block = Block(offset)
    given = normal((4, 6)), normal((4, 6), 1)
    expected = block(*given)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(block, given).module()
    traced = torch.jit.trace(block, given)
    for each in (compiled, exported, traced, torch.fx.symbolic_trace(block)):
        for found, right in zip(each(*given), expected, strict=True):
            torch.testing.assert_close(found, right)
    leaves = [node for node in torch.fx.symbolic_trace(block).graph.nodes if node.target == "norm"]
    assert [len(node.args) for node in leaves] == [2]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_exports_to_onnx(exported, offset):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    block = Block(offset, torch.float32).eval()
    block.norm.weight.data.copy_(normal((6,), 5))
    given = normal((4, 6), dtype=torch.float32), normal((4, 6), 1, torch.float32)
    program = torch.export.export(block, given) if exported else block
    model = torch.onnx.export(program, given, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [each.name for each in session.get_inputs()]
    feed = {name: each.numpy() for name, each in zip(names, given, strict=True)}
    for found, right in zip(session.run(None, feed), block(*given), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), right, rtol=1e-5, atol=1e-5)


def test_state_and_words():
    layer = nt.RMSNorm(6, weight_offset=1.0)
    assert "weight_offset=1.0" in repr(layer)
    assert "weight_offset" not in repr(nt.RMSNorm(6))
    assert list(layer.state_dict()) == ["weight"]
    layer.weight.data.fill_(3.0)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert other.weight_offset == 1.0
        assert torch.equal(other(torch.ones(2, 6)), layer(torch.ones(2, 6)))
    layer.reset_parameters()
    assert not layer.weight.any()
    assert nt.convert(nn.RMSNorm(6)).weight_offset == 0.0


def test_pytorch_has_no_offset():
    model = nn.Sequential(nt.RMSNorm(6), nt.RMSNorm(6, weight_offset=1.0))
    with pytest.raises(ValueError, match="have no weight_offset, unlike 1; add it to the weight"):
        nt.convert(model, to="torch")
    assert type(model[0]) is nt.RMSNorm  # nothing has changed
    with pytest.raises(ValueError, match="have no weight_offset, unlike this RMSNorm"):
        torch.jit.script(model[1])


def test_bad_input():
    x = normal((4, 6))
    layer = nt.RMSNorm(6, dtype=x.dtype)
    for residual, error, words in (
        (x[:1], ValueError, r"has shape \(4, 6\), but residual has shape \(1, 6\)"),
        (x.float(), TypeError, "is torch.float64, but residual is torch.float32"),
        (x.numpy(), TypeError, "residual of rms_norm must be a tensor, not ndarray"),
        (x.to("meta"), ValueError, "on cpu, but residual is on meta"),
    ):
        for kind in {error, TypeError if error is TypeError else RuntimeError}:
            with pytest.raises(kind, match=words):
                layer(x, residual)
    with pytest.raises(TypeError, match="weight_offset must be a number"):
        nt.RMSNorm(6, weight_offset="1")
    with pytest.raises(TypeError, match="residual of rms_norm must be a tensor"):
        functional.rms_norm(x, (6,), residual=1.0)
