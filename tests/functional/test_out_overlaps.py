"""An ``out`` that shares memory with another operand is refused before any work, or right."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import normcore as nc
from normcore import functional as F

SHAPE = (12, 4, 6)
C = SHAPE[1]
#: Functions, and the operands that have the shape of x, a vector's, or a mask's.
FUNCTIONS = {
    "batch_norm": {"x": SHAPE, "gamma": (C,), "beta": (C,), "mask": (12, 6)},
    "batch_norm of samples": {"x": SHAPE, "mask": (12,)},
    "batch_norm of virtual batches": {"x": SHAPE, "gamma": (C,), "beta": (C,)},
    "batch_norm of groups": {"x": SHAPE, "gamma": (C,), "beta": (C,), "mask": (12, 6)},
    "batch_norm_inference": {
        "x": SHAPE, "mean": (C,), "var": (C,), "gamma": (C,), "beta": (C,), "mask": (12, 6),
    },
    "inference without a mask": {
        "x": SHAPE, "mean": (C,), "var": (C,), "gamma": (C,), "beta": (C,),
    },
    "batch_norm_backward": {
        "dy": SHAPE, "x": SHAPE, "gamma": (C,), "mask": (12, 6), "moments": (7, C),
    },
    "backward of virtual batches": {"dy": SHAPE, "x": SHAPE, "gamma": (C,)},
    "batch_renorm": {"x": SHAPE, "mean": (C,), "var": (C,), "gamma": (C,)},
    "renorm of virtual batches": {"x": SHAPE, "mean": (C,), "var": (C,), "gamma": (C,)},
    "batch_renorm_backward": {
        "dy": SHAPE, "x": SHAPE, "mean": (C,), "var": (C,), "gamma": (C,), "moments": (7, C),
    },
    "layer_norm": {"x": SHAPE, "gamma": (6,), "beta": (6,)},
    "layer_norm_backward": {"dy": SHAPE, "x": SHAPE, "gamma": (6,), "moments": (7, 48)},
    "rms_norm": {"x": SHAPE, "gamma": (6,)},
    "rms_norm_backward": {"dy": SHAPE, "x": SHAPE, "gamma": (6,), "moments": (7, 48)},
    "group_norm": {"x": SHAPE, "gamma": (C,), "beta": (C,)},
    "group_norm_backward": {"dy": SHAPE, "x": SHAPE, "gamma": (C,), "moments": (7, 24)},
    "instance_norm": {"x": SHAPE, "gamma": (C,), "beta": (C,)},
    "instance_norm_backward": {"dy": SHAPE, "x": SHAPE, "gamma": (C,), "moments": (7, 48)},
}  # fmt: skip
OPTIONS = {
    "batch_norm of samples": ("batch_norm", {}),
    "batch_norm of virtual batches": ("batch_norm", {"virtual_batch_size": 5}),
    "batch_norm of groups": ("batch_norm", {"groups": [0, 1, 1] * 4}),
    "inference without a mask": ("batch_norm_inference", {}),
    "backward of virtual batches": ("batch_norm_backward", {"virtual_batch_size": 6}),
    "batch_renorm": ("batch_renorm", {"r_max": 3.0, "d_max": 5.0}),
    "renorm of virtual batches": (
        "batch_renorm",
        {"r_max": 3.0, "d_max": 5.0, "virtual_batch_size": 5},
    ),
    "batch_renorm_backward": ("batch_renorm_backward", {"r_max": 3.0, "d_max": 5.0}),
    "group_norm": ("group_norm", {"num_groups": 2}),
    "group_norm_backward": ("group_norm_backward", {"num_groups": 2}),
}


def of_whole(memory, kind):
    """Return an operand and an out of shape SHAPE, and whether they have elements in common."""
    flat = memory[:624].reshape(26, 4, 6)
    return {
        "moved by one sample": (flat[1:13], flat[:12], True),
        "moved by one value": (
            memory[1:289].reshape(SHAPE), memory[:288].reshape(SHAPE), True
        ),
        "reversed": (flat[11::-1], flat[:12], True),
        "interleaved samples": (flat[1:24:2], flat[:24:2], False),
        "interleaved values": (
            memory[:576].reshape(12, 4, 12)[..., 1::2],
            memory[:576].reshape(12, 4, 12)[..., ::2], False,
        ),
        "the same": (flat[:12], flat[:12], None),
    }[kind]  # fmt: skip


def of_part(memory, kind, shape, dtype):
    """Return a smaller operand and an out that it lies in, or between the elements of."""
    size = int(np.prod(shape))
    if kind == "inside":
        inside = memory.view(dtype)[3 : 3 + size]
        return inside.reshape(shape), memory[:288].reshape(SHAPE), True
    between = memory[1::2] if dtype is np.float64 else memory[577:].view(dtype)
    return between[:size].reshape(shape), memory[:576:2].reshape(SHAPE), False


def values(name, shape, rng):
    found = rng.normal(size=shape)
    if name == "mask":
        return found > -0.8
    if name == "moments":  # of rows that all have the count that they must
        return np.stack([np.full(shape[1], 12.0), *np.zeros((3, shape[1])),
                         np.full(shape[1], 30.0), *np.zeros((2, shape[1]))])  # fmt: skip
    return np.abs(found) + 0.5 if "var" in name else found


def call(function, operands, out):
    name, options = OPTIONS.get(function, (function, {}))
    operands = dict(operands)
    if name.endswith("_backward"):
        if "virtual_batch_size" in options:
            operands["moments"] = [nc.Moments.of(36.0, np.zeros(C), np.full(C, 40.0))] * 2
        else:
            operands["moments"] = nc.Moments(operands["moments"])
    found = getattr(F, name)(**operands, **options, out=out)
    return found[0] if isinstance(found, tuple) else found


CASES = [
    (function, name, kind)
    for function, operands in FUNCTIONS.items()
    for name, shape in operands.items()
    for kind in (
        ("moved by one sample", "moved by one value", "reversed", "interleaved samples",
         "interleaved values", "the same")
        if shape == SHAPE
        else ("inside", "between")
    )
]  # fmt: skip


@pytest.mark.parametrize(("function", "name", "kind"), CASES)
def test_out_over_an_operand(function, name, kind):
    rng = np.random.default_rng(0)
    operands = {each: values(each, shape, rng) for each, shape in FUNCTIONS[function].items()}
    shape = operands[name].shape
    memory = np.zeros(30 * 24)
    if shape == SHAPE:
        placed, out, common = of_whole(memory, kind)
    else:
        placed, out, common = of_part(memory, kind, shape, bool if name == "mask" else np.float64)
    placed[...] = operands[name]
    expected = call(function, operands, np.empty_like(out))
    before = memory.tobytes()
    operands[name] = placed
    try:
        assert call(function, operands, out) is out
    except ValueError as caught:
        error = str(caught)
        assert common
        assert f"out overlaps {'the input' if shape == SHAPE else name}" in error
        assert memory.tobytes() == before
    else:  # vectors, of which there are copies
        assert not common or function == "inference without a mask"
        assert_array_equal(out, expected)


LAYERS = {
    "BatchNorm": lambda: nc.BatchNorm(C),
    "renorm": lambda: nc.BatchNorm(C, r_max=3, d_max=5),
    "virtual": lambda: nc.BatchNorm(C, virtual_batch_size=6),
    "LayerNorm": lambda: nc.LayerNorm(6),
    "RMSNorm": lambda: nc.RMSNorm(6),
    "GroupNorm": lambda: nc.GroupNorm(2, C),
    "InstanceNorm": lambda: nc.InstanceNorm(C, affine=True, track_running_stats=True),
}


@pytest.mark.parametrize("kind", ["moved by one sample", "reversed", "interleaved values"])
@pytest.mark.parametrize("name", LAYERS)
def test_out_of_layers(name, kind):
    """A refused call leaves the layer, and what backward needs, as they were."""
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, *SHAPE))
    layer, plain = LAYERS[name](), LAYERS[name]()
    for training in (True, False):
        for each in (layer, plain):
            if hasattr(each, "training"):
                each.train(training)
        y = plain(x)
        gradients = plain.backward(dy)
        memory = np.zeros(30 * 24)
        placed, out, common = of_whole(memory, kind)
        placed[...] = x
        if common:
            layer(x)
            state = {key: repr(value) for key, value in vars(layer).items() if key != "_forward"}
            with pytest.raises(ValueError, match="out overlaps the input"):
                layer(placed, out=out)
            placed[...] = dy
            with pytest.raises(ValueError, match="out overlaps the input"):
                layer.backward(placed, out=out)
            assert_array_equal(placed, dy)
            assert state == {
                key: repr(value) for key, value in vars(layer).items() if key != "_forward"
            }
            found = layer.backward(dy)
        else:
            assert_array_equal(layer(placed, out=out), y)
            upstream, dx, _ = of_whole(np.zeros(30 * 24), kind)
            upstream[...] = dy
            found = layer.backward(upstream, out=dx)
            assert found[0] is dx
        for one, other in zip(found, gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("name", sorted(nc.scalers()))
def test_out_of_scalers(name, back, dtype):
    result = np.dtype(dtype if dtype != "int64" else "float64")
    rng = np.random.default_rng(2)
    X = (rng.normal(size=(40, 6)) * 9).astype(dtype)
    options = {"n_quantiles": 10} if name == "quantile" else {}
    scaler = nc.scalers()[name](**options).fit(X)
    if back and not hasattr(scaler, "inverse_transform"):
        pytest.skip("there is no way back")
    mapped = scaler.inverse_transform if back else scaler.transform
    expected = mapped(X)
    memory = np.zeros(82 * 6)

    def pair(first, second):
        given, target = (memory.view(each)[:492].reshape(82, 6) for each in (X.dtype, result))
        return given[first], target[second]

    for placed, out in (
        pair(slice(1, 41), slice(0, 40)),
        pair(slice(39, None, -1), slice(0, 40)),
        pair(slice(1, 81, 2), slice(0, 80, 2)),
        pair(slice(0, 40), slice(0, 40)),
    ):
        placed[...] = X
        before = memory.tobytes()
        try:
            found = mapped(placed, out=out)
        except ValueError as caught:
            error = str(caught)
            assert "out overlaps" in error
            assert np.shares_memory(placed, out)
            assert memory.tobytes() == before
        else:
            assert found is out
            assert_array_equal(out, expected)
