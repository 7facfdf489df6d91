"""Tensors of any strides, empty ones included: values, gradients and strides, real and fake."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")
import torch
from torch.library import opcheck
from torch_examples import normal, run
from torch_layers import EXAMPLES, Example, labels, layouts

import normcore.torch as nt
from normcore.torch import batch_operators, row_operators

LAYOUTS = list(layouts((4, 3, 2, 3)))
assert len(LAYOUTS) >= 20
every_layer = pytest.mark.parametrize("example", EXAMPLES, ids=labels(EXAMPLES))
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def given(example, layout):
    found = layouts(example.shape).get(layout)
    if found is None:
        pytest.skip("of four axes")
    return found


@every_layer
@every_layout
def test_results_and_their_strides_are_pytorchs(example, layout):
    x = given(example, layout)
    ours, theirs = example.pair()
    if x.numel() == 0 and "Instance" in example.kind:  # PyTorch's own indexes what is not there
        assert ours(x).shape == x.shape
        return
    for dy in (normal(x.shape), torch.ones((), dtype=x.dtype).expand(x.shape), x):
        found, expected = run(ours, x, dy), run(theirs, x, dy)
        for each, other in zip(found, expected, strict=True):
            torch.testing.assert_close(each, other, rtol=1e-10, atol=1e-10)
        if x.numel():
            assert [each.stride() for each in found] == [each.stride() for each in expected]
            assert found[0].is_contiguous() == expected[0].is_contiguous()
    if x.numel() or "BatchNorm" not in example.kind:
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "sizes", [(3, 4, 1, 1), (3, 4, 2, 1), (1, 4, 1, 3), (2, 1, 3, 2), (1, 4, 1, 2, 1)]
)
def test_axes_of_one_element_in_group_norm(sizes):
    """Strides of such axes count, where PyTorch chooses the format of a group norm's results."""
    ours, theirs = Example("GroupNorm", (1, sizes[1]), sizes).pair()
    dy = normal(sizes, 1)
    for order in itertools.permutations(range(len(sizes))):
        back = [order.index(axis) for axis in range(len(sizes))]
        x = normal(sizes).permute(order).contiguous().permute(back)
        ones = [1 if size == 1 else stride for size, stride in zip(sizes, x.stride(), strict=True)]
        for each in (x, x.as_strided(sizes, ones)):
            each = each.detach().requires_grad_()
            results = [
                (y := layer(each), *torch.autograd.grad(y, each, dy)) for layer in (ours, theirs)
            ]
            torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10, check_stride=True)


@every_layer
@every_layout
def test_fake_strides_are_the_real_ones(example, layout):
    x = given(example, layout)
    layer = example.ours()
    real = run(layer, x, torch.ones(x.shape, dtype=x.dtype))
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        dy = torch.ones(x.shape, dtype=x.dtype)
        fake = run(layer, mode.from_tensor(x), dy)
    for each, other in zip(fake[:2], real[:2], strict=True):
        assert (each.shape, each.dtype, each.stride()) == (other.shape, other.dtype, other.stride())


def operators(shape):
    """Yield operators and arguments after x, of which each shape allows some."""
    channels = normal(shape[1:2], 1).requires_grad_(), normal(shape[1:2], 2).requires_grad_()
    last = normal(shape[-1:], 3).requires_grad_(), normal(shape[-1:], 4).requires_grad_()
    given = normal(shape[1:2], 5), normal(shape[1:2], 6).square()
    yield batch_operators.batch_norm, (*channels, 0.1, "")
    yield batch_operators.batch_norm_inference, (*given, *channels, 0.1)
    yield row_operators.row_norm, (*last, "layer", 1, 0.1)
    yield row_operators.row_norm, (last[0], None, "rms", 1, 0.1)
    yield row_operators.row_norm, (*channels, "group", 1, 0.1)
    yield row_operators.row_norm, (*channels, "instance", 0, 0.1)


SHAPES = [(4, 3, 2, 3), (4, 3), (3, 2, 4)]
CHECKED = [
    (shape, layout, index)
    for shape in SHAPES
    for layout in layouts(shape)
    for index in range(6)
    if len(shape) == 4 or layout in ("transposed", "expanded first", "no samples")
]


@pytest.mark.parametrize(("shape", "layout", "index"), CHECKED)
def test_operators_are_sound(shape, layout, index):
    x = layouts(shape)[layout].detach()
    operator, arguments = next(itertools.islice(operators(shape), index, None))
    opcheck(
        operator.operator,
        (x.requires_grad_(), *arguments),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
    results = operator(x, *arguments)
    statistics = (
        torch.stack(arguments[:2])
        if operator is batch_operators.batch_norm_inference
        else results[1]
    )
    weight = arguments[2 if operator is batch_operators.batch_norm_inference else 0]
    dy = torch.ones((), dtype=x.dtype).expand(x.shape)
    if operator is row_operators.row_norm:
        backward, options = row_operators._row_norm_backward, arguments[2:]
    else:
        backward, options = batch_operators._batch_norm_backward, (0.1, "")
    opcheck(
        backward.operator,
        (dy, x.detach(), weight, statistics.detach(), *options),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["expanded first", "channels last, with gaps", "transposed"])
def test_compiles_for_any_strides(training, layout):
    torch._dynamo.reset()
    example = Example("BatchNorm2d", (3,), (4, 3, 2, 3), training)
    ours, theirs = example.pair()
    x = layouts(example.shape)[layout]
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for each, other in zip(run(compiled, x, x), run(theirs, x, x), strict=True):
        torch.testing.assert_close(each, other, rtol=1e-10, atol=1e-10)
        assert each.stride() == other.stride()


def test_strided_views_are_not_copied():
    """Only what lies in another order than the result is."""
    from normcore.torch.arrays import in_order

    x = normal((6, 8))
    for each in (x, x[:, :4], x[::2], x[:, ::2]):
        assert in_order(each, torch.contiguous_format) is each
    for each in (x.t(), x[:1].expand(6, 8)):
        assert in_order(each, torch.contiguous_format) is not each
    assert nt.LayerNorm(4, dtype=x.dtype)(x[:, :4]).is_contiguous()
