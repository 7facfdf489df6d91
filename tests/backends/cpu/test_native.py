"""Native precision on the CPU: how far from exact it may be, and the same bits from every build."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normcore_cpu.instruction_sets import available
from normcore_cpu.native import NativeCpuBackend

import normcore as nc
from normcore.affine import Affine
from normcore.statistics import Moments
from normcore.testing.exact import exact_moments, exact_sqrt

F = nc.functional
BUILDS = [NativeCpuBackend(name) for name in available()]
NATIVE = NativeCpuBackend()
EPS = 1e-5
#: (N, C, S): whole lanes and others, few rows, one block of positions and several.
SHAPES = [(1, 16, 1), (2, 17, 1), (37, 40, 1), (9000, 33, 1), (5, 21, 49), (3, 16, 2500)]


def assert_same(results: list[tuple[np.ndarray, ...]]) -> None:
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert one.tobytes() == other.tobytes()


def batches(shape: tuple[int, ...], seed: int, offset: float = 0.0) -> tuple[np.ndarray, ...]:
    """x and dy in float32, gamma and beta, of channels of different magnitudes."""
    rng = np.random.default_rng(seed)
    spread = 10.0 ** rng.integers(-3, 4, size=(1, shape[1], 1))
    x = ((rng.normal(size=shape) + offset) * spread).astype(np.float32)
    dy = rng.normal(size=shape).astype(np.float32)
    return x, dy, *rng.normal(size=(2, shape[1]))


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values, in memory of other strides."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "channels last":
        return np.ascontiguousarray(array.transpose(0, 2, 1)).transpose(0, 2, 1)
    if layout == "sliced":
        return np.repeat(array, 2, axis=1)[:, ::2]
    if layout == "reversed":
        return np.ascontiguousarray(array[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    return np.ascontiguousarray(array)


LAYOUTS = ["C", "F", "channels last", "sliced", "reversed"]


def batch_results(
    backend: NativeCpuBackend, x: np.ndarray, dy: np.ndarray, gamma: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, ...]:
    """What every kernel over channels returns."""
    y, moments = backend.normalize(x, gamma, beta, EPS)
    dx, dgamma, dbeta = backend.normalize_backward(dy, x, moments, gamma, beta, EPS)
    affine = Affine(center=beta, scale=np.abs(gamma) + 0.1, gamma=gamma, beta=beta)
    vectors = moments.mean, gamma, beta * 0.1, gamma * 0.01
    return (
        y, moments.parts, dx, dgamma, dbeta, backend.moments(x).parts, backend.rescale(x, affine),
        *backend.backward_reduce(dy, x, moments.mean), backend.backward_elemt(dy, x, *vectors),
    )  # fmt: skip


def row_results(
    backend: NativeCpuBackend, x: np.ndarray, dy: np.ndarray, gamma: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, ...]:
    """What every kernel over rows returns."""
    results: tuple[np.ndarray, ...] = ()
    for centered in (True, False):
        y, moments = backend.normalize_rows(x, gamma, beta, EPS, centered=centered)
        gradients = backend.normalize_rows_backward(dy, x, moments, gamma, EPS, centered=centered)
        results += (y, moments.parts, *gradients)
    return results


# -- the same bits --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_channels_have_the_same_bits_from_every_build_layout_and_number_of_threads(
    shape, wild
) -> None:
    x, dy, gamma, beta = batches(shape, 1)
    if wild:  # some channels float32 cannot map, beside others that it can
        x[:, 1], x[:, 3] = x[:, 1] * np.float32(1e38), np.inf
        x[0, 5], gamma[2], gamma[4] = np.nan, 0.0, 1e-40
    results = [batch_results(backend, x, dy, gamma, beta) for backend in BUILDS]
    for layout in LAYOUTS:
        views = laid_out(x, layout), laid_out(dy, LAYOUTS[LAYOUTS.index(layout) - 1])
        results.append(batch_results(NATIVE, *views, gamma, beta))
    for threads in (1, 2, 5):
        with nc.use_num_threads(threads):
            results.append(batch_results(NATIVE, x, dy, gamma, beta))
    assert_same(results)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 16), (129, 100), (5, 9000), (700, 33)])
@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_have_the_same_bits_from_every_build_layout_and_number_of_threads(shape, wild) -> None:
    x, dy, gamma, beta = batches((*shape, 1), 2)
    x, dy = x[:, :, 0], dy[:, :, 0]
    if wild:
        x[0], x[-1, -1] = x[0] * np.float32(1e-40), np.nan
    results = [row_results(backend, x, dy, gamma, beta) for backend in BUILDS]
    for layout in LAYOUTS:
        views = (laid_out(each[:, :, None], layout)[:, :, 0] for each in (x, dy))
        results.append(row_results(NATIVE, *views, gamma, beta))
    for threads in (1, 2, 5):
        with nc.use_num_threads(threads):
            results.append(row_results(NATIVE, x, dy, gamma, beta))
    assert_same(results)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_results_go_to_outputs_of_any_layout_and_into_inputs(data, seed) -> None:
    shape = data.draw(st.sampled_from([(7, 16, 1), (6, 35, 5), (2, 18, 1100)]))
    x, dy, gamma, beta = batches(shape, seed)
    y, moments = NATIVE.normalize(x, gamma, beta, EPS)
    dx, *sums = NATIVE.normalize_backward(dy, x, moments, gamma, beta, EPS)
    layouts = st.sampled_from(LAYOUTS)
    target = laid_out(np.full(shape, 725, np.float32), data.draw(layouts))
    assert NATIVE.normalize(x, gamma, beta, EPS, out=target)[0] is target
    assert target.tobytes() == y.tobytes()
    views = [laid_out(each, data.draw(layouts)).copy("K") for each in (dy, x)]
    target = data.draw(st.sampled_from([views[0], views[1], target]))
    found = NATIVE.normalize_backward(*views, moments, gamma, beta, EPS, out=target)
    assert_same([(dx, *sums), found])
    inplace = laid_out(x, data.draw(layouts)).copy("K")
    NATIVE.normalize(inplace, gamma, beta, EPS, out=inplace)
    assert inplace.tobytes() == y.tobytes()


@pytest.mark.parametrize("number", [1, 2, 15, 17])
def test_samples_do_not_depend_on_those_beside_them(number) -> None:
    x, dy, gamma, beta = batches((40, 70, 1), 3)
    x, dy = x[:, :, 0], dy[:, :, 0]
    native = {"precision": "native"}

    def results(part: slice) -> tuple[np.ndarray, ...]:
        y, moments = F.layer_norm(x[part], gamma, beta, **native)
        groups, of_groups = F.group_norm(x[part], 10, gamma, beta, **native)
        return (
            y, F.layer_norm_backward(dy[part], x[part], moments, gamma, **native)[0],
            groups, F.group_norm_backward(dy[part], x[part], of_groups, 10, gamma, **native)[0],
            F.batch_norm_inference(x[part], beta, gamma**2, gamma, beta, **native),
        )  # fmt: skip

    whole = results(slice(None))
    part = results(slice(3, 3 + number))
    assert_same([tuple(each[3 : 3 + number] for each in whole), part])


@pytest.mark.parametrize("channels", [3, 16])
def test_frozen_gradients_do_not_depend_on_the_size_of_the_batch(channels) -> None:
    number = (1 << 18) + 8  # of which those in training are exact
    x, dy, gamma, _ = batches((number, channels, 1), 5)
    moments = Moments.of(np.ones(channels), np.zeros(channels), np.ones(channels))

    def dx(count: int) -> np.ndarray:
        found: np.ndarray = F.batch_norm_backward(
            dy[:count, :, 0], x[:count, :, 0], moments, gamma, training=False, precision="native"
        )[0]
        return found

    assert dx(number)[:50].tobytes() == dx(50).tobytes()


# -- how far from exact ---------------------------------------------------------------------


def unit(value: Fraction) -> Fraction:
    """The unit in the last place of a magnitude, in float32."""
    return Fraction(float(np.spacing(np.float32(float(value)))))


def worst_forward_error(x: np.ndarray, y: np.ndarray, gamma: float, beta: float) -> float:
    """The largest error of a channel, in units in the last place of both operands together."""
    moments = exact_moments(x)
    factor = Fraction(gamma) / exact_sqrt(moments.var() + Fraction(EPS))
    worst = 0.0
    for value, found in zip(x.reshape(-1).tolist(), y.reshape(-1).tolist(), strict=True):
        scaled = (Fraction(value) - moments.mean) * factor
        error = abs(Fraction(found) - scaled - Fraction(beta))
        worst = max(worst, float(error / unit(abs(scaled) + abs(Fraction(beta)))))
    return worst


def worst_gradient_error(
    x: np.ndarray, dy: np.ndarray, dx: np.ndarray, gamma: float, *, along: np.ndarray | None = None
) -> float:
    """The same of the gradient's three operands; gamma is a row's where `along` has it."""
    moments = exact_moments(x)
    values = [Fraction(each) - moments.mean for each in x.reshape(-1).tolist()]
    upstream = [Fraction(each) for each in dy.reshape(-1).tolist()]
    if along is not None:
        upstream = [
            each * Fraction(weight) for each, weight in zip(upstream, along.tolist(), strict=True)
        ]
    var = moments.var() + Fraction(EPS)
    a = Fraction(gamma) / exact_sqrt(var)
    b = a * sum(upstream) / len(values)
    d = a * sum(g * v for g, v in zip(upstream, values, strict=True)) / len(values) / var
    worst = 0.0
    for value, g, found in zip(values, upstream, dx.reshape(-1).tolist(), strict=True):
        error = abs(Fraction(found) - (a * g - b - d * value))
        operands = abs(a * g) + abs(b) + abs(d * value)
        worst = max(worst, float(error / unit(operands)))
    return worst


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    offset=st.sampled_from([0.0, 1.0, 30.0, 1e3, 1e6]),
    number=st.sampled_from([2, 3, 20, 100]),
    inner=st.sampled_from([1, 4]),
)
def test_elements_are_within_two_units_in_the_last_place(seed, offset, number, inner) -> None:
    x, dy, gamma, beta = batches((number, 16, inner), seed, offset)
    beta[:4] = 0.0, 1.0, -1.0, 1e-3
    y, moments = NATIVE.normalize(x, gamma, beta, EPS)
    dx, _, _ = NATIVE.normalize_backward(dy, x, moments, gamma, beta, EPS)
    for c in range(6):
        assert worst_forward_error(x[:, c], y[:, c], gamma[c], beta[c]) <= 2
        assert worst_gradient_error(x[:, c], dy[:, c], dx[:, c], gamma[c]) <= 3


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    offset=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    columns=st.sampled_from([2, 3, 20, 100]),
)
def test_rows_are_within_four_units_in_the_last_place(seed, offset, columns) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(4, columns)) + offset).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)
    gamma, beta = rng.normal(size=(2, columns)).astype(np.float32).astype(np.float64)
    y, moments = NATIVE.normalize_rows(x, gamma, beta, EPS)
    dx, _, _ = NATIVE.normalize_rows_backward(dy, x, moments, gamma, EPS)
    for row in range(4):
        exact = exact_moments(x[row])
        scale = exact_sqrt(exact.var() + Fraction(EPS))
        for i in range(columns):
            scaled = (Fraction(float(x[row, i])) - exact.mean) * Fraction(gamma[i]) / scale
            error = abs(Fraction(float(y[row, i])) - scaled - Fraction(beta[i]))
            assert error <= 4 * unit(abs(scaled) + abs(Fraction(beta[i])))
        assert worst_gradient_error(x[row], dy[row], dx[row], 1.0, along=gamma) <= 4


@pytest.mark.parametrize("shape", [(70000, 17, 1), (2, 16, 60000), (257, 18, 1)])
@pytest.mark.parametrize("first", [0.0, 1e5])
def test_statistics_are_float64_sums_whatever_the_first_value(shape, first) -> None:
    x, dy, *_ = batches(shape, 5, 3.0)
    x[0, :, 0] += np.float32(first)
    found, exact = NATIVE.moments(x), nc.get_backend("cpu").moments(x)
    assert np.all(np.abs(found.mean - exact.mean) <= 1e-13 * (exact.std() + np.abs(exact.mean)))
    np.testing.assert_allclose(found.var(), exact.var(), rtol=1e-11)
    np.testing.assert_array_equal(found.count, exact.count)
    sums = NATIVE.backward_reduce(dy, x, found.mean)
    for one, other in zip(
        sums, nc.get_backend("cpu").backward_reduce(dy, x, found.mean), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-8 * np.abs(other).max())


@pytest.mark.parametrize("value", [0.0, 1.5, 1e-3, 123456.789, -3e38])
def test_constants_have_no_variance(value) -> None:
    moments = NATIVE.moments(np.full((9001, 16, 1), value, np.float32))
    np.testing.assert_array_equal(moments.m2, 0.0)
    np.testing.assert_array_equal(moments.mean, np.float32(value))


# -- values at the ends of float32 ----------------------------------------------------------


@pytest.mark.parametrize("magnitude", [1e-44, 1e-40, 1e-30, 1e-20, 1e20, 1e30, 3e37, 1.5e38])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_magnitudes_that_float32_cannot_square_or_divide(magnitude, eps) -> None:
    rng = np.random.default_rng(6)
    x = (rng.uniform(-2, 2, size=(64, 20)) * magnitude).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)
    gamma, beta = rng.normal(size=(2, 20))
    for forward, backward in (
        (F.batch_norm, F.batch_norm_backward), (F.layer_norm, F.layer_norm_backward)
    ):  # fmt: skip
        results = []
        for precision in ("exact", "native"):
            options = {"eps": eps, "precision": precision}
            y, moments = forward(x, gamma, beta, **options)
            results.append((y, *backward(dy, x, moments, gamma, **options)))
        for exact, native in zip(*results, strict=True):
            np.testing.assert_array_equal(np.isfinite(exact), np.isfinite(native))
            finite = np.isfinite(exact)
            largest = np.abs(exact[finite]).max(initial=0.0)
            np.testing.assert_allclose(
                native[finite], exact[finite], rtol=1e-5, atol=1e-6 * float(largest) + 3e-45
            )


@pytest.mark.parametrize("shape", [(50, 20, 1), (5, 20, 30)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite_propagates_as_exactly(shape) -> None:
    x, dy, gamma, beta = batches(shape, 7)
    x[0, 0], x[1, 1], x[2, 2, 0], x[3, 2, 0] = np.nan, np.inf, np.inf, -np.inf
    dy[1, 3], dy[2, 4] = np.nan, -np.inf
    exact, native = nc.get_backend("cpu"), NATIVE
    results = []
    for backend in (exact, native):
        y, moments = backend.normalize(x, gamma, beta, EPS)
        dx, dgamma, dbeta = backend.normalize_backward(dy, x, moments, gamma, beta, EPS)
        results.append((y, moments.mean, moments.var(), dx, dgamma, dbeta))
    for one, other in zip(*results, strict=True):
        for test in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(test(one), test(other))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_that_are_not_finite_leave_the_others_alone() -> None:
    x, dy, gamma, beta = batches((40, 33, 1), 8)
    x, dy = x[:, :, 0], dy[:, :, 0]
    clean = NATIVE.normalize_rows(x, gamma, beta, EPS)[0].copy()
    x[3, 5], x[4], x[7, 0], x[7, 1] = np.nan, np.inf, np.inf, -np.inf
    y, moments = NATIVE.normalize_rows(x, gamma, beta, EPS)
    wild = np.isin(np.arange(40), [3, 4, 7])
    assert np.isnan(y[wild]).all()
    assert y[~wild].tobytes() == clean[~wild].tobytes()
    exact = nc.get_backend("cpu").normalize_rows(x, gamma, beta, EPS)[1]
    np.testing.assert_array_equal(np.isnan(moments.mean), np.isnan(exact.mean))
    np.testing.assert_array_equal(np.isnan(moments.var()), np.isnan(exact.var()))
    dx = NATIVE.normalize_rows_backward(dy, x, moments, gamma, EPS)[0]
    np.testing.assert_array_equal(np.isnan(dx).any(axis=1), wild)


# -- arrays and parameters of every kind ------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 20), (0, 20, 3), (4, 20, 0), (0, 0), (3, 0)])
def test_empty_batches(shape) -> None:
    x = np.empty(shape, np.float32)
    y, moments = F.batch_norm(x, precision="native")
    exact = F.batch_norm(x)[1]
    assert y.shape == shape
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(moments.count, exact.count)
    dx, dgamma, dbeta = F.batch_norm_backward(x, x, moments, precision="native")
    assert dx.shape == shape
    np.testing.assert_array_equal(dgamma, np.zeros(shape[1]))
    np.testing.assert_array_equal(dbeta, np.zeros(shape[1]))


def test_no_rows() -> None:
    x = np.empty((0, 20), np.float32)
    y, moments = F.layer_norm(x, precision="native")
    assert y.shape == x.shape
    assert moments.num_channels == 0
    dx, dgamma, dbeta = F.layer_norm_backward(x, x, moments, precision="native")
    assert dx.shape == x.shape
    np.testing.assert_array_equal([dgamma, dbeta], np.zeros((2, 20)))


def test_frozen_statistics_are_constants() -> None:
    x, dy, gamma, _ = batches((30, 20, 1), 9)
    mean, var = np.arange(20.0), np.arange(1.0, 21.0)
    results = [
        F.batch_norm_backward(
            dy[:, :, 0], x[:, :, 0], Moments.of(np.ones(20), mean, var), gamma, training=False,
            precision=each,
        )
        for each in ("exact", "native")
    ]  # fmt: skip
    for exact, native in zip(*results, strict=True):
        np.testing.assert_allclose(native, exact, rtol=1e-6)


@pytest.mark.parametrize("gamma", [2.0, None, np.arange(40.0)[::2], np.float32(3) * np.ones(20)])
def test_parameters_of_every_kind(gamma) -> None:
    x = batches((30, 20, 1), 10)[0][:, :, 0]
    gamma = np.broadcast_to(gamma, 20) if isinstance(gamma, float) else gamma
    for function in (F.batch_norm, F.layer_norm):
        exact, native = (
            function(x, gamma, gamma, precision=each)[0] for each in ("exact", "native")
        )
        np.testing.assert_allclose(native, exact, rtol=1e-5, atol=1e-5)


def test_arrays_that_are_not_float32_are_refused_by_the_kernels() -> None:
    x = np.ones((4, 16, 1))
    with pytest.raises(TypeError, match="native precision takes arrays of float32, not float64"):
        NATIVE._kernels.native_normalize(x, 1.0, 0.0, EPS)
    with pytest.raises(TypeError, match="native precision takes arrays of float32, not float64"):
        NATIVE._kernels.native_normalize_rows(x[:, :, 0], np.ones(16), np.ones(16), x[:, :, 0], EPS)
