"""float16 and bfloat16, of NumPy and PyTorch: results are those of float64, rounded once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import normcore as nc
from normcore import functional
from normcore.layout.bfloat16 import cast

SHAPE = (12, 6, 5, 3)
KINDS = ["float16", "bfloat16", "torch.float16", "torch.bfloat16"]


class Kind:
    """Arrays of half precision of some library."""

    def __init__(self, name):
        library, _, dtype = name.rpartition(".")
        self.torch = pytest.importorskip("torch") if library else None
        narrow = dtype == "float16"
        self.dtype = np.dtype(np.float16 if narrow else pytest.importorskip("ml_dtypes").bfloat16)

    def of(self, values):
        """Return float64 values, which have to be of half precision, as an array of this kind."""
        if self.torch is None:
            return cast(values, self.dtype)
        return self.torch.from_numpy(np.array(values)).to(getattr(self.torch, self.dtype.name))

    def wide(self, array):
        """Return an array of this kind in float64."""
        return cast(array, np.float64) if self.torch is None else array.double().numpy()

    def rounded(self, values):
        """Return float64 values rounded once, in float64."""
        return cast(cast(values, self.dtype), np.float64)

    def draw(self, shape, seed=0):
        values = np.random.default_rng(seed).normal(1.0, 2.0, shape)
        values.reshape(-1)[:2] = 0.0, -3.0
        return self.rounded(values)

    def check(self, found, expected):
        assert type(found) is type(self.of(np.zeros(1)))
        assert found.dtype == self.of(np.zeros(1)).dtype
        np.testing.assert_array_equal(self.wide(found), self.rounded(expected))


@pytest.fixture(params=KINDS)
def kind(request):
    return Kind(request.param)


@pytest.fixture(params=["cpu", "reference"])
def options(request, kind):
    if request.param == "reference" and kind.torch is not None:
        pytest.skip("PyTorch has its own rounding there")
    return {"backend": request.param, "eps": 0.1}


NORMS = {
    "batch": (functional.batch_norm, functional.batch_norm_backward, {"axis": 1}),
    "batch, channels last": (functional.batch_norm, functional.batch_norm_backward, {"axis": -1}),
    "layer": (functional.layer_norm, functional.layer_norm_backward, {}),
    "rms": (functional.rms_norm, functional.rms_norm_backward, {"num_axes": 2}),
    "group": (functional.group_norm, functional.group_norm_backward, {"num_groups": 3}),
    "instance": (functional.instance_norm, functional.instance_norm_backward, {}),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("order", ["C", "F", "transposed"])
def test_norms(kind, options, name, order):
    forward, backward, given = NORMS[name]
    options = options | given
    x, dy = (kind.draw(SHAPE, seed) for seed in (0, 1))
    if order == "transposed":
        x, dy = (each.transpose(3, 1, 0, 2) for each in (x, dy))
    elif order == "F":
        x, dy = (np.asfortranarray(each) for each in (x, dy))
    axis = options.get("axis", 1) % 4
    shape = x.shape[-options.get("num_axes", 1) :] if name in ("layer", "rms") else (x.shape[axis],)
    vectors = [kind.draw(shape, seed) for seed in (2, 3)][: 1 if name == "rms" else 2]
    y, moments = forward(kind.of(x), **options | {"gamma": kind.of(vectors[0])})
    expected, wide = forward(x, **options | {"gamma": vectors[0]})
    kind.check(y, expected)
    np.testing.assert_allclose(np.asarray(moments.mean), wide.mean, rtol=1e-14, atol=1e-15)
    given = dict(zip(("gamma", "beta"), vectors, strict=False))
    y, _ = forward(kind.of(x), **options, **{key: kind.of(each) for key, each in given.items()})
    kind.check(y, forward(x, **options, **given)[0])
    found = backward(kind.of(dy), kind.of(x), moments, **options | {"gamma": kind.of(vectors[0])})
    expected = backward(dy, x, wide, **options | {"gamma": vectors[0]})
    kind.check(found[0], expected[0])
    for vector, right in zip(found[1:], expected[1:], strict=True):
        assert str(vector.dtype).endswith("float64")
        np.testing.assert_allclose(np.asarray(vector), right, rtol=1e-12, atol=1e-12)


def test_out_is_written_and_may_be_the_input(kind):
    x = kind.draw(SHAPE)
    expected, _ = functional.batch_norm(x, activation="relu")
    out = kind.of(np.zeros(SHAPE))
    assert functional.batch_norm(kind.of(x), activation="relu", out=out)[0] is out
    kind.check(out, expected)
    given = kind.of(x)
    assert functional.batch_norm(given, activation="relu", out=given)[0] is given
    kind.check(given, expected)
    for wrong in (np.zeros(SHAPE), np.zeros(SHAPE, np.float32)):
        with pytest.raises(TypeError, match="out"):
            functional.batch_norm(kind.of(x), out=wrong)


def test_inference_with_a_mask_and_statistics_of_half_precision(kind, options):
    x, mean, var = kind.draw(SHAPE), kind.draw(6, 1), np.abs(kind.draw(6, 2))
    mask = np.random.default_rng(3).random(12) < 0.5
    found = functional.batch_norm_inference(
        kind.of(x), kind.of(mean), kind.of(var), mask=mask, **options
    )
    kind.check(found, functional.batch_norm_inference(x, mean, var, mask=mask, **options))


def test_groups_and_virtual_batches(kind):
    x, labels = kind.draw(SHAPE), np.arange(12) % 2
    for given in ({"groups": labels}, {"virtual_batch_size": 5}):
        y, moments = functional.batch_norm(kind.of(x), **given)
        expected, wide = functional.batch_norm(x, **given)
        kind.check(y, expected)
        dx = functional.batch_norm_backward(kind.of(x), kind.of(x), moments, **given)[0]
        kind.check(dx, functional.batch_norm_backward(x, x, wide, **given)[0])


def test_statistics(kind, options):
    x = kind.draw(SHAPE)
    x[3, 2, 1, 1] = np.nan
    backend = options["backend"]
    for function, names in (
        (functional.moments, ("mean", "m2", "count")),
        (functional.extrema, ("min", "max", "count")),
        (lambda x, **given: functional.quantiles(x, [0.1, 0.5, 0.9], **given), ("values",)),
    ):
        for skipna in (False, True):
            given = {"channel_axis": 1, "skipna": skipna, "backend": backend}
            found, expected = function(kind.of(x), **given), function(x, **given)
            for name in names:
                each, right = (np.asarray(getattr(both, name)) for both in (found, expected))
                np.testing.assert_allclose(each, right, rtol=1e-14, atol=1e-14)
    weights = np.abs(kind.draw(12, 5))
    given = {"channel_axis": 1, "skipna": True, "backend": backend}
    found = functional.moments(kind.of(x), weights=kind.of(weights), **given)
    expected = functional.moments(x, weights=weights, **given)
    np.testing.assert_allclose(np.asarray(found.mean), expected.mean, rtol=1e-14)


LAYERS = {
    "BatchNorm": lambda: nc.BatchNorm(6),
    "LayerNorm": lambda: nc.LayerNorm((5, 3)),
    "RMSNorm": lambda: nc.RMSNorm(3),
    "GroupNorm": lambda: nc.GroupNorm(2, 6),
    "InstanceNorm": lambda: nc.InstanceNorm(6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(kind, name):
    narrow, wide = LAYERS[name](), LAYERS[name]()
    x, dy = kind.draw(SHAPE), kind.draw(SHAPE, 1)
    if wide.gamma is not None:
        narrow.gamma = wide.gamma = kind.draw(wide.gamma.shape, 2)
    kind.check(narrow(kind.of(x)), wide(x))
    kind.check(narrow.backward(kind.of(dy))[0], wide.backward(dy)[0])
    if name == "BatchNorm":
        np.testing.assert_allclose(narrow.running_mean, wide.running_mean, rtol=1e-14)
        kind.check(narrow.eval()(kind.of(x)), wide.eval()(x))


def test_few_long_rows(kind):
    """They are cut into pieces, which several threads normalize."""
    x = kind.draw((2, (1 << 18) + 3))
    y, moments = functional.layer_norm(kind.of(x))
    expected, wide = functional.layer_norm(x)
    kind.check(y, expected)
    dx = functional.layer_norm_backward(kind.of(x), kind.of(x), moments)[0]
    kind.check(dx, functional.layer_norm_backward(x, x, wide)[0])


def test_no_wide_copy_is_made(kind):
    if kind.torch is not None:
        pytest.skip("PyTorch's memory is not traced")
    x = kind.of(kind.draw((4096, 256)))
    out, dx = np.empty_like(x), np.empty_like(x)
    for forward, backward in (
        (functional.batch_norm, functional.batch_norm_backward),
        (functional.layer_norm, functional.layer_norm_backward),
    ):
        moments = forward(x, out=out)[1]  # what is made once is there
        tracemalloc.start()
        try:
            forward(x, out=out)
            backward(out, x, moments, out=dx)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < x.nbytes


def test_folding_into_a_convolution(kind):
    weight, mean, var = kind.draw((6, 4, 3, 3)), kind.draw(6, 1), np.abs(kind.draw(6, 2))
    given = {"where": "after"}
    found = functional.fold_batch_norm(kind.of(weight), None, kind.of(mean), kind.of(var), **given)
    expected = functional.fold_batch_norm(weight, None, mean, var, **given)
    for each, right in zip(found, expected, strict=True):
        kind.check(each, right)


def test_mixed_dtypes_are_refused(kind):
    x = kind.draw(SHAPE)
    _, moments = functional.batch_norm(kind.of(x))
    with pytest.raises(TypeError, match="dy has dtype float64"):
        functional.batch_norm_backward(x, kind.of(x), moments)
