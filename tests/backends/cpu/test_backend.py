"""The CPU backend: dtypes, foreign arrays, and the kernels' own corner cases."""

from __future__ import annotations

import importlib
import threading
import time

import numpy as np
import pytest
from normcore_cpu.instruction_sets import INSTRUCTION_SETS

import normcore as nc
from normcore.affine import COEFFICIENTS, Affine
from normcore.array_backend.abstract import Backend, InfiniteInput


@pytest.fixture(scope="module")
def cpu() -> nc.Backend:
    return nc.get_backend("cpu")


def identity(cpu: nc.Backend, x: np.ndarray, dtype: type) -> np.ndarray:
    return cpu.rescale(x, Affine(), out=np.empty(x.shape, dtype))


def test_every_float16_survives(cpu) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    x = bits.view(np.float16).reshape(-1, 1, 1)
    np.testing.assert_array_equal(identity(cpu, x, np.float64), x.astype(np.float64))
    back = identity(cpu, x, np.float16)
    nan = np.isnan(x)
    expected = np.where(bits == 0x8000, 0, bits).reshape(-1, 1, 1)  # adding beta = 0 drops -0.0
    np.testing.assert_array_equal(back.view(np.uint16)[~nan], expected[~nan])
    assert np.isnan(back[nan]).all()


@pytest.mark.parametrize("shape", [(20, 3, 5), (20, 40, 5), (3, 3, 5)])
def test_slices_without_positions(cpu, shape) -> None:
    x = np.ones(shape, np.float32)[:, :, :0]
    vectors = [np.ones(shape[1])] * 4
    assert cpu.rescale(x, Affine(center=vectors[0]), out=x) is x
    assert cpu.backward_elemt(x, x, *vectors, out=x) is x
    assert not np.any(cpu.backward_reduce(x, x, vectors[0]))


