"""Beyond input and output, functions and layers allocate a few MB, whatever the shapes."""

from __future__ import annotations

import pickle
import time
import tracemalloc

import numpy as np
import pytest

import normcore as nc
from normcore import functional as F

LIMIT = 6e6
ELEMENTS = 1 << 21
#: Not each with each: what a kernel allocates does not depend on both.
PLACED = [
    ("float32", "C"), ("float16", "C"), ("float64", "spaced"), ("float16", "spaced"),
    ("float32", "F"), ("float32", "channels last"), ("float64", "broadcast"),
]  # fmt: skip
of_samples = pytest.mark.parametrize(("dtype", "order"), PLACED)


@pytest.fixture(scope="module", autouse=True)
def traced():
    """Trace as long as threads may come and go: CPython must not stop while one is started."""
    tracemalloc.start()
    yield
    time.sleep(0.2)
    tracemalloc.stop()


def size_of(results, out):
    """Return the bytes of what a call returned beside ``out``."""
    if isinstance(results, nc.Moments):
        return 7 * 8 * results.num_channels
    if isinstance(results, nc.Extrema):
        return 0
    if isinstance(results, np.ndarray):
        return 0 if results is out else results.nbytes
    return sum(size_of(each, out) for each in results if each is not None)


def check(call, out=None, more=0):
    """Assert that a call allocates little more than what it returns, and more than that."""
    call()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    results = call()
    peak = tracemalloc.get_traced_memory()[1]
    beyond = (peak - before - size_of(results, out) - more) / 1e6
    assert beyond < LIMIT / 1e6, f"{beyond:.1f} MB beyond input and output"


def arrays(shape, dtype, order="C", number=3):
    """Return x, dy and an out."""
    found = []
    for seed in range(number):
        # A few values again and again: drawing as many would take longer than the test.
        values = np.random.default_rng(seed).normal(size=4093)
        if order == "channels last":
            shape_in_memory = (shape[0], *shape[2:], shape[1])
            array = np.resize(values.astype(dtype), shape_in_memory)
            found.append(np.moveaxis(array, -1, 1))
        elif order == "F":
            found.append(np.resize(values.astype(dtype), shape[::-1]).T)
        elif order == "spaced":
            wide = np.resize(values.astype(dtype), (*shape[:-1], 2 * shape[-1]))
            found.append(wide[..., ::2])
        elif order == "broadcast":
            row = np.resize(values.astype(dtype), shape[1:])
            found.append(np.broadcast_to(row, shape) if len(found) < 2 else np.empty(shape, dtype))
        else:
            found.append(np.resize(values.astype(dtype), shape))
    return found


