"""nc.BatchNorm on layouts that were met before: the bits, states and errors of the general way."""

from __future__ import annotations

import copy
import pickle
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from cuda_host import build
from cuda_host.comparing import on_host

import normcore as nc
from normcore.batchnorm.layer_state import HostVectors

pytestmark = build.needs_compiler
RNG = np.random.default_rng(5)

OPTIONS = [
    {}, {"activation": "relu"}, {"momentum": None}, {"ddof": 0}, {"affine": False},
    {"affine": "beta", "activation": "relu"}, {"track_running_stats": False},
    {"single": "running"}, {"decay": 0.75},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _chosen(registered):
    """Have the backend be chosen for arrays."""


def drawn(cupy, shape=(4, 3, 5, 6), dtype="float32"):
    return cupy.asarray(RNG.normal(size=shape).astype(dtype))


def made(**options):
    """Return a layer whose vectors are the same each time."""
    layer, rng = nc.BatchNorm(3, **options), np.random.default_rng(0)
    if layer.gamma is not None:
        layer.gamma = rng.normal(size=3)
    if layer.beta is not None:
        layer.beta = rng.normal(size=3)
    return layer


def steps(layer, x, dy, mask, out):
    """Return what training, evaluation and their backward passes give."""
    results = []
    for _ in range(3):
        results += [layer(x, out(x), mask=mask), *layer.backward(dy, out(dy))]
    layer.eval()
    results += [layer(x, out(x), mask=mask), *layer.backward(dy, out(dy))]
    fresh = made(activation=layer.activation, affine=layer.affine).eval()
    results += [fresh(x, out(x), mask=mask), *fresh.backward(dy, out(dy))]
    return [each for each in results if each is not None]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_the_bits_are_those_of_the_general_way(cupy, agree, options, masked):
    x, dy = drawn(cupy), drawn(cupy)
    mask = cupy.asarray(RNG.random((4, 5, 6)) < 0.8) if masked else None
    for out in (lambda like: None, cupy.empty_like):
        states = []

        def call(out=out, states=states):
            layer = made(**options)
            results = steps(layer, x, dy, mask, out)
            if layer.track_running_stats:
                states.append((layer.running_mean, layer.running_var, layer.num_batches_tracked))
            return results

        agree(call, planned=3)
        for state in states[1:]:
            for one, other in zip(states[0], state, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("channels_last", [False, True])
def test_tensors(cupy, torch, agree, channels_last):
    lib = torch.torch
    order = lib.channels_last if channels_last else lib.contiguous_format
    x, dy = (
        lib.from_numpy(RNG.normal(size=(4, 3, 5, 6)).astype(np.float32)).contiguous(
            memory_format=order
        )
        for _ in range(2)
    )
    agree(lambda: steps(made(), x, dy, None, lambda like: None), planned=3)


def test_a_step_of_training_is_one_launch_and_so_is_its_backward_pass(cupy):
    layer, x = nc.BatchNorm(3), drawn(cupy)
    for _ in range(2):
        layer(x)
        layer.backward(x)
    before = len(cupy.order.timeline)
    cupy.launched.clear()
    layer(x)
    assert len(cupy.launched) == 1
    layer.backward(x)
    assert len(cupy.launched) == 2
    assert len(cupy.order.timeline) - before == 2  # no copy, no operation of CuPy's
    layer.eval()
    layer(x)
    cupy.launched.clear()
    before = len(cupy.order.timeline)
    layer(x)
    assert len(cupy.order.timeline) - before == len(cupy.launched) == 1


def test_evaluation_and_its_backward_pass_do_not_wait(cupy):
    layer, x = nc.BatchNorm(3), drawn(cupy)
    for _ in range(2):
        layer(x)
    layer.eval()
    before = len(cupy.order.timeline)
    for batch in (x, x[:, :, ::2]):  # planned, and generally
        layer(batch)
        layer.backward(cupy.asarray(np.ones(batch.shape, np.float32)))
    assert "to host" not in {each.engine for each in cupy.order.timeline[before:]}


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_one_of_the_running_statistics_may_be_set(cupy, name):
    """Which is of the host then, and the other one of the device."""
    layer, x, dy = nc.BatchNorm(3), drawn(cupy), drawn(cupy)
    for _ in range(2):
        layer(x)
    setattr(layer.eval(), name, [3.0, 4.0, 5.0])
    host = copy.deepcopy(layer)
    np.testing.assert_array_equal(on_host(layer(x)), host(on_host(x)))
    for one, other in zip(layer.backward(dy), host.backward(on_host(dy)), strict=True):
        np.testing.assert_allclose(on_host(one), other, rtol=1e-12)
    layer.train()
    layer(x)
    host.train()
    host(on_host(x))
    np.testing.assert_allclose(layer.running_mean, host.running_mean, rtol=1e-15)
    np.testing.assert_allclose(layer.running_var, host.running_var, rtol=1e-15)


def test_vectors_that_change_in_place_are_seen(cupy):
    layer, x = nc.BatchNorm(3), drawn(cupy)
    for training in (True, False):
        layer.train(training)
        layer(x)
        layer.gamma[1], layer.beta[2] = -2.0 - training, 3.0
        host = copy.deepcopy(layer)
        np.testing.assert_allclose(on_host(layer(x)), host(on_host(x)), rtol=1e-5, atol=1e-6)
    layer.running_mean = np.ones(3)
    layer(x)
    layer.running_mean[0] = 7.0
    host = copy.deepcopy(layer)
    np.testing.assert_allclose(on_host(layer(x)), host(on_host(x)), rtol=1e-5, atol=1e-6)


def test_copies_that_are_compared_are_those_that_are_used():
    """Another thread may change a vector at any time."""

    class Changing(np.ndarray):
        def tobytes(self, order="C"):
            found = super().tobytes(order)
            self[...] = 7.0
            return found

        def copy(self, order="C"):
            return np.array(self, order=order)

    given = np.ones(3)
    kept = HostVectors(given.view(Changing))
    assert kept.are(kept.vectors[0])
    np.testing.assert_array_equal(kept.vectors[0], 1.0)


def test_what_the_backward_pass_multiplies_by_is_of_the_forward_pass(cupy):
    layer, x, dy = nc.BatchNorm(3), drawn(cupy), drawn(cupy)
    layer(x)
    expected = on_host(layer.backward(dy)[0])
    layer(x)
    layer.gamma[:] = 5.0  # as an optimizer does
    np.testing.assert_array_equal(on_host(layer.backward(dy)[0]), expected)
    gaps = cupy.asarray(np.repeat(on_host(dy), 2, axis=3))[..., ::2]  # generally
    np.testing.assert_array_equal(on_host(layer.backward(gaps)[0]), expected)


def test_an_input_that_is_overwritten_has_no_backward_pass(cupy):
    layer, x, dy = nc.BatchNorm(3), drawn(cupy), drawn(cupy)
    expected = on_host(nc.BatchNorm(3)(x))
    assert layer(x, x) is x
    np.testing.assert_array_equal(on_host(x), expected)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        layer.backward(dy)
    layer(x)
    layer.backward(dy, x)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        layer.backward(dy)
    layer(x)
    layer.backward(dy, dy)
    layer.backward(dy)


FAILING = {
    "channels": (lambda c, x: {"x": c.ones((4, 2, 5))}, ValueError, "num_features=3"),
    "an axis": (lambda c, x: {"x": c.ones(4)}, ValueError, "at least 2 dimensions"),
    "one value": (lambda c, x: {"x": c.ones((1, 3))}, ValueError, "at least 2 values"),
    "a mask": (lambda c, x: {"mask": c.ones(5)}, TypeError, "mask must be an array of bool"),
    "out": (lambda c, x: {"out": c.ones((4, 3, 5, 6))}, TypeError, "out has dtype"),
    "an overlap": (lambda c, x: {"x": x[:3], "out": x[1:]}, ValueError, "overlaps"),
    "a list for out": (lambda c, x: {"out": [1.0]}, TypeError, "out must be an array"),
}


@pytest.mark.parametrize("name", FAILING)
def test_errors_leave_the_layer_as_it_was(cupy, name):
    change, kind, message = FAILING[name]
    layer, x = nc.BatchNorm(3, affine=False), drawn(cupy)
    for _ in range(2):
        layer(x)
    before, values = layer._running_statistics(), on_host(x)
    with pytest.raises(kind, match=message):
        layer(**{"x": x} | change(cupy, x))
    assert all(a is b for a, b in zip(layer._running_statistics(), before, strict=True))
    np.testing.assert_array_equal(on_host(x), values)
    assert layer.num_batches_tracked == 2
    layer.backward(x)  # of the batch before


@pytest.mark.parametrize("step", range(8))
def test_no_memory_leaves_the_layer_as_it_was(cupy, step):
    layer, x = nc.BatchNorm(3), drawn(cupy)
    for _ in range(2):
        layer(x)
    before = layer._running_statistics()  # where they are
    fails, expected = step < 7, 2 if step < 7 else 3
    cupy.allocations_left = step
    with pytest.raises(MemoryError, match="Free arrays of the") if fails else nullcontext():
        layer(x)
    cupy.allocations_left = None
    assert layer.num_batches_tracked == expected
    same = [a is b for a, b in zip(layer._running_statistics(), before, strict=True)]
    assert same == [expected == 2] * 2
    layer.backward(x)


def test_population_statistics_are_collected_on_the_device(cupy):
    batches = [on_host(drawn(cupy)) for _ in range(3)]
    on_device, on_cpu = nc.BatchNorm(3), nc.BatchNorm(3)
    for layer, library in ((on_device, cupy), (on_cpu, np)):
        with nc.population_statistics([layer]):
            for batch in batches:
                layer(library.asarray(batch))
    np.testing.assert_allclose(on_device.running_mean, on_cpu.running_mean, rtol=1e-15)
    np.testing.assert_allclose(on_device.running_var, on_cpu.running_var, rtol=1e-14)


def test_threads_lose_no_batch(cupy):
    layer, batches = nc.BatchNorm(3, momentum=0.5), [drawn(cupy) for _ in range(4)]
    layer(batches[0])

    def work(number):
        for _ in range(10):
            layer(batches[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert layer.num_batches_tracked == 41


def test_what_is_kept_on_devices_does_not_travel(cupy):
    layer, x = nc.BatchNorm(3), drawn(cupy)
    layer(x)
    for other in (pickle.loads(pickle.dumps(layer)), copy.copy(layer), copy.deepcopy(layer)):
        assert other._vectors is None
        other.eval()
        layer.eval()
        np.testing.assert_array_equal(on_host(other(x)), on_host(layer(x)))
