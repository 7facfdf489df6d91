"""PyTorch's own table of modules and inputs, run with normcore's layers."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch imports it with its table")
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing._internal.common_modules import module_db

import normcore.torch as nt

KINDS = {
    each.module_cls: each
    for each in module_db
    if hasattr(nt, each.module_cls.__name__) and each.module_cls.__module__.startswith("torch.nn")
}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.__name__)
both_modes = pytest.mark.parametrize("training", [True, False])


def cases(kind, training, dtype, requires_grad):
    """Yield normcore's layer, PyTorch's in the same state, and inputs."""
    info = KINDS[kind]
    torch.manual_seed(0)
    given = info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training
    )
    for each in given:
        if each.forward_input is None:
            continue
        arguments = each.constructor_input
        theirs = kind(*arguments.args, **arguments.kwargs).to(dtype).train(training)
        ours = nt.convert(copy.deepcopy(theirs))
        assert type(ours).__module__ == "normcore.torch"
        yield ours, theirs, each.forward_input.args


def test_the_table_has_them():
    assert {each.__name__ for each in KINDS} >= {
        "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d",
        "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "RMSNorm",
    }  # fmt: skip


def outcome(layer, x):
    try:
        y = layer(x)
        y.sin().sum().backward()  # the gradient of a plain sum is the noise of rounding
    except (ValueError, RuntimeError) as error:
        return error
    return y, x.grad, *(each.grad for each in layer.parameters()), *layer.buffers()


@every_kind
@both_modes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory", ["as given", "not contiguous", "channels last"])
@pytest.mark.filterwarnings("ignore:input's size at dim")
def test_forward_and_backward(kind, training, dtype, memory):
    number = 0
    for ours, theirs, (x, *_) in cases(kind, training, dtype, True):
        if memory == "not contiguous" and x.ndim:
            x = torch.stack([x, x], -1)[..., 0]
        elif memory == "channels last":
            if x.ndim not in (4, 5):
                continue
            order = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
            x = x.to(memory_format=order)
        results = [outcome(each, x.detach().clone().requires_grad_()) for each in (ours, theirs)]
        if isinstance(results[1], Exception):
            assert isinstance(results[0], type(results[1])), results[0]
            continue
        number += 1
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected)
        if x.numel():
            assert results[0][0].stride() == results[1][0].stride()
    assert number or memory == "channels last"


@every_kind
@both_modes
@pytest.mark.filterwarnings("ignore:input's size at dim")
def test_derivatives(kind, training):
    for ours, _, (x, *_) in cases(kind, training, torch.float64, True):
        if not 0 < x.numel() <= 40:
            continue
        names = [name for name, _ in ours.named_parameters()]
        layer = copy.deepcopy(ours)

        def call(x, *parameters, layer=layer, names=names):
            state = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(copy.deepcopy(layer), state, (x,))

        given = (x.detach().requires_grad_(), *layer.parameters())
        assert gradcheck(call, given)
        assert gradgradcheck(call, given)


@every_kind
@both_modes
@pytest.mark.filterwarnings("ignore:input's size at dim")
def test_errors(kind, training):
    info = KINDS[kind]
    if info.module_error_inputs_func is None:
        pytest.skip("the table has none")
    given = info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=False, training=training
    )
    for each in given:
        if each.error_on.name != "FORWARD_ERROR":
            continue
        module = each.module_error_input
        theirs = kind(*module.constructor_input.args, **module.constructor_input.kwargs)
        ours = nt.convert(theirs.double())
        with pytest.raises(each.error_type):
            ours(*module.forward_input.args)
