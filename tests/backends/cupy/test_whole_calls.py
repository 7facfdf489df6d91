"""Batch norm on layouts that were met before: the bits and the errors of the general way."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from cuda_host import build
from cuda_host.comparing import assert_same as same
from cuda_host.comparing import on_host as host

import normcore as nc

pytestmark = build.needs_compiler
F = nc.functional

SHAPES = {(6, 5): 1, (3, 5, 4, 6): 1, (3, 4, 6, 8): -1, (5, 7): 0, (2, 3, 33): 1, (2, 4, 1, 1): 1}
RNG = np.random.default_rng(0)


@pytest.fixture
def generally(backend, monkeypatch):
    """Return a function that calls another the general way."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(backend, "whole_calls", None)
            return function()

    return call


@pytest.fixture
def taken(backend):
    """Return the layouts that are planned for."""
    known = backend.whole_calls.caller.known
    return lambda: [each for each in known.values() if each is not None]


def both(backend, x, dy, vectors, axis, out):
    """Return the results of a forward and a backward pass, in training and with constants."""
    gamma, beta = vectors
    target, into = out(x), out(dy)
    y, moments = F.batch_norm(x, gamma, beta, axis=axis, out=target, backend=backend)
    results = [y, moments.parts, moments.mean, moments.var(1)]
    for training in (True, False):
        given = {"axis": axis, "training": training, "backend": backend}
        results += F.batch_norm_backward(dy, x, moments, gamma, out=into, **given)
    return results


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("vectors", ["none", "float64", "float32", "float16"])
def test_the_bits_are_those_of_the_general_way(
    backend, cupy, generally, taken, shape, dtype, vectors
):
    axis = SHAPES[shape]
    for round_number in range(3):  # other addresses, other values
        x, dy = (cupy.asarray(each.astype(dtype)) for each in RNG.normal(size=(2, *shape)))
        given = [None, None]
        if vectors != "none":
            given = [
                cupy.asarray(each.astype(vectors)) for each in RNG.normal(size=(2, shape[axis]))
            ]
        for out in (lambda x: None, cupy.empty_like):
            results = both(backend, x, dy, given, axis, out)
            same(results, generally(lambda: both(backend, x, dy, given, axis, out)))  # noqa: B023
        assert len(taken()) >= 6, round_number  # more where memory is aligned in other ways


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (1, 0, 2, 3), (3, 2, 1, 0)])
def test_any_dense_memory_order_is_kept(backend, cupy, generally, order):
    memory = RNG.normal(size=(2, 4, 3, 5, 6)).astype(np.float32)
    x, dy = (cupy.asarray(each).transpose(order) for each in memory)
    results = both(backend, x, dy, (None, None), 1, lambda x: None)
    same(results, generally(lambda: both(backend, x, dy, (None, None), 1, lambda x: None)))


@pytest.mark.parametrize("channels_last", [False, True])
def test_tensors(backend, torch, generally, taken, channels_last):
    lib = torch.torch
    made = lib.from_numpy(RNG.normal(size=(2, 4, 3, 5, 6)).astype(np.float32))
    x, dy = made.contiguous()
    if channels_last:
        x, dy = (each.contiguous(memory_format=lib.channels_last) for each in (x, dy))
    vectors = lib.nn.Parameter(lib.arange(3.0)), lib.ones(3)

    def call():
        return both(backend, x, dy, vectors, 1, lambda x: None)

    results = call()
    assert len(taken()) >= 3
    for one, other in zip(results, generally(call), strict=True):
        assert type(one) is type(other)
        np.testing.assert_array_equal(host(one), host(other))
        if isinstance(one, lib.Tensor):
            assert one.stride() == other.stride()
            assert not one._is_view()


def test_results_may_take_the_place_of_inputs(backend, cupy):
    x, dy = RNG.normal(size=(2, 4, 3, 5)).astype(np.float32)
    there, upstream = cupy.asarray(x), cupy.asarray(dy)
    expected, moments = F.batch_norm(x)
    y, found = F.batch_norm(there, out=there, backend=backend)
    assert y is there
    np.testing.assert_allclose(host(y), expected, rtol=1e-6, atol=1e-6)
    again = cupy.asarray(x)
    dx, *_ = F.batch_norm_backward(upstream, again, found, out=upstream, backend=backend)
    assert dx is upstream
    wanted, *_ = F.batch_norm_backward(dy, x, moments)
    np.testing.assert_allclose(host(dx), wanted, rtol=1e-5, atol=1e-6)


