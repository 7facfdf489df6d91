"""Whole calls that fail, or that are not what was met before: errors, and nothing changed."""

from __future__ import annotations

import gc
import re
import threading
import weakref

import numpy as np
import pytest
from cuda_host import build
from cuda_host.fake_memory import CUDADriverError, CUDARuntimeError
from normcore_cupy import caller, compiler
from normcore_cupy.backend import CupyBackend

import normcore as nc

pytestmark = build.needs_compiler
F = nc.functional


def test_a_kernel_that_cannot_be_loaded_leaves_a_layer_as_it_was(registered, torch, monkeypatch):
    """The launch before has moved the running statistics, if it has been launched."""
    import normcore.torch as nt

    registered.device.cache_bytes = lambda: 0  # two launches
    made, layer = compiler.machine_code, nt.BatchNorm1d(3)
    x = torch.torch.arange(12.0).reshape(4, 3)

    def refused(text, *others):
        if re.search(r"__global__[^{]*\brescale", text):
            raise CUDADriverError(2)
        return made(text, *others)

    with monkeypatch.context() as patch:
        patch.setattr(compiler, "machine_code", refused)
        with pytest.raises(MemoryError, match="Free arrays of the device"):
            layer(x)
    assert layer.running_mean.tolist() == [0.0] * 3
    assert layer.num_batches_tracked == 0
    layer(x)
    assert layer.num_batches_tracked == 1


def test_counters_are_held_until_the_launch(registered, cupy, monkeypatch):
    """Another thread may have put larger ones in their place."""
    device = registered.device
    launch, lend, lent, held = device.launch, device.counters, [], []

    def counters(number):
        made = lend(number)
        lent.append(weakref.ref(made))
        device._counters.clear()
        return made

    def launched(kernel, *others):
        gc.collect()
        held.append(lent[-1]() is not None)
        return launch(kernel, *others)

    monkeypatch.setattr(device, "counters", counters)
    monkeypatch.setattr(device, "launch", launched)
    F.batch_norm(cupy.asarray(np.ones((20_000, 3), np.float32)))
    assert held
    assert all(held)


@pytest.mark.parametrize(("handle", "setting"), [(2, "0"), (0, "1"), (0, "0")])
def test_streams_of_threads_share_a_handle_and_no_memory(cupy, monkeypatch, handle, setting):
    """Kernels of two threads would count their blocks together."""
    monkeypatch.setenv("CUPY_CUDA_PER_THREAD_DEFAULT_STREAM", setting)
    cupy.streams[-1].ptr = handle
    backend = CupyBackend()
    scaler, x = nc.StandardScaler(backend=backend).fit(np.eye(3)), cupy.asarray(np.eye(3))
    lent = []

    def work():
        for _ in range(2):
            lent.append(backend.device.counters(8))
            scaler.transform(x)

    for _ in range(2):  # the second may have the number of the first
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert lent[0] is lent[1]
    assert lent[2] is lent[3]
    shared = handle == 0 and setting == "0"
    assert (lent[0] is lent[2]) == shared
    assert len(scaler._affine.backend_cache) == (1 if shared else 2)
    cupy.order.races.clear()


@pytest.fixture
def scaler():
    """Return one whose coefficients are on no device yet."""
    return nc.StandardScaler().fit(np.random.default_rng(0).normal(size=(6, 3)))


def test_no_memory_for_coefficients_says_what_to_do(registered, cupy, scaler):
    x = cupy.ones((6, 3))
    cupy.allocations_left = 0
    with pytest.raises(MemoryError, match="Free arrays of the device"):
        scaler.transform(x, out=x)
    cupy.allocations_left = None
    np.testing.assert_array_equal(x.get(), np.ones((6, 3)))


def test_coefficients_are_not_brought_into_a_graph(registered, cupy, torch, scaler):
    x = torch.torch.ones(6, 3)
    cupy.capturing.add(torch.stream)
    with pytest.raises(RuntimeError, match="cannot be captured into a CUDA graph"):
        scaler.transform(x)
    cupy.capturing.clear()
    cupy.invalidated.clear()


def test_a_forked_child_is_told_by_a_scaler(registered, cupy, monkeypatch, scaler):
    x = cupy.ones((6, 3))
    scaler.transform(x)

    def lost():
        raise CUDARuntimeError(3)

    scaler.backend = registered
    monkeypatch.setattr(caller.os, "getpid", lambda: -1)
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lost)
    with pytest.raises(RuntimeError, match="before this process was forked"):
        scaler.transform(x)


def test_nothing_is_brought_to_the_device_for_a_tensor_of_the_host(registered, monkeypatch, scaler):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(registered._launcher, "coefficients", None)
    assert registered.whole_calls.rescale(torch.ones(4, 3), scaler._affine, 1, None, None) is None


def test_a_plan_is_for_options_that_are_the_same_and_not_equal(registered, cupy):
    x = cupy.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    for call, given, others in (
        (F.batch_norm, {"axis": 1}, ({"axis": 1.0},)),
        (F.layer_norm, {"num_axes": 1}, ({"num_axes": 1.0},)),
        (F.group_norm, {"num_groups": 1}, ({"num_groups": 1.0},)),
    ):
        call(x, **given)
        for other in others:
            with pytest.raises(TypeError, match="must be an integer"):
                call(x, **other)
    known = registered.whole_calls.caller.known
    known.clear()
    F.batch_norm(x, eps=1)
    F.batch_norm(x, eps=1.0)
    assert sorted(each is not None for each in known.values()) == [False, True]


@pytest.mark.parametrize("first", [0.0, -0.0])
def test_bounds_keep_the_sign_of_zero(registered, cupy, monkeypatch, first):
    X = np.array([[-3.0], [0.0], [5.0]])
    x, results = cupy.asarray(X - 10.0), []
    for low in (first, -first):
        scaler = nc.MinMaxScaler((low, 1.0), clip=True, backend=registered).fit(X)
        results.append(scaler.transform(x).get())
        with monkeypatch.context() as patch:
            patch.setattr(registered, "whole_calls", None)
            np.testing.assert_array_equal(
                np.signbit(scaler.transform(x).get()), np.signbit(results[-1])
            )
    assert np.signbit(results[0]).any() != np.signbit(results[1]).any()


@pytest.mark.parametrize("beta", [np.ones(7), "abc"])
def test_a_beta_that_is_only_checked_is_checked(registered, cupy, beta):
    x = cupy.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    _, moments = F.batch_norm(x)
    F.batch_norm_backward(x, x, moments)
    with pytest.raises((TypeError, ValueError), match="beta must"):
        F.batch_norm_backward(x, x, moments, None, beta)