@pytest.mark.parametrize("shape", [(40, 21, 1), (3, 5, 67)])
@pytest.mark.parametrize(
    ("x", "affine"),
    [
        pytest.param("any", (1.3, 0.7, 2.1, -0.4), id="ordinary"),
        pytest.param("integers", (0.0, 1.0, 1.0, 2.0**-24), id="halfway"),
        pytest.param("integers", (0.0, 3.0, 3.0, -(2.0**-24)), id="nearly halfway"),
        pytest.param("any", (0.1, 1.0, 1e9, 1e9), id="cancellation"),
        pytest.param("any", (0.0, 1.0, 1e-41, 0.0), id="subnormal result"),
        pytest.param("any", (0.0, 1e-38, 1.0, 0.0), id="overflow"),
        pytest.param("zeros", (0.0, -2.0, 1.0, -0.0), id="zeros"),
        pytest.param("wild", (1.0, 2.0, 3.0, 4.0), id="infinity and NaN"),
        pytest.param("wild", (1.0, 2.0, 0.0, 4.0), id="gamma 0"),
        pytest.param("any", (1.0, 0.0, 2.0, 1.0), id="scale 0"),
        pytest.param("any", (1.0, 1e-300, 1e-300, 0.0), id="scale and gamma tiny"),
        pytest.param("any", (1e300, 1e300, 1e300, 1.0), id="all huge"),
        pytest.param("any", (0.0, 1e-250, 1e-250, 1e-310), id="beta subnormal"),
        pytest.param("any", (np.nan, 1.0, 1.0, 0.0), id="center NaN"),
        pytest.param("any", (0.0, 1.0, 1.0, -np.inf), id="beta infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float32_is_float64_rounded_once(cpu, shape, x, affine) -> None:
    rng = np.random.default_rng(3)
    values = {
        "any": rng.standard_normal(shape),
        "integers": rng.integers(1, 2**12, shape),
        "zeros": rng.choice([0.0, -0.0, 1.0], shape),
        "wild": rng.choice([np.inf, -np.inf, np.nan, 1.0], shape),
    }[x].astype(np.float32)
    center, scale, gamma, beta = affine
    expected = (((values.astype(np.float64) - center) / scale) * gamma + beta).astype(np.float32)
    y = cpu.rescale(values, Affine(center=center, scale=scale, gamma=gamma, beta=beta))
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(y), nan)
    np.testing.assert_array_equal(y.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


@pytest.mark.parametrize("shape", [(40, 21, 1), (3, 5, 67)])
def test_every_kind_of_tie_rounds_to_even(cpu, shape) -> None:
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    for exponent in range(-30, -18):  # half a unit in the last place of some of them
        exact = x.astype(np.float64) + 2.0**exponent
        affine = Affine(beta=2.0**exponent)
        np.testing.assert_array_equal(cpu.rescale(x, affine), exact.astype(np.float32))
        in_place = x.copy()
        cpu.rescale(in_place, affine, out=in_place)
        np.testing.assert_array_equal(in_place, exact.astype(np.float32))


def test_float16_rounds_once_to_nearest_even(cpu) -> None:
    finite = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    halfway = (finite[1:] + finite[:-1]) / 2
    around = [halfway, np.nextafter(halfway, 0), np.nextafter(halfway, np.inf)]
    edge = np.array([65504, 65519.99, 65520, 1e5, 1e300, 2.0**-25, 2.0**-24, 1e-300])
    x = np.concatenate([*around, edge, np.random.default_rng(0).normal(size=10_000)])
    x = np.concatenate([x, -x]).reshape(-1, 1, 1)
    with np.errstate(over="ignore", under="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(identity(cpu, x, np.float16), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1024, 1032, 4096, 12_500, 12_512, 50_003])
@pytest.mark.parametrize("offset", [0, 16, 48])
def test_long_rows_side_by_side_have_the_bits_of_each_by_itself(
    cpu, offset, channels, dtype
) -> None:
    rows = 4 * ((1 << 24) // (4 * channels * np.dtype(dtype).itemsize)) + 7
    rng = np.random.default_rng(1)
    x = rng.normal(2.0, 3.0, (rows, channels, 1)).astype(dtype)
    affine = Affine(
        **dict(zip(COEFFICIENTS, rng.uniform(0.5, 2.0, (len(COEFFICIENTS), channels)), strict=True))
    )
    memory = np.zeros(x.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    out = memory[start : start + x.nbytes].view(dtype).reshape(x.shape)
    assert x.nbytes > 1 << 24 > x[0].nbytes
    cpu.rescale(x, affine, out=out)
    for row, found in zip(x, out, strict=True):
        np.testing.assert_array_equal(cpu.rescale(row[None], affine)[0], found)
    assert not memory[:start].any()
    assert not memory[start + x.nbytes :].any()
    x[-2, -1] = np.inf
    with pytest.raises(InfiniteInput):
        cpu.rescale(x, affine, refuse_infinite=True)


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_integers_need_no_conversion(cpu, dtype: str) -> None:
    info = np.array([False, True]) if dtype == "?" else np.iinfo(dtype)
    low, high = (0, 1) if dtype == "?" else (info.min, info.max)
    x = np.array([low, high, low, high, high], dtype=dtype).reshape(5, 1, 1)
    extrema = cpu.extrema(x)
    assert (extrema.min[0], extrema.max[0]) == (float(low), float(high))
    y = cpu.rescale(x, Affine())
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, x.astype(np.float64))


@pytest.mark.parametrize("dtype", [">f4", ">i2", np.longdouble])
def test_foreign_formats_are_converted(cpu, dtype) -> None:
    x = np.array([[1.5], [2.5], [-4.0]]).astype(dtype)
    moments = nc.functional.moments(x, channel_axis=1, backend="cpu")
    np.testing.assert_array_equal(moments.mean, x.astype(np.float64).mean())


@pytest.mark.parametrize("dtype", [">f4", ">i2", np.longdouble, object])
def test_foreign_formats_of_vectors_are_converted(cpu, dtype) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3, 1))
    vector = np.array([1.0, -2.0, 3.0])
    expected, _ = cpu.normalize(x, vector, vector, 1e-5)
    y, _ = cpu.normalize(x, vector.astype(dtype), vector.astype(dtype), 1e-5)
    np.testing.assert_array_equal(y, expected)


def test_unaligned_memory(cpu) -> None:
    raw = np.zeros(8 * 12 + 1, np.uint8)
    x = raw[1:].view(np.float64).reshape(4, 3)
    x[...] = np.arange(12.0).reshape(4, 3)
    assert not x.flags.aligned
    moments = nc.functional.moments(x, channel_axis=1, backend="cpu")
    np.testing.assert_array_equal(moments.mean, [4.5, 5.5, 6.5])


@pytest.mark.parametrize("bad", [np.array([1j]), np.array(["a"]), np.array([{}], dtype=object),
                                 np.array(["2020-01-01"], "M8[D]")])  # fmt: skip
def test_dtypes_that_are_not_real_numbers(cpu, bad: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"cannot normalize an array of dtype"):
        cpu.adopt(bad)


@pytest.mark.parametrize("channels", [2, 8, 24, 64, 100, 255])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_tables_in_long_rows(cpu, channels, dtype) -> None:
    """Rows are folded into longer ones, the last of which is not full."""
    rng = np.random.default_rng(channels)
    x = rng.normal(size=(80_000 // channels + 13, channels, 1)).astype(dtype)
    center, scale, gamma, beta = numbers = rng.uniform(1.0, 2.0, size=(4, channels, 1))
    expected = ((x - center) / scale * gamma + beta).astype(dtype)
    affine = Affine(**dict(zip(COEFFICIENTS, numbers[:, :, 0], strict=True)))
    np.testing.assert_array_equal(cpu.rescale(x, affine), expected)
    between_others = np.empty((len(x), channels + 1, 1), dtype)[:, :channels]
    np.testing.assert_array_equal(cpu.rescale(x, affine, out=between_others), expected)
    wild = x.copy()
    wild[-1, -1] = np.inf
    with pytest.raises(InfiniteInput):
        cpu.rescale(wild, affine, refuse_infinite=True)
    np.testing.assert_array_equal(cpu.rescale(x, affine, out=x), expected)


def test_infinity_is_refused_only_on_request(cpu) -> None:
    x = np.ones((700, 5, 1), np.float32)
    x[650, 3] = -np.inf
    assert cpu.rescale(x, Affine())[650, 3] == -np.inf
    with pytest.raises(InfiniteInput):
        cpu.rescale(x, Affine(), refuse_infinite=True)
    x[650, 3] = np.nan
    cpu.rescale(x, Affine(), refuse_infinite=True)


def test_activation_is_checked(cpu) -> None:
    with pytest.raises(ValueError, match="relu"):
        cpu.rescale(np.ones((2, 2, 1)), Affine(), activation="gelu")


@pytest.mark.parametrize(
    "shape", [(1000, 3, 1), (1, 2, 5000), (40, 17, 33), (1, 1, 9), (3000, 1, 1)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_brackets_against_counting(cpu, shape, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-20, 20, size=shape).astype(np.float32)
    x[rng.random(shape) < 0.02] = np.nan
    x[0, 0, 0] = np.inf
    weights = rng.integers(0, 3, size=(shape[0], shape[2])).astype(float) if weighted else None
    w = np.broadcast_to(
        np.ones((shape[0], 1, shape[2])) if weights is None else weights[:, None], shape
    )
    lower = np.array([[-5.0] * shape[1], [3.0] * shape[1], [-100.0] * shape[1]])
    upper = np.array([[4.0] * shape[1], [3.0] * shape[1], [100.0] * shape[1]])
    result = cpu.brackets(x, lower, upper, weights=weights, skipna=True)
    for c in range(shape[1]):
        v, wc = x[:, c].ravel().astype(float), w[:, c].ravel()
        v, wc = v[~np.isnan(v) & (wc > 0)], wc[~np.isnan(v) & (wc > 0)]
        assert result.count[c] == wc.sum()
        assert result.infinite[c] == np.isinf(v).sum()
        for r in range(3):
            low, high = lower[r, c], upper[r, c]
            inside = (v > low) & (v < high)
            assert result.below[r, c] == wc[v < low].sum()
            assert result.equal_lower[r, c] == wc[v == low].sum()
            assert result.inside_count[r, c] == wc[inside].sum()
            assert result.equal_upper[r, c] == (wc[v == high].sum() if high > low else 0)
            np.testing.assert_array_equal(np.sort(result.inside[r][c]), np.sort(v[inside]))
            if weighted:
                assert sorted(zip(result.inside[r][c], result.inside_weights[r][c], strict=True)) \
                    == sorted(zip(v[inside], wc[inside], strict=True))  # fmt: skip
    without = cpu.brackets(x, lower, upper, weights=weights)
    assert np.isnan(without.count).any()


def test_kernels_release_the_gil(cpu) -> None:
    x = np.random.default_rng(0).normal(size=(1_600_000, 4, 1))
    nc.set_num_threads(1)
    ticks, stop = [], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    clock = threading.Thread(target=tick)
    clock.start()
    try:
        start = end = time.perf_counter()
        calls = 0
        while end < start + 0.2:
            cpu.moments(x)
            calls += 1
            end = time.perf_counter()
    finally:
        stop.set()
        clock.join()
        nc.set_num_threads(2)
    # While a kernel held the GIL nothing would tick but once between two of them.
    assert sum(start < tick < end for tick in ticks) > 1.5 * calls


def test_no_kernel_makes_a_temporary_as_large_as_its_input(cpu) -> None:
    import tracemalloc

    x = np.zeros((500_000, 8, 1), np.float32)
    x[:, :, 0] = np.arange(8)
    out, vector = np.empty_like(x), np.zeros(8)
    tracemalloc.start()
    try:
        for kernel in (
            lambda: cpu.moments(x, skipna=True),
            lambda: cpu.extrema(x),
            lambda: cpu.rescale(x, Affine(scale=2.0), out=out),
            lambda: cpu.backward_reduce(x, x, vector),
            lambda: cpu.backward_elemt(x, x, vector, vector, vector, vector, out=out),
        ):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            kernel()
            assert tracemalloc.get_traced_memory()[1] - before < x.nbytes // 50
    finally:
        tracemalloc.stop()


def test_torch_tensors_are_viewed_and_come_back() -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(12, dtype=torch.float32).reshape(4, 3).requires_grad_()
    y, _ = nc.functional.batch_norm(x)
    assert isinstance(y, torch.Tensor)
    assert y.dtype == torch.float32
    expected = torch.nn.functional.batch_norm(x, None, None, training=True).detach()
    torch.testing.assert_close(y, expected)
    out = torch.empty(4, 3)
    result, _ = nc.functional.batch_norm(x, out=out)
    assert result is out
    torch.testing.assert_close(out, y)


def test_a_scale_of_zero_divides_as_floats_do(cpu) -> None:
    x = np.array([1.0, -1.0, 0.0]).reshape(3, 1, 1)
    y = cpu.rescale(x, Affine(scale=0.0)).ravel()
    np.testing.assert_array_equal(y, [np.inf, -np.inf, np.nan])


def test_many_tiles_of_every_kind_of_run(cpu) -> None:
    rng = np.random.default_rng(0)
    for shape in [(3000, 16, 1), (3000, 3, 1), (50, 5, 70), (1, 2, 9000), (600, 40, 3)]:
        x = rng.normal(size=shape).astype(np.float32)
        for target in (np.empty(shape, np.float32), np.empty((*shape, 2), np.float64)[..., 0]):
            y = cpu.rescale(x, Affine(center=1.0, scale=3.0), out=target)
            expected = ((x.astype(np.float64) - 1.0) / 3.0).astype(target.dtype)
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_in_one_go_has_the_bits_of_its_passes(cpu, dtype, masked, order):
    rng = np.random.default_rng(0)
    shape = tuple(np.array((60, 37, 784))[list(order)])
    x, dy = (
        rng.normal(1.0, 2.0, size=shape).astype(dtype).transpose(np.argsort(order))
        for _ in range(2)
    )
    gamma, beta = rng.uniform(-1, 2, size=(2, 37))
    options = {"mask": rng.random((60, 784)) < 0.7} if masked else {}
    for activation in (None, "relu"):
        options["activation"] = activation
        y, moments = cpu.normalize(x, gamma, beta, 1e-3, **options)
        expected, statistic = Backend.normalize(cpu, x, gamma, beta, 1e-3, **options)
        np.testing.assert_array_equal(y, expected)
        assert moments == statistic
        for training in (True, False):
            given = dy, x, moments, gamma, beta, 1e-3
            found = cpu.normalize_backward(*given, training=training, **options)
            for one, other in zip(
                found,
                Backend.normalize_backward(cpu, *given, training=training, **options),
                strict=True,
            ):
                np.testing.assert_array_equal(one, other)


def test_batch_norm_in_one_go_refuses_vectors_of_another_length(cpu):
    x = np.ones((5, 4, 1))
    with pytest.raises(ValueError, match=r"gamma has shape \(2,\), but there are 4 channels"):
        cpu.normalize(x, np.ones(2), 0.0, 1e-5)
    _, moments = cpu.normalize(x, np.ones(4, np.float32), [0, 1, 2, 3], 1e-5)
    with pytest.raises(ValueError, match="moments are of 2 channels, but x has 4"):
        cpu.normalize_backward(x, x, moments.select([0, 1]), 1.0, 0.0, 1e-5)


@pytest.mark.parametrize("shape", [(64, 4000, 1), (1, 200_000, 1), (100_000, 4, 1), (3, 5, 40_000)])
def test_element_wise_work_is_split_whatever_the_shape(cpu, shape, monkeypatch):
    tiling = importlib.import_module(f"{INSTRUCTION_SETS[cpu.instruction_set]}.tiling")
    items = []
    monkeypatch.setattr(tiling, "run", lambda task, number, **_: items.append(number))
    cpu.rescale(np.ones(shape, np.float32), Affine())
    assert items[0] >= 4