@of_samples
@pytest.mark.parametrize(
    "shape", [(1, ELEMENTS), (3, ELEMENTS // 2), (20, 100_000), (1000, 4096), (30_000, 70)]
)
def test_rows(shape, order, dtype):
    x, dy, out = arrays(shape, dtype, order)
    gamma = np.linspace(0.5, 1.5, shape[1]) if shape[0] > 1 else None
    _, moments = F.layer_norm(x, gamma)
    vectors = 8 * shape[1] * 8 if shape[1] == 100_000 else 0  # of short rows, copies and sums
    check(lambda: F.layer_norm(x, gamma, out=out), out, vectors)
    check(lambda: F.layer_norm_backward(dy, x, moments, gamma, out=out), out, vectors)
    if order == "C":
        _, moments = F.rms_norm(x, gamma)
        check(lambda: F.rms_norm(x, gamma, out=out), out, vectors)
        vectors += 8 * shape[1]  # the kernel finds dbeta, too, of a norm that has none
        check(lambda: F.rms_norm_backward(dy, x, moments, gamma, out=out), out, vectors)


GROUPS = {
    "many tiny groups": (30_000, 64),
    "small samples": (1000, 32, 7, 9),
    "large samples": (10, 64, 56, 57),
    "few samples": (1, 8, 500, 501),
    "many channels": (3, 40_000, 20),
}


@of_samples
@pytest.mark.parametrize("kind", GROUPS)
def test_groups(kind, order, dtype):
    shape = GROUPS[kind]
    x, dy, out = arrays(shape, dtype, order)
    for function, groups in (("group_norm", (8,)), ("instance_norm", ())):
        if function == "instance_norm" and len(shape) == 2:
            continue
        if order == "broadcast" and kind == "many channels":
            continue
        _, moments = getattr(F, function)(x, *groups)
        check(lambda: getattr(F, function)(x, *groups, out=out), out)  # noqa: B023
        backward = getattr(F, f"{function}_backward")
        check(lambda: backward(dy, x, moments, *groups, out=out), out)  # noqa: B023


BATCHES = {"images": (16, 32, 64, 65), "rows": (30_000, 70), "one channel": (2_000_000, 1)}


@of_samples
@pytest.mark.parametrize("kind", BATCHES)
def test_batch_norm(kind, order, dtype):
    shape = BATCHES[kind]
    x, dy, out = arrays(shape, dtype, order)
    rest = (shape[0], *shape[2:])
    masks = [None, np.resize([True, True, False], shape[0]), np.resize([True, False], rest)]
    mean, var = np.zeros(shape[1]), np.ones(shape[1])
    for mask in masks:
        options = {"mask": mask}
        _, moments = F.batch_norm(x, **options)
        check(lambda: F.batch_norm(x, out=out, **options), out)  # noqa: B023
        check(lambda: F.batch_norm_inference(x, mean, var, out=out, **options), out)  # noqa: B023
        for training in (True, False):
            check(
                lambda: F.batch_norm_backward(
                    dy, x, moments, training=training, out=out, **options  # noqa: B023
                ), out,
            )  # fmt: skip
    for weights in masks[1:]:
        weights = weights.astype(np.float64)
        check(lambda: F.moments(x, channel_axis=1, weights=weights))  # noqa: B023
    check(lambda: F.extrema(x, channel_axis=1))


LAYERS = {
    "BatchNorm": lambda: nc.BatchNorm(32),
    "renorm": lambda: nc.BatchNorm(32, r_max=3, d_max=5),
    "virtual": lambda: nc.BatchNorm(32, virtual_batch_size=6),
    "LayerNorm": lambda: nc.LayerNorm((64, 65)),
    "RMSNorm": lambda: nc.RMSNorm((64, 65)),
    "GroupNorm": lambda: nc.GroupNorm(4, 32),
    "InstanceNorm": lambda: nc.InstanceNorm(32, affine=True, track_running_stats=True),
}


@pytest.mark.parametrize("order", ["C", "channels last"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, order):
    x, dy, out = arrays((16, 32, 64, 65), "float32", order)
    layer = LAYERS[name]()
    # Rows that are no view are copied, and so are results.
    copied = x.nbytes if name in ("LayerNorm", "RMSNorm") and order != "C" else 0
    for training in (True, False):
        if hasattr(layer, "train"):
            layer.train(training)
        check(lambda: layer(x, out=out), out, 2 * copied)
        check(lambda: layer.backward(dy, out=out), out, 3 * copied)


def test_moments_of_equal_counts():
    """What group norm of many groups returns is less than their whole state."""
    x = np.random.default_rng(0).normal(size=(10_000, 64)).astype(np.float32)
    out = np.empty_like(x)
    F.group_norm(x, 8, out=out)
    before = tracemalloc.get_traced_memory()[0]
    _, moments = F.group_norm(x, 8, out=out)
    assert tracemalloc.get_traced_memory()[0] - before < 4.1 * 8 * 80_000
    whole = F.moments(x.reshape(-1, 8), channel_axis=0)
    assert moments.num_channels == 80_000
    np.testing.assert_array_equal(moments.parts[[0, 1, 6]], whole.parts[[0, 1, 6]])
    np.testing.assert_allclose(moments.mean, whole.mean, rtol=1e-15)
    np.testing.assert_allclose(moments.select(slice(5, 9)).var(), whole.var()[5:9], rtol=1e-14)
    np.testing.assert_array_equal(moments.merge(whole).count, 16.0)
    again = pickle.loads(pickle.dumps(moments))
    np.testing.assert_array_equal(again.parts, moments.parts)


def test_moments_of_equal_counts_that_leave_float64():
    x = np.random.default_rng(0).normal(size=(20_000, 32))
    x[7_000] *= 1e200
    y, moments = F.group_norm(x, 8)
    expected, part = F.group_norm(x[6_990:7_010], 8)
    np.testing.assert_array_equal(y[6_990:7_010], expected)
    np.testing.assert_array_equal(moments.parts[:, 6_990 * 8 : 7_010 * 8], part.parts)
    dx = F.group_norm_backward(x, x, moments, 8)[0]
    np.testing.assert_array_equal(
        dx[6_990:7_010], F.group_norm_backward(x[6_990:7_010], x[6_990:7_010], part, 8)[0]
    )
