"""The suite of the CPU backend, on the device: all dtypes, all layouts, and host arrays."""

from __future__ import annotations

import os

import cupy
import numpy as np
import pytest
from normcore_cupy.device import C_TYPES
from numpy.lib.array_utils import byte_bounds

import normcore as nc
from benchmarks.gpu import common
from normcore.layout.namespace import Array
from normcore.testing import BackendConformance, ScalerConformance
from normcore.testing.checks import check_moments

ENGINE = common.backend()


def with_strides(array: np.ndarray) -> Array:
    """Copy to the device, gaps and negative strides as they are."""
    if array.size == 0:
        return cupy.empty(array.shape, array.dtype)
    low, high = byte_bounds(array)
    memory = cupy.full(high - low, 0xC3, cupy.uint8).view(array.dtype)
    start = (array.__array_interface__["data"][0] - low) // array.itemsize
    native = cupy.lib.stride_tricks.as_strided(memory[start:], array.shape, array.strides)
    if all(array.strides):
        native[...] = cupy.asarray(np.ascontiguousarray(array))
    else:  # broadcast: every element of a stride of 0 is the same
        key = tuple(slice(None) if stride else slice(1) for stride in array.strides)
        native[key] = cupy.asarray(np.ascontiguousarray(array[key]))
    return native


class TestOnDevice(BackendConformance):
    backend = ENGINE
    dtypes = ("float64", "float32", "float16")

    def to_native(self, array: np.ndarray) -> Array:
        return with_strides(array)


class TestOnHost(BackendConformance):
    """Host arrays, in chunks so small that most have several."""

    backend = ENGINE
    dtypes = ("float64", "float32", "float16")

    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ENGINE._chunked, "chunk_bytes", 8192)


class TestStandard(ScalerConformance):
    @staticmethod
    def scaler() -> nc.AffineScaler:
        return nc.StandardScaler(backend=ENGINE)


class TestMinMax(ScalerConformance):
    @staticmethod
    def scaler() -> nc.AffineScaler:
        return nc.MinMaxScaler(backend=ENGINE)


class TestRobust(ScalerConformance):
    @staticmethod
    def scaler() -> nc.AffineScaler:
        return nc.RobustScaler(backend=ENGINE)


@pytest.mark.parametrize("shape", [(2053, 3, 1), (3, 33, 49)])
@pytest.mark.parametrize("dtype", C_TYPES)
def test_every_dtype_equals_the_reference(dtype: str, shape: tuple[int, int, int]) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    drawn = np.random.default_rng(4).integers(0, 2 if dtype == "bool" else 100, shape)
    x, reference = drawn.astype(dtype), nc.get_backend("reference")
    native, wide = cupy.asarray(x), x.astype(np.float64)
    check_moments(ENGINE.moments(native).to_host(), wide)
    assert ENGINE.extrema(native).to_host() == reference.extrema(wide)
    affine = nc.Affine(center=8.0, scale=2.0)
    y = ENGINE.rescale(native, affine)
    assert y.dtype == (x.dtype if dtype == "bfloat16" or x.dtype.kind == "f" else np.float64)
    np.testing.assert_array_equal(cupy.asnumpy(y), reference.rescale(wide, affine).astype(y.dtype))
    dx = ENGINE.backward_elemt(native, native, 0.0, 2.0, 4.0, 0.5)
    np.testing.assert_array_equal(cupy.asnumpy(dx), (1.5 * wide - 4.0).astype(y.dtype))


# -- what only a device shows --------------------------------------------------------------


