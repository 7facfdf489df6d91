"""Whole models converted, compiled and exported: PyTorch's numbers, in onnxruntime too."""

from __future__ import annotations

import copy
import io

import pytest

pytest.importorskip("torch")
import torch
from torch import nn
from torch_examples import normal

import normcore.torch as nt

def legacy(test):
    """Mark a test of PyTorch's exporters, which warn of themselves."""
    for kind in ("DeprecationWarning", "UserWarning", "torch.jit.TracerWarning"):
        test = pytest.mark.filterwarnings(f"ignore::{kind}")(test)
    return test


class Attention(nn.Module):
    """A block of a transformer with its norms before, as language models have it."""

    def __init__(self, width, norm):
        super().__init__()
        self.before, self.between = norm(width), norm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.before(x)).chunk(3, -1)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.out(weights @ v)
        return x + self.down(nn.functional.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    shape = (2, 5, 8)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(Attention(8, nn.LayerNorm), Attention(8, nn.RMSNorm))
        self.last = nn.LayerNorm(8, bias=False)

    def forward(self, x):
        return self.last(self.blocks(x))


class Residual(nn.Module):
    shape = (2, 3, 6, 6)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        # Two in a row, so that an exporter does not fold them into a convolution.
        self.stem = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.a = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.b = nn.Sequential(nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.c = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.a(x)
        return self.c(x + self.b(x)).mean((2, 3))


def pair(kind):
    """Return a model of PyTorch's layers that has been trained a little, and one converted."""
    theirs = kind()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    for seed in range(3):
        loss = theirs(normal(kind.shape, seed, torch.float32)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    theirs.zero_grad()
    return nt.convert(copy.deepcopy(theirs)), theirs


every_model = pytest.mark.parametrize("kind", [Transformer, Residual])
close = {"rtol": 1e-4, "atol": 1e-5}


def gradients(model, x):
    x = x.clone().requires_grad_()
    y = model(x)
    y.pow(3).sum().backward()
    return y, x.grad, *(each.grad for each in model.parameters())


@every_model
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(kind, backend):
    torch._dynamo.reset()
    ours, theirs = (each.double() for each in pair(kind))
    compiled = torch.compile(ours, fullgraph=True, backend=backend)
    x = normal(kind.shape, 9)
    for found, expected in zip(gradients(compiled, x), gradients(theirs, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), **close)


@every_model
@pytest.mark.parametrize("strict", [True, False])
def test_exported(kind, strict, tmp_path):
    torch._dynamo.reset()
    ours, theirs = (each.eval() for each in pair(kind))
    x = normal(kind.shape, 9, torch.float32)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(ours, (x,), dynamic_shapes=({0: batch},), strict=strict)
    assert "normcore." in str(program.graph)
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2")
    for n in (2, 7):
        x = normal((n, *kind.shape[1:]), 10, torch.float32)
        torch.testing.assert_close(program.module()(x), theirs(x), **close)
        torch.testing.assert_close(loaded.module()(x), theirs(x), **close)


NODES = {
    Transformer: {"LayerNormalization"},
    Residual: {"BatchNormalization", "InstanceNormalization"},
}


def in_onnxruntime(model, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model)
    (given,) = session.get_inputs()
    return torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])


@every_model
@legacy
def test_onnx_of_a_trace(kind):
    onnx = pytest.importorskip("onnx")
    ours, theirs = (each.eval() for each in pair(kind))
    x = normal(kind.shape, 9, torch.float32)
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(ours, (x,), file, dynamo=False, opset_version=20)
    graph = onnx.load_from_string(file.getvalue()).graph
    assert NODES[kind] <= {node.op_type for node in graph.node}
    assert len(graph.input) == 1
    x = normal(kind.shape, 10, torch.float32)
    torch.testing.assert_close(in_onnxruntime(file.getvalue(), x), theirs(x), **close)


@every_model
@legacy
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("exported", [False, True], ids=["of a model", "of a program"])
def test_onnx_of_a_graph(kind, exported):
    pytest.importorskip("onnxscript")
    ours, theirs = (each.eval() for each in pair(kind))
    x = normal(kind.shape, 9, torch.float32)
    given = torch.export.export(ours, (x,)) if exported else ours
    program = torch.onnx.export(
        given, (x,), dynamo=True, opset_version=21, optimize=False, verbose=False
    )
    graph = program.model_proto.graph
    names = {Residual: {"BatchNormalization", "GroupNormalization"}}.get(kind, NODES[kind])
    assert names <= {node.op_type for node in graph.node}
    x = normal(kind.shape, 10, torch.float32)
    found = in_onnxruntime(program.model_proto.SerializeToString(), x)
    torch.testing.assert_close(found, theirs(x), **close)


@legacy
def test_onnx_in_training_has_batch_norm_in_training():
    onnx = pytest.importorskip("onnx")
    file = io.BytesIO()
    model = nn.Sequential(nt.BatchNorm1d(3), nt.LayerNorm(3)).train()
    torch.onnx.export(
        model, (normal((4, 3), 0, torch.float32),), file,
        dynamo=False, training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False,
    )  # fmt: skip
    (node,) = (
        node for node in onnx.load_from_string(file.getvalue()).graph.node
        if node.op_type == "BatchNormalization"
    )  # fmt: skip
    assert {each.name: each.i for each in node.attribute}["training_mode"] == 1


@pytest.mark.parametrize("kind", ["layer", "rms", "group", "instance", "batch", "inference"])
def test_decompositions_are_the_operators(kind):
    """Also in what no exporter looks at."""
    from torch._decomp import decomposition_table

    from normcore.torch import batch_operators, row_operators

    x, weight, bias = normal((4, 3, 5)) + 2, normal((3,), 1), normal((3,), 2)
    arguments = (x, weight, bias, kind, {"group": 1, "instance": 3}.get(kind, 1), 0.1)
    operation = row_operators.row_norm
    if kind in ("layer", "rms"):
        arguments = (x, normal((5,), 1), None, *arguments[3:])
    elif kind == "batch":
        operation, arguments = batch_operators.batch_norm, (x, weight, bias, 0.1, "")
    elif kind == "inference":
        operation = batch_operators.batch_norm_inference
        arguments = (x, normal((3,), 4), normal((3,), 5).square(), weight, bias, 0.1)
    found = decomposition_table[operation.operator](*arguments)
    expected = operation(*arguments)
    if kind == "inference":
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        return
    torch.testing.assert_close(found[0], expected[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-10, atol=1e-10)