PLAIN = {"x": (4, 3, 5), "gamma": (3,), "beta": (3,)}


def refused(backend, cupy, call, message):
    """Hold that a call after one that is planned for is refused as ever."""
    given = {name: cupy.asarray(np.ones(shape, np.float32)) for name, shape in PLAIN.items()}
    F.batch_norm(**given, backend=backend)
    with pytest.raises((ValueError, TypeError), match=message):
        call(given)


def overlapping(cupy):
    memory = cupy.asarray(np.ones(64, np.float32))
    return memory[:60].reshape(4, 3, 5), memory[4:].reshape(4, 3, 5)


REFUSED = {
    "a gamma of another length": (lambda c: {"gamma": c.ones(4)}, "gamma must have shape"),
    "a gamma in the result": (lambda c: {"gamma": c.ones(2)}, "gamma must have shape"),
    "an axis": (lambda c: {"axis": 3}, "axis 3 is out of range"),
    "eps": (lambda c: {"eps": -1.0}, "eps must"),
    "eps that is nothing": (lambda c: {"eps": [1.0]}, "eps"),
    "one value": (lambda c: {"x": c.ones((1, 3))}, "at least 2 values"),
    "an out of another dtype": (lambda c: {"out": c.ones((4, 3, 5))}, "out has dtype"),
    "an out of another shape": (lambda c: {"out": c.ones((4, 3, 6), np.float32)}, "out has shape"),
    "an overlap": (lambda c: dict(zip(("x", "out"), overlapping(c), strict=True)), "overlaps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_are_found(backend, cupy, name):
    change, message = REFUSED[name]
    refused(
        backend, cupy, lambda given: F.batch_norm(**given | change(cupy), backend=backend), message
    )


def test_an_out_over_a_vector_is_refused(backend, cupy):
    memory = cupy.asarray(np.ones(64, np.float32))
    x, out = cupy.asarray(np.ones((4, 3, 5), np.float32)), memory[:60].reshape(4, 3, 5)
    F.batch_norm(x, cupy.asarray(np.ones(3, np.float32)), out=out, backend=backend)
    with pytest.raises(ValueError, match="overlaps"):
        F.batch_norm(x, memory[3:6], out=out, backend=backend)


def test_gradients_of_other_moments_are_refused(backend, cupy):
    x = cupy.asarray(np.ones((4, 3, 5), np.float32))
    _, moments = F.batch_norm(x, backend=backend)
    F.batch_norm_backward(x, x, moments, backend=backend)
    wrong = F.moments(x, channel_axis=2, backend=backend)
    with pytest.raises(ValueError, match="moments are of 5 channels"):
        F.batch_norm_backward(x, x, wrong, backend=backend)
    with pytest.raises(TypeError, match="dy has dtype"):
        F.batch_norm_backward(cupy.ones((4, 3, 5)), x, moments, backend=backend)


def test_what_is_not_plain_is_done_generally(backend, cupy, taken):
    x = cupy.asarray(RNG.normal(size=(4, 3, 8, 8)))
    expected = F.batch_norm(host(x))[0]
    for given, options in (
        (x, {"mask": np.ones((4, 8, 8), bool).tolist()}),
        (x, {"gamma": np.ones(3)}),  # of the host
        (x[:, :, ::2, ::2], {}),  # gaps
        (cupy.asarray(np.arange(24).reshape(4, 3, 2)), {}),
    ):
        y, _ = F.batch_norm(given, **options, backend=backend)
        if given is x:
            np.testing.assert_allclose(host(y), expected, atol=1e-12)
    assert taken() == []


def test_threads_share_what_is_planned(backend, cupy):
    xs = [cupy.asarray(RNG.normal(size=(8, 3, 5))) for _ in range(4)]
    expected = [F.batch_norm(host(x))[0] for x in xs]
    failed = []

    def work(number):
        for _ in range(20):
            y, _ = F.batch_norm(xs[number], backend=backend)
            if not np.allclose(host(y), expected[number], atol=1e-12):
                failed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failed == []
    cupy.order.races.clear()


def test_layouts_that_are_remembered_are_bounded(backend, cupy, monkeypatch):
    known = backend.whole_calls.caller.known
    monkeypatch.setattr(known, "most", 4)
    for size in range(2, 12):
        F.batch_norm(cupy.asarray(RNG.normal(size=(size, 3))), backend=backend)
    assert len(known) <= 4