@pytest.mark.parametrize("shape", ["rows", "planes"])
def test_more_elements_than_32_bits_count(shape: str) -> None:
    number = 2**31 + 2**20 + 6
    free, _ = cupy.cuda.runtime.memGetInfo()
    if free < 3 * 2 * number:
        pytest.skip(f"needs {3 * 2 * number >> 30} GiB of device memory")
    flat = cupy.zeros(number - number % 3, cupy.float16)
    flat[1::2] = 2.0
    flat[-1] = 513.0
    x = flat.reshape((-1, 3, 1) if shape == "rows" else (1, 3, -1))
    moments, extrema = ENGINE.moments(x).to_host(), ENGINE.extrema(x).to_host()
    np.testing.assert_array_equal(moments.count, x.shape[0] * x.shape[2])
    total = sum(float(each) for each in moments.mean * moments.count)
    expected = 2.0 * (flat.size // 2) + 513.0 - float(2.0 * ((flat.size - 1) % 2))
    assert abs(total - expected) <= 1e-14 * expected
    np.testing.assert_array_equal(extrema.max, [2.0, 2.0, 513.0])
    twos = flat.size // 2 - (flat.size - 1) % 2
    sum_dy, sum_dy_x = (float(cupy.sum(each)) for each in ENGINE.backward_reduce(x, x, 0.0))
    assert (sum_dy, sum_dy_x) == (2.0 * twos + 513.0, 4.0 * twos + 513.0**2)
    brackets = ENGINE.brackets(x, np.full((1, 3), 2.0), np.full((1, 3), 600.0))
    assert brackets.equal_lower.sum() == twos
    assert brackets.below.sum() == flat.size - twos - 1
    assert [each.tolist() for each in brackets.inside[0]] == [[], [], [513.0]]
    affine = nc.Affine(center=1.0, scale=2.0)
    assert ENGINE.rescale(x, affine, out=x) is x
    np.testing.assert_array_equal(cupy.asnumpy(flat[:4]), [-0.5, 0.5, -0.5, 0.5])
    assert float(flat[-1]) == 256.0
    assert float(flat[-3]) == (0.5 if (flat.size - 3) % 2 else -0.5)
    del flat, x
    cupy.get_default_memory_pool().free_all_blocks()


def test_out_of_memory_leaves_everything_as_it_was() -> None:
    x = cupy.random.standard_normal((1000, 4))
    scaler = nc.StandardScaler().fit(x)
    y = scaler.transform(x)
    free, _ = cupy.cuda.runtime.memGetInfo()
    huge = cupy.broadcast_to(x[:1], (free // 32 + (1 << 24), 4))
    with pytest.raises(MemoryError, match="chunks"):
        scaler.transform(huge)
    cupy.testing.assert_array_equal(scaler.transform(x), y)


def test_work_is_ordered_on_streams_that_are_not_the_default() -> None:
    wait = cupy.RawKernel(
        'extern "C" __global__ void wait(long long n) {'
        " for (long long start = clock64(); clock64() - start < n;); }",
        "wait",
    )
    data = cupy.random.standard_normal((1 << 16, 16))
    expected, statistic = nc.functional.batch_norm(data)
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(3)]
    cupy.cuda.Device().synchronize()
    for _ in range(20):
        results = []
        for stream in streams:
            with stream:
                x, out = cupy.full_like(data, -9.0), cupy.empty_like(data)
                wait((1,), (1,), (np.int64(20_000_000),))
                x[...] = data  # late: who does not wait for it sees -9
                y, moments = nc.functional.batch_norm(x, out=out)
                results.append((y + 0.0, moments))
                x[...] = 77.0
        for stream in streams:
            stream.synchronize()
        for y, moments in results:
            assert bool((y == expected).all())
            assert moments.to_host() == statistic.to_host()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((16, 64, 28, 28), 1), ((12_544, 64), 1), ((64, 512, 7, 7), 1)]
)
def test_one_launch_has_the_bits_of_two(
    shape: tuple[int, ...], axis: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of batch norm, on several streams at once, whose blocks all want the whole device."""
    f = nc.functional
    x, dy = (cupy.random.standard_normal(shape).astype(dtype) for _ in range(2))

    def both() -> tuple[Array, ...]:
        y, moments = f.batch_norm(x, axis=axis)
        return y, moments.parts, *f.batch_norm_backward(dy, x, moments, axis=axis)

    known = ENGINE.whole_calls.caller.known
    known.clear()
    with monkeypatch.context() as patch:
        patch.setattr(ENGINE.device, "cache_bytes", lambda: 0)
        expected = both()
    known.clear()
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(3)]
    cupy.cuda.Device().synchronize()
    results = []
    for _ in range(20):
        for stream in streams:
            with stream:
                results.append(both())
    cupy.cuda.Device().synchronize()
    for each in results:
        for one, other in zip(each, expected, strict=True):
            assert bool((one == other).all())


def test_the_same_bits_in_every_run() -> None:
    x = cupy.random.standard_normal((3_000_001, 7), dtype=cupy.float32)
    first = nc.functional.moments(x, channel_axis=1).to_host()
    for _ in range(int(os.environ.get("NORMCORE_RUNS", "50"))):
        assert nc.functional.moments(x, channel_axis=1).to_host() == first


def test_device_and_host_agree() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((200_001, 5)) * [1, 1e3, 1e-3, 1, 1] + [0, 1e7, 0, -1e5, 5]).astype(
        np.float32
    )
    for scaler in (nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler):
        here, there = scaler().fit(x), scaler().fit(cupy.asarray(x))
        scale = cupy.asnumpy(there.scale_)
        assert np.all(np.abs(here.scale_ - scale) <= 4 * np.spacing(np.abs(scale)))
        y = here.transform(x)
        there = scaler.from_dict(here.to_dict())
        np.testing.assert_array_equal(cupy.asnumpy(there.transform(cupy.asarray(x))), y)
        with nc.use_backend(ENGINE):
            np.testing.assert_array_equal(there.transform(x), y)
