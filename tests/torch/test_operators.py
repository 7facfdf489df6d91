"""normcore.torch's operators in PyTorch's machinery: its own checks, gradients, graphs."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch_examples

pytest.importorskip("torch")
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

import normcore.torch as nt
from normcore.torch import batch_operators as operators


def normal(*shape, grad=True, **options):
    return torch_examples.normal(shape, **options).requires_grad_(grad)


def vectors(present, dtype=torch.float64):
    weight = normal(3, seed=1, dtype=dtype) if "weight" in present else None
    bias = normal(3, seed=2, dtype=dtype) if "bias" in present else None
    return weight, bias


def inputs(shape, memory):
    x = normal(*shape, grad=False)
    if memory == "channels last":
        x = x.to(memory_format=torch.channels_last)
    return x.requires_grad_()


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests():
    torch._dynamo.reset()


GIVEN = normal(3, seed=3, grad=False), normal(3, seed=4, grad=False).square() + 0.5
PARAMETERS = [("weight", "bias"), ("weight",), ()]
MEMORY = [((5, 3), None), ((4, 3, 2, 2), None), ((4, 3, 2, 2), "channels last")]


@pytest.mark.parametrize("present", PARAMETERS)
@pytest.mark.parametrize(("shape", "memory"), MEMORY)
@pytest.mark.parametrize("training", [True, False])
class TestDerivatives:
    def function(self, training, present, shape, memory):
        """Return a function of the tensors that take gradients, and those."""
        x = inputs(shape, memory)
        present_ones = [each for each in vectors(present) if each is not None]

        def call(x, *given):
            weight, bias = (*given, None, None)[:2]
            if training:
                return operators.batch_norm(x, weight, bias, 0.1, "")[0]
            return operators.batch_norm_inference(x, *GIVEN, weight, bias, 0.1)

        return call, (x, *present_ones)

    def test_first(self, training, present, shape, memory):
        assert gradcheck(*self.function(training, present, shape, memory))

    def test_second(self, training, present, shape, memory):
        assert gradgradcheck(*self.function(training, present, shape, memory))

    def test_operators_are_sound(self, training, present, shape, memory):
        x = inputs(shape, memory)
        weight, bias = vectors(present)
        if training:
            operator, arguments = operators.batch_norm, (x, weight, bias, 0.1, "")
            statistics = operator(*arguments)[1]
        else:
            operator, arguments = (
                operators.batch_norm_inference,
                (x, *GIVEN, weight, bias, 0.1),
            )
            statistics = torch.stack(GIVEN)
        opcheck(operator.operator, arguments)
        dy = normal(*shape, seed=5)
        opcheck(operators._batch_norm_backward.operator, (dy, x, weight, statistics, 0.1, ""))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (1, 3, 4, 4), (4, 1, 3, 3)])
def test_operators_in_narrow_dtypes(dtype, shape):
    weight = normal(shape[1], seed=1, dtype=torch.float32)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = normal(*shape, dtype=dtype, grad=False).to(memory_format=memory_format)
        opcheck(operators.batch_norm.operator, (x.requires_grad_(), weight, None, 1e-5, ""))


def test_third_derivative():
    x, weight = normal(4, 2), normal(2, seed=1)

    def gradient(x, weight):
        y = operators.batch_norm(x, weight, None, 0.1, "")[0]
        return torch.autograd.grad(y.pow(3).sum(), (x, weight), create_graph=True)

    assert gradgradcheck(lambda *each: gradient(*each)[0], (x, weight))


def test_second_derivative_of_parameters_alone():
    """Where the input takes no gradient, as in a first layer."""
    x, (weight, bias) = normal(5, 3, grad=False), vectors(("weight", "bias"))
    assert gradcheck(lambda *each: operators.batch_norm(x, *each, 0.1, "")[0], (weight, bias))
    assert gradgradcheck(lambda *each: operators.batch_norm(x, *each, 0.1, "")[0], (weight, bias))


def step(model, x):
    x = x.detach().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    return y, x.grad, *(each.grad for each in model.parameters())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiles_as_one_graph(backend, momentum, training, memory_format):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), nt.BatchNorm2d(3, momentum=momentum), torch.nn.ReLU()
    ).double()
    model = model.to(memory_format=memory_format).train(training)
    other = copy.deepcopy(model)
    compiled = torch.compile(other, fullgraph=True, backend=backend)
    for seed in range(3):
        x = normal(4, 2, 6, 6, seed=seed, grad=False).to(memory_format=memory_format)
        for found, expected in zip(step(compiled, x), step(model, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
            if found.ndim == 4:
                assert found.is_contiguous(memory_format=memory_format)
    for found, expected in zip(other.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert other[1].num_batches_tracked == (3 if training else 0)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiles_with_inductor(memory_format, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), nt.BatchNorm2d(3), torch.nn.ReLU())
    model = model.double().to(memory_format=memory_format)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True)
    x = normal(4, 2, 6, 6, grad=False).to(memory_format=memory_format)
    for found, expected in zip(step(compiled, x), step(model, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_compiles_for_any_batch_size():
    model = nt.BatchNorm1d(3).double()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (4, 7, 12):
        x = normal(n, 3, seed=n, grad=False)
        expected = copy.deepcopy(model)(x)
        torch.testing.assert_close(compiled(x), expected, rtol=1e-12, atol=1e-12)


def test_exports():
    model = nt.BatchNorm1d(3).double().eval()
    x = normal(4, 3, grad=False)
    program = torch.export.export(model, (x,))
    assert "normcore.batch_norm_inference" in str(program.graph)
    torch.testing.assert_close(program.module()(x), model(x))
