"""Small batches on the host: tensors go to compiled kernels as they lie, by a shorter way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
import torch
from torch_examples import normal, run
from torch_layers import EXAMPLES, Example, labels, layouts

import normcore as nc
import normcore.torch as nt
from normcore.torch import arrays, running_statistics

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
BACKEND = nc.get_backend("cpu")
every_layer = pytest.mark.parametrize("example", EXAMPLES, ids=labels(EXAMPLES))


def bits(tensor):
    return tensor.detach().contiguous().view(-1).view(torch.uint8).tolist()


def step(example, x, dy):
    """Return the results of a step, and the buffers after it."""
    layer = example.ours(x.dtype)
    return *run(layer, x, dy), *layer.buffers()


def assert_same_both_ways(example, x, dy):
    """Compare with the way of arrays, bit for bit."""
    found = step(example, x, dy)
    kernels = BACKEND.memory_kernels
    BACKEND.memory_kernels = None
    try:
        expected = step(example, x, dy)
    finally:
        BACKEND.memory_kernels = kernels
    for each, other in zip(found, expected, strict=True):
        assert (each.dtype, each.shape) == (other.dtype, other.shape)
        if each.numel():
            assert each.stride() == other.stride()
            assert bits(each) == bits(other)


@every_layer
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_bits_of_the_long_way(example, dtype):
    for name, x in layouts(example.shape).items():
        x = (x * 3 + 1).to(dtype)
        if name.startswith("expanded"):
            x = x[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in x.stride())]
            x = x.expand(layouts(example.shape)[name].shape)
        for dy in (normal(x.shape, 7).to(dtype), torch.ones((), dtype=dtype).expand(x.shape), x):
            assert_same_both_ways(example, x, dy)


@pytest.mark.parametrize("large", [(70, 33), (9, 40, 6, 5), (3, 2, 200), (600, 17)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_larger_ones_too(large, dtype):
    x, dy = normal(large, 1).to(dtype) + 3, normal(large, 2).to(dtype)
    spread = "1d" if len(large) < 4 else "2d"
    kinds = [
        Example(f"BatchNorm{spread}", large[1:2], large),
        Example(f"BatchNorm{spread}", large[1:2], large, False),
        Example("LayerNorm", large[-1:], large),
        Example("RMSNorm", (large[-2:],), large),
        Example("GroupNorm", (1, large[1]), large),
        Example("GroupNorm", (large[1], large[1]), large),
    ]
    for example in kinds:
        assert_same_both_ways(example, x, dy)
        if len(large) == 4:
            assert_same_both_ways(example, x.to(memory_format=torch.channels_last), dy)


@given(st.data())
def test_any_strides(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=5)))
    axes = data.draw(st.permutations(range(len(shape))))
    gaps = [data.draw(st.integers(0, 2)) for _ in shape]
    memory = [shape[axis] + gap for axis, gap in zip(axes, gaps, strict=True)]
    x = normal(tuple(memory), 3)[tuple(slice(0, shape[axis]) for axis in axes)]
    x = x.permute([axes.index(each) for each in range(len(shape))])
    assert tuple(x.shape) == shape
    examples = [Example("LayerNorm", shape[-1:], shape), Example("GroupNorm", (1, shape[1]), shape)]
    if math.prod(shape) > shape[1]:
        kind = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}[len(shape)]
        examples.append(Example(f"BatchNorm{kind}", shape[1:2], shape))
    else:
        examples = examples[:1]
    for example in examples:
        if example.kind != "GroupNorm" or math.prod(shape) > shape[0]:
            assert_same_both_ways(example, x, normal(shape, 4))


@every_layer
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_array_is_made_of_a_tensor(example, dtype, monkeypatch):
    x, dy = example.input(dtype=dtype), normal(example.shape, 1).to(dtype)
    layer = example.ours(dtype)
    expected = run(example.ours(dtype), x, dy)

    def refuse(tensor):
        raise AssertionError(f"an array was made of a tensor of shape {tuple(tensor.shape)}")

    monkeypatch.setattr(arrays, "_Memory", refuse)
    if example.kind != "InstanceNorm1d" or not example.training:
        for each, other in zip(run(layer, x, dy), expected, strict=True):
            assert bits(each) == bits(other)
    if x.ndim == 4 and example.kind != "InstanceNorm2d":
        run(layer, x.to(memory_format=torch.channels_last), dy)


def test_running_statistics_are_seen_to_change():
    layer = nt.BatchNorm1d(3)
    before = [each._version for each in layer.buffers()]
    layer(normal((5, 3)).float())
    assert [each._version for each in layer.buffers()] == [each + 1 for each in before]
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [0.3, None])
def test_running_statistics_have_the_bits_of_operations(dtype, weight):
    layer = nt.BatchNorm1d(3, dtype=dtype)
    _, parts = nt.batchnorm.batch_norm(normal((6, 3)).to(dtype), None, None, 1e-5, "")
    mean, var = (normal((3,), seed).square().to(dtype) for seed in (1, 2))
    number = torch.tensor(4)
    given = None if weight else number
    moved = running_statistics._moved(parts, mean, var, given, weight or 0.0)
    expected = [each.clone().copy_(new) for each, new in zip((mean, var), moved, strict=True)]
    running_statistics.update(parts, mean, var, number, weight)
    assert (bits(mean), bits(var), int(number)) == (*map(bits, expected), 5)
    assert layer.num_batches_tracked == 0


def kernels_and_arguments():
    """Yield a kernel, arguments that fit, and which of them are results."""
    x, dy, vector, double = (
        normal((4, 3)),
        normal((4, 3), 1),
        normal((3,)).square(),
        normal((3,), 2),
    )
    parts = torch.empty(7, 3, dtype=torch.float64)
    kernels = BACKEND.memory_kernels
    assert kernels.batch_norm(x, None, None, 1e-5, torch.empty_like(x), parts)
    rows = torch.empty(7, 4, dtype=torch.float64)
    assert kernels.row_norm(x, None, None, 1, 1e-5, True, torch.empty_like(x), rows)
    y, one, two = torch.empty_like(x), torch.empty_like(vector), torch.empty_like(vector)
    yield kernels.batch_norm, (x, vector, double, 1e-5, y, parts.clone()), (4, 5)
    yield kernels.batch_norm_backward, (dy, x, parts, vector, 1e-5, y, one, two), (5, 6, 7)
    yield kernels.batch_norm_inference, (x, double, vector, vector, double, 1e-5, y), (6,)
    yield kernels.row_norm, (x, vector, double, 1, 1e-5, True, y, rows.clone()), (6, 7)
    given = (dy, x, rows, vector, 1, 1e-5, True, y, one, two)
    yield kernels.row_norm_backward, given, (7, 8, 9)
    groups = torch.empty(7, 12, dtype=torch.float64)
    assert kernels.group_norm(x, None, None, 3, 1e-5, torch.empty_like(x), groups)
    yield kernels.group_norm, (x, vector, double, 3, 1e-5, y, groups.clone()), (5, 6)
    yield kernels.group_norm_backward, (dy, x, groups, vector, 3, 1e-5, y, one, two), (6, 7, 8)
    yield (
        kernels.update_running,
        (parts, vector.clone(), vector.clone(), torch.tensor(1), 0.5),
        (1, 2, 3),
    )


def wrong(argument):
    """Yield what cannot stand in the place of an argument."""
    if isinstance(argument, torch.Tensor):
        yield from (argument.numpy(), argument[:-1] if argument.ndim else argument.double())
        yield argument.int() if argument.is_floating_point() else argument.float()
        yield argument.to("meta")
        if argument.is_floating_point() and argument.ndim == 2:
            yield argument.float()
    elif isinstance(argument, float):
        yield from (-1.0, math.inf) if argument < 0.1 else ()


@pytest.mark.parametrize("index", range(8))
def test_what_does_not_fit_is_left_alone(index):
    kernel, arguments, results = list(kernels_and_arguments())[index]
    before = [bits(arguments[each]) for each in results]
    for position, argument in enumerate(arguments):
        for each in wrong(argument):
            given = (*arguments[:position], each, *arguments[position + 1 :])
            assert kernel(*given) is False, (kernel, position, each)
            now = [bits(arguments[each]) for each in results]
            assert now == before
    assert kernel(*arguments) is True


def test_values_that_are_for_the_long_way_to_refuse():
    kernels, x = BACKEND.memory_kernels, normal((1, 3))
    y, parts = torch.empty_like(x), torch.empty(7, 3, dtype=torch.float64)
    assert not kernels.batch_norm(x, None, None, 1e-5, y, parts)  # one value has no variance
    var = torch.tensor([1.0, -1e-300, 1.0], dtype=x.dtype)
    assert not kernels.batch_norm_inference(x, var, var, None, None, 1e-5, y)
    assert not kernels.group_norm(x, None, None, 2, 1e-5, y, parts)
    assert not kernels.update_running(parts, var, var, None, math.nan)


def test_other_backends_go_the_long_way():
    layer, x = nt.BatchNorm1d(3, dtype=torch.float64), normal((5, 3))
    expected = layer(x)
    with nc.use_backend("reference"):
        assert arrays.memory_kernels(x) is None
        np.testing.assert_allclose(layer(x).detach(), expected.detach(), rtol=1e-14)
