"""PyTorch's own table of operators, samples and errors, run with normcore's functions."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch imports it with its table")
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing._internal.common_methods_invocations import op_db

from normcore.statistics import Moments
from normcore.torch import functional
from normcore.torch.batch_operators import batch_norm
from normcore.torch.row_operators import row_norm

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def with_statistics(y, parts, eps, of_batch):
    """Return what PyTorch's native operators do: also mean and 1 / sqrt(var + eps)."""
    moments = Moments(parts.detach().numpy())
    mean, var = (torch.from_numpy(each) for each in (moments.mean, moments.var()))
    return y, mean.reshape(of_batch), (var + eps).rsqrt().reshape(of_batch)


def native_layer_norm(x, shape, weight, bias, eps):
    y = functional.layer_norm(x, shape, weight, bias, eps)
    parts = row_norm(x, weight, bias, "layer", len(shape), eps)[1]
    leading = x.ndim - len(shape)
    return with_statistics(y, parts, eps, (*x.shape[:leading], *[1] * len(shape)))


def native_group_norm(x, weight, bias, num_samples, num_channels, num_inner, num_groups, eps):
    y = functional.group_norm(x, num_groups, weight, bias, eps)
    parts = row_norm(x, weight, bias, "group", num_groups, eps)[1]
    return with_statistics(y, parts, eps, (num_samples, num_groups))


def native_batch_norm(x, weight, bias, mean, var, training, momentum, eps):
    y = functional.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
    if not training:
        return (y,)
    return with_statistics(y, batch_norm(x, weight, bias, eps, "")[1], eps, (-1,))


def legit_batch_norm(x, weight, bias, *options):
    """Take statistics or none."""
    statistics = options[:2] if len(options) == 5 else (None, None)
    return native_batch_norm(x, weight, bias, *statistics, *options[-3:])


def batch_norm_with_update(x, weight, bias, mean, var, momentum, eps):
    return native_batch_norm(x, weight, bias, mean, var, True, momentum, eps)


OURS = {
    "nn.functional.batch_norm": functional.batch_norm,
    "nn.functional.group_norm": functional.group_norm,
    "nn.functional.instance_norm": functional.instance_norm,
    "nn.functional.layer_norm": functional.layer_norm,
    "nn.functional.rms_norm": functional.rms_norm,
    "native_layer_norm": native_layer_norm,
    "native_group_norm": native_group_norm,
    "native_batch_norm": native_batch_norm,
    "_native_batch_norm_legit": legit_batch_norm,
    "_batch_norm_with_update": batch_norm_with_update,
}
OPERATORS = {each.name: each for each in op_db if each.name in OURS}
every_operator = pytest.mark.parametrize("name", OURS)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def test_the_table_has_them():
    assert OPERATORS.keys() == OURS.keys()


def samples(name, dtype, memory="as given"):
    """Yield the arguments of calls, tensors with gradients where they are of parameters."""
    torch.manual_seed(0)
    for sample in OPERATORS[name].sample_inputs("cpu", dtype, requires_grad=True):
        if memory == "not contiguous":
            sample = sample.noncontiguous()
        yield (sample.input, *sample.args), sample.kwargs


def mapped(change, arguments, options):
    """Return arguments with their tensors changed."""

    def changed(each):
        return change(each) if isinstance(each, torch.Tensor) else each

    return [changed(each) for each in arguments], {k: changed(v) for k, v in options.items()}


def own(tensor):
    """Return a copy of the same layout that records gradients if the original does."""
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    with torch.no_grad():
        copy.copy_(tensor)
    return copy.requires_grad_(tensor.requires_grad)


def wide(tensor):
    return tensor.detach().double().requires_grad_(tensor.requires_grad)


def outcome(function, arguments, options):
    """Return the results, gradients, and what the call has left in statistics; or its error."""
    try:
        results = function(*arguments, **options)
    except (ValueError, RuntimeError) as error:
        return error
    results = (results,) if isinstance(results, torch.Tensor) else results
    y = results[0]
    given = [each for each in (*arguments, *options.values()) if isinstance(each, torch.Tensor)]
    torch.manual_seed(1)
    dy = torch.randn(y.shape, dtype=torch.float64).to(torch.bfloat16)  # exact in every dtype
    if y.requires_grad:
        y.backward(dy.to(y.dtype))
    return (
        results,
        [each.grad for each in given],
        [each for each in given if not each.requires_grad],
    )


