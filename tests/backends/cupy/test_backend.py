"""The CuPy backend through the public face, over a fake CuPy whose kernels run on the CPU."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import DeviceArray, unwrap
from normcore_cupy import backend as cupy_backend

import normcore as nc
from normcore.array_backend import selection
from normcore.array_backend.reference import ReferenceBackend
from normcore.array_backend.status import BackendStatus
from normcore.testing.checks import check_brackets

pytestmark = build.needs_compiler


def host(array):
    assert isinstance(array, DeviceArray)
    return np.array(unwrap(array))


# -- an object among others ----------------------------------------------------------------


@pytest.mark.parametrize("scaler", [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler])
def test_what_names_a_backend_is_pickled_and_copied(registered, backend, cupy, x, scaler):
    """The one of the name is found again; one with chunks of its own is made again."""
    for each in (registered, backend, "cupy"):
        fitted = scaler(backend=each).fit(cupy.asarray(x))
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.transform(x), fitted.transform(x))
        assert copy.deepcopy(fitted).backend is each
        if each is backend:
            assert again.backend is not each
            assert again.backend._chunked.chunk_bytes == 4096
        else:
            assert again.backend == each


@pytest.mark.usefixtures("registered")
def test_layers_that_name_a_backend_are_pickled_and_copied(backend, cupy):
    batch = cupy.asarray(np.random.default_rng(0).standard_normal((6, 5, 4)))
    layer = nc.BatchNorm(5, backend=backend)
    layer(batch)
    for again in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        np.testing.assert_array_equal(
            again.eval()(batch.get()), copy.copy(layer).eval()(batch).get()
        )


def test_a_pickle_says_what_is_missing_where_it_is_opened(backend, monkeypatch):
    saved = pickle.dumps(backend)
    monkeypatch.setattr(selection, "_choices", selection._Choices(selection.catalog()))
    monkeypatch.setattr(selection, "_instances", {})
    monkeypatch.setattr(cupy_backend.CupyBackend, "probe", lambda: BackendStatus(False, "no GPU"))
    with pytest.raises(RuntimeError, match="backend 'cupy' is not ready: no GPU"):
        pickle.loads(saved)


# -- arrays in and out ---------------------------------------------------------------------


def test_arrays_of_the_device_stay_there(backend, cupy, x):
    native = cupy.asarray(x)
    expected = nc.StandardScaler().fit(x)
    scaler = nc.StandardScaler(backend=backend).fit(native)
    np.testing.assert_allclose(host(scaler.mean_), expected.mean_, rtol=2e-16)
    np.testing.assert_allclose(host(scaler.scale_), expected.scale_, rtol=1e-15)
    y = scaler.transform(native)
    same = nc.Affine(center=host(scaler.mean_), scale=host(scaler.scale_))
    reference = nc.get_backend("reference").rescale(x[:, :, None], same)[:, :, 0]
    np.testing.assert_array_equal(host(y), reference)
    np.testing.assert_allclose(host(scaler.inverse_transform(y)), x, rtol=1e-12)
    out = cupy.empty(x.shape, np.float64)
    assert scaler.transform(native, out=out) is out
    np.testing.assert_array_equal(host(out), host(y))


def test_transform_does_not_wait(backend, cupy, x):
    scaler = nc.StandardScaler(backend=backend).fit(x)
    native, out = cupy.asarray(x), cupy.empty(x.shape, np.float64)
    cupy.log.clear()
    scaler.transform(native)
    scaler.transform(native, out=out)
    assert {line for line in cupy.log if "host" in line} == set()


@pytest.mark.parametrize("scaler", [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler])
def test_host_arrays_go_through_streams_and_come_back(backend, cupy, x, scaler):
    expected = scaler().fit(x)
    cupy.log.clear()
    fitted = scaler(backend=backend).fit(x)
    np.testing.assert_allclose(fitted.scale_, expected.scale_, rtol=1e-15)
    fitted.__dict__["_affine"] = expected._affine  # what is left is the map alone
    y = fitted.transform(x)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, expected.transform(x))
    streams = {line for line in cupy.log if line.startswith("launch")}
    assert "launch on 0" not in streams
    assert len(streams) >= 2
    ordered = [line for line in cupy.log if line.endswith("waits for 0")]
    assert len(ordered) >= 2, "the streams start before the caller's stream is done"


def test_copies_run_while_values_are_counted(backend, cupy, x):
    """Of two streams, one has been given its next chunk whenever the host waits for the other."""
    view = np.repeat(x, 8, axis=0)[:, :, None]  # 66 chunks of 8 KiB
    ends = np.full((1, 3), 1e5), np.full((1, 3), 1e5 + 1.0)
    backend = cupy_backend.CupyBackend(chunk_bytes=1 << 16)
    cupy.log.clear()
    brackets = backend.brackets(view, *ends)
    check_brackets(brackets, ReferenceBackend().brackets(view, *ends))
    given = {"101": 0, "102": 0}
    waits = 0
    for line in cupy.log[:-2]:  # the last two are of closing
        *what, stream = line.split()
        if what == ["copy", "on"]:
            given[stream] += 1
        elif what[:2] == ["host", "waits"]:
            waits += 1
            assert abs(given["101"] - given["102"]) <= 1
            assert sum(given.values()) >= 2
    chunks = sum(given.values())
    assert chunks > 10
    assert waits == 2 * chunks  # for what is counted, and for what is kept
    first = [line.rpartition(" ")[0] for line in cupy.log[2:9]]
    assert first == [
        "copy on", "launch on", "launch on", "copy on", "launch on", "launch on", "host waits for",
    ]  # fmt: skip


def test_streams_are_used_again(backend, cupy, x):
    for _ in range(3):
        nc.StandardScaler(backend=backend).fit_transform(x)
    assert len({line for line in cupy.log if line.startswith("launch")}) == 2
    assert (
        len([line for line in cupy.log if line.endswith("waits for 0") and "host" not in line])
        == 12
    )


def test_context_moves_host_batches(backend, x):
    with nc.use_backend(backend):
        y = nc.MinMaxScaler().fit_transform(x)
        z, moments = nc.functional.batch_norm(x)
    np.testing.assert_array_equal(y, nc.MinMaxScaler().fit_transform(x))
    np.testing.assert_array_equal(z, nc.functional.batch_norm(x)[0])
    assert isinstance(moments.parts, np.ndarray)


def test_infinity_in_host_arrays_is_named(backend, x):
    scaler = nc.StandardScaler(backend=backend).fit(x)
    x[650, 2] = np.inf
    with pytest.raises(ValueError, match=r"column 2, first at row 650"):
        scaler.transform(x)
    with pytest.raises(ValueError, match=r"column 2, first at row 650"):
        scaler.fit(x)


def test_fit_there_and_transform_here(backend, cupy, x):
    there = nc.StandardScaler(backend=backend).fit(cupy.asarray(x))
    here = nc.StandardScaler.from_dict(there.set_params(backend=None).to_dict())
    both = nc.StandardScaler(backend=backend).fit(x)
    np.testing.assert_array_equal(
        here.transform(x), host(there.set_params(backend=backend).transform(cupy.asarray(x)))
    )
    np.testing.assert_array_equal(both.merge(here).n_samples_seen_, 1400)


@pytest.mark.parametrize("order", ["C", "F", "channels last", "sliced"])
def test_batch_norm_in_any_memory_order(backend, cupy, order):
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 4, 5, 6, 3)).astype(np.float32)
    if order == "F":
        x, dy = np.asfortranarray(x), np.asfortranarray(dy)
    elif order == "channels last":
        x, dy = (np.moveaxis(np.moveaxis(each, 1, -1).copy(), -1, 1) for each in (x, dy))
    elif order == "sliced":
        x, dy = (np.repeat(each, 2, axis=3)[:, :, :, ::2] for each in (x, dy))
    expected, device = nc.BatchNorm(5), nc.BatchNorm(5, backend=backend)
    for step in range(2):
        y = device(cupy.asarray(x))
        np.testing.assert_array_equal(host(y), expected(x))
        assert y.strides == expected(x).strides
        expected.reset_running_stats() if step else expected(x)
    for got, wanted in zip(device.backward(cupy.asarray(dy)), expected.backward(dy), strict=True):
        np.testing.assert_allclose(host(got), wanted, rtol=1e-6)
    device.eval()
    assert host(device(cupy.asarray(x))).shape == x.shape


def test_training_and_evaluation_do_not_wait(backend, cupy):
    rng = np.random.default_rng(4)
    batches = rng.standard_normal((3, 8, 5, 4))
    mask = rng.random((8, 4)) < 0.7
    expected, device = nc.BatchNorm(5), nc.BatchNorm(5, backend=backend)
    native, native_mask = cupy.asarray(batches), cupy.asarray(mask)
    nothing = cupy.asarray(np.zeros_like(mask))
    cupy.log.clear()
    for step in range(2):
        device(native[step], mask=native_mask)
        expected(batches[step], mask=mask)
    y = device(native[2], mask=nothing)  # no channel has a value
    device.eval()
    z = device(native[2])
    assert [line for line in cupy.log if "host" in line] == []
    assert not host(y).any()
    expected.eval()
    np.testing.assert_array_equal(host(z), expected(batches[2]))
    np.testing.assert_array_equal(device.running_mean, expected.running_mean)
    np.testing.assert_allclose(device.running_var, expected.running_var, rtol=1e-15)
    for got, wanted in zip(device.backward(native[0]), expected.backward(batches[0]), strict=True):
        np.testing.assert_allclose(host(got), wanted, rtol=1e-12)
    copied = pickle.loads(pickle.dumps(device.__getstate__() | {"backend": None}))
    assert isinstance(copied["_running_mean"], np.ndarray)
    device.train()
    device(batches[1])  # and on to the host
    assert isinstance(device._running_mean, np.ndarray)


def test_arrays_of_several_views_do_not_wait_either(backend, cupy, monkeypatch):
    """Every second row and column: a view for each of two samples, merged where they are."""
    x, dy = np.random.default_rng(6).standard_normal((2, 2, 5, 8, 6)).astype(np.float32)
    native, gradient = (cupy.asarray(each)[:, :, ::2, ::2] for each in (x, dy))
    x, dy = x[:, :, ::2, ::2], dy[:, :, ::2, ::2]
    launched, launch = [], backend.device.launch
    monkeypatch.setattr(
        backend.device, "launch", lambda *args: (launched.append(args[0]), launch(*args))
    )
    cupy.log.clear()
    y, moments = nc.functional.batch_norm(native, backend=backend)
    results = nc.functional.batch_norm_backward(gradient, native, moments, backend=backend)
    assert [line for line in cupy.log if "host" in line] == []
    names = [name.removesuffix("_single") for name in launched[:3]]
    assert names == ["moments", "moments", "merge_moments"]
    expected, theirs = nc.functional.batch_norm(x)
    np.testing.assert_array_equal(host(y), expected)
    wanted = nc.functional.batch_norm_backward(dy, x, theirs)
    for got, each in zip(results, wanted, strict=True):
        np.testing.assert_allclose(host(got), each, rtol=1e-5, atol=1e-6)
    extrema = nc.functional.extrema(native, channel_axis=1, backend=backend)
    assert extrema.to_host() == nc.functional.extrema(x, channel_axis=1)


def test_in_place_forward_is_noticed(backend, cupy):
    x = cupy.asarray(np.random.default_rng(2).standard_normal((6, 4)))
    layer = nc.BatchNorm(4, backend=backend)
    assert layer(x, out=x[:]) is not None
    with pytest.raises(RuntimeError, match=r"overwrote its input"):
        layer.backward(x)


def test_sums_of_host_batches(backend, x):
    dy = np.random.default_rng(3).standard_normal(x.shape)
    mask = np.arange(700) % 3 > 0
    here, there = nc.BatchNorm(3), nc.BatchNorm(3, backend=backend)
    for layer in (here, there):
        layer(x, mask=mask)
    np.testing.assert_allclose(there.running_var, here.running_var, rtol=1e-15)
    for got, wanted in zip(there.backward(dy), here.backward(dy), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)


def test_host_arrays_of_other_dtypes_are_converted(backend):
    assert backend.adopt(np.ones(2, ">f4")).dtype == np.dtype("<f4")
    assert backend.adopt(np.ones(2, np.longdouble)).dtype == np.float64
    array = np.ones(2, np.int16)
    assert backend.adopt(array) is array
