"""normcore.torch's layer, group and RMS norms beside PyTorch's own."""

from __future__ import annotations

import copy
import pickle

import pytest
from torch_examples import normal, run

pytest.importorskip("torch")
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

import normcore.torch as nt
from normcore.torch import row_operators

PARAMETERS = [{}, {"elementwise_affine": False}]
CASES = [
    *(("LayerNorm", shape, (last,), options)
      for shape, last in [((7, 5), 5), ((4, 3, 5), (5,)), ((4, 3, 5), (3, 5)), ((3, 2, 4), (2, 4))]
      for options in [*PARAMETERS, {"bias": False}]),
    *(("RMSNorm", shape, (last,), options)
      for shape, last in [((7, 5), 5), ((4, 3, 5), (3, 5))]
      for options in [*PARAMETERS, {"eps": 0.1}]),
    *(("GroupNorm", shape, (groups, shape[1]), options)
      for shape in [(4, 6, 5), (3, 6, 4, 2), (3, 6)]
      for groups in (1, 2, 3)
      for options in [{}, {"affine": False}, {"bias": False}]),
]  # fmt: skip


def pair(kind, arguments, dtype=torch.float64, **options):
    """Return normcore's layer and PyTorch's, in the same state."""
    ours = getattr(nt, kind)(*arguments, dtype=dtype, **options)
    theirs = getattr(nn, kind)(*arguments, dtype=dtype, **options)
    with torch.no_grad():
        for seed, each in enumerate(ours.parameters()):
            each.copy_(normal(each.shape, 100 + seed, dtype))
    theirs.load_state_dict(ours.state_dict())
    assert repr(ours) == repr(theirs)
    return ours, theirs


def assert_agree(layers, x, dy, tolerance=1e-12):
    for found, expected in zip(*(run(each, x, dy) for each in layers), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "shape", "arguments", "options"), CASES)
def test_agrees_with_pytorch(kind, shape, arguments, options):
    ours, theirs = pair(kind, arguments, **options)
    x, dy = normal(shape) * 3 + 1, normal(shape, 1)
    assert_agree((ours, theirs), x, dy)
    assert_agree((copy.deepcopy(ours), theirs), x, dy)
    assert_agree((pickle.loads(pickle.dumps(ours)), theirs), x, dy)
    theirs.load_state_dict(ours.state_dict())
    assert_agree((nt.convert(copy.deepcopy(theirs)), nt.convert(ours, to="torch")), x, dy)


@pytest.mark.parametrize(
    ("kind", "arguments", "shape"),
    [
        ("LayerNorm", (5,), (4, 3, 5)),
        ("RMSNorm", (5,), (4, 5)),
        ("GroupNorm", (2, 4), (3, 4, 2, 2)),
    ],
)
class TestEach:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_narrow_dtypes(self, kind, arguments, shape, dtype):
        ours, _ = pair(kind, arguments, dtype, eps=1e-5)
        wide, _ = pair(kind, arguments, eps=1e-5)
        wide.load_state_dict(ours.state_dict())
        x, dy = normal(shape, dtype=dtype), normal(shape, 1, dtype=dtype)
        results = run(ours, x, dy), run(wide, x.double(), dy.double())
        unit = torch.finfo(dtype).eps
        for found, expected in zip(*results, strict=True):
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), expected, rtol=0.51 * unit, atol=unit / 100)

    def test_derivatives(self, kind, arguments, shape):
        layer, _ = pair(kind, arguments)
        x = normal(shape).requires_grad_()
        parameters = dict(layer.named_parameters())

        def call(x, *tensors):
            given = dict(zip(parameters, tensors, strict=True))
            return torch.func.functional_call(layer, given, (x,))

        assert gradcheck(call, (x, *parameters.values()))
        assert gradgradcheck(call, (x, *parameters.values()))

    def test_operators_are_sound(self, kind, arguments, shape):
        layer, _ = pair(kind, arguments)
        short = kind.removesuffix("Norm").lower()
        x, dy = normal(shape).requires_grad_(), normal(shape, 1)
        bias = getattr(layer, "bias", None)
        options = short, 2 if kind == "GroupNorm" else 1, 0.1
        opcheck(row_operators.row_norm.operator, (x, layer.weight, bias, *options))
        parts = row_operators.row_norm(x, layer.weight, bias, *options)[1]
        opcheck(row_operators._row_norm_backward.operator, (dy, x, layer.weight, parts, *options))

    def test_compiles_as_one_graph(self, kind, arguments, shape):
        torch._dynamo.reset()
        ours, theirs = pair(kind, arguments)
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
        assert_agree((compiled, theirs), normal(shape), normal(shape, 1))

    def test_views_and_empty_batches(self, kind, arguments, shape):
        ours, theirs = pair(kind, arguments)
        x = normal((2 * shape[0], *shape[1:]))[::2]
        dy = normal((1,) * len(shape)).expand(shape)
        assert_agree((ours, theirs), x, dy)
        if kind != "GroupNorm":  # PyTorch's refuses it
            assert_agree((ours, theirs), x[:0], dy[:0])

    def test_refuses_what_does_not_fit(self, kind, arguments, shape):
        layer, _ = pair(kind, arguments)
        name = kind.removesuffix("Norm").lower() + "_norm"
        for error in (ValueError, RuntimeError):  # normcore's and PyTorch's
            with pytest.raises(error, match=f"the input of {name} has"):
                layer(normal((shape[0], 7)))
        for error in (TypeError, RuntimeError):
            with pytest.raises(error, match=r"float32, but the weight .*float64"):
                layer(normal(shape, dtype=torch.float32))
        with pytest.raises(TypeError, match=f"the input of {name} must be a tensor, not ndarray"):
            layer(normal(shape).numpy())


def test_group_norm_of_channels_last():
    layers = pair("GroupNorm", (2, 4))
    x = normal((3, 4, 5, 2)).to(memory_format=torch.channels_last)
    assert_agree(layers, x, normal(x.shape, 1))
    assert layers[0](x).is_contiguous(memory_format=torch.channels_last)