def is_refused(found, expected, arguments, options):
    """Whether PyTorch refuses a call, or normcore alone, where docs/torch.md says so."""
    eps = options.get("eps", arguments[-1])
    if type(eps) is float and eps < 0:
        assert isinstance(found, ValueError)
        assert "eps" in str(found)
    elif "batch_norm needs at least 2 axes" in str(found):
        assert expected[0][0].shape == (0,)
    elif isinstance(expected, Exception) and "is_contiguous" in str(expected):
        return True  # of PyTorch's kernel; its function makes a copy first
    elif isinstance(expected, Exception):
        assert isinstance(found, type(expected)), found
    else:
        assert not isinstance(found, Exception), found
    return isinstance(found, Exception)


@every_operator
@pytest.mark.parametrize("memory", ["as given", "not contiguous"])
def test_values_gradients_and_strides_are_pytorchs(name, memory):
    number = 0
    for arguments, options in samples(name, torch.float64, memory):
        found = outcome(OURS[name], *mapped(own, arguments, options))
        expected = outcome(OPERATORS[name].op, *mapped(own, arguments, options))
        if is_refused(found, expected, arguments, options):
            continue
        number += 1
        for ours, theirs in zip(found, expected, strict=True):
            for each, other in zip(ours, theirs, strict=False):
                if each is None or other is None:
                    assert each is other
                    continue
                torch.testing.assert_close(each, other, rtol=1e-9, atol=1e-9)
        y, of_y = found[0][0], expected[0][0]
        if y.numel():
            assert y.stride() == of_y.stride()
            assert [each is None or each.stride() for each in found[1]] == [
                each is None or each.stride() for each in expected[1]
            ]
    assert number


@every_operator
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_narrow_dtypes_are_pytorchs_float64_rounded(name, dtype):
    unit = torch.finfo(dtype).eps
    for arguments, options in samples(name, dtype):
        found = outcome(OURS[name], *mapped(own, arguments, options))
        expected = outcome(OPERATORS[name].op, *mapped(wide, arguments, options))
        if is_refused(found, expected, arguments, options):
            continue
        pairs = [(found[0][0], expected[0][0]), *zip(found[1], expected[1], strict=True)]
        for each, other in pairs:
            if each is None or other is None:
                assert each is other
                continue
            assert each.dtype == dtype
            atol = max(unit / 100, torch.finfo(dtype).tiny)
            torch.testing.assert_close(each.double(), other, rtol=0.51 * unit, atol=atol)


@every_operator
def test_derivatives(name):
    for arguments, options in samples(name, torch.float64):
        given = [*arguments, *options.values()]
        places = [i for i, each in enumerate(given) if isinstance(each, torch.Tensor)
                  and each.requires_grad]  # fmt: skip
        if not 0 < arguments[0].numel() <= 40:
            continue
        if isinstance(outcome(OURS[name], *mapped(own, arguments, options)), Exception):
            continue

        def call(*tensors, given=given, places=places, names=tuple(options)):
            filled = [own(each) if isinstance(each, torch.Tensor) else each for each in given]
            for place, each in zip(places, tensors, strict=True):
                filled[place] = each
            number = len(filled) - len(names)
            results = OURS[name](*filled[:number], **dict(zip(names, filled[number:], strict=True)))
            return results if isinstance(results, torch.Tensor) else results[0]

        tensors = [given[place].detach().requires_grad_() for place in places]
        assert gradcheck(call, tensors, check_forward_ad=True, fast_mode=True)
        assert gradgradcheck(call, tensors, fast_mode=True)


@pytest.mark.parametrize("name", [each for each in OURS if OPERATORS[each].error_inputs_func])
def test_errors_have_pytorchs_types(name):
    for each in OPERATORS[name].error_inputs("cpu"):
        sample = each.sample_input
        with pytest.raises(each.error_type):
            OPERATORS[name].op(sample.input, *sample.args, **sample.kwargs)
        with pytest.raises(each.error_type):
            OURS[name](sample.input, *sample.args, **sample.kwargs)


def test_complex_numbers_are_refused():
    """PyTorch's RMS norm takes them, and no other norm of its does."""
    x = torch.ones((2, 3), dtype=torch.complex64)
    for error in (TypeError, RuntimeError):
        with pytest.raises(error, match="must be of floating point, not torch"):
            functional.rms_norm(x, (3,))
