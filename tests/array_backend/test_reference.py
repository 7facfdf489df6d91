from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from libraries import to_strict, to_torch

import normcore as nc
from normcore.array_backend.abstract import InfiniteInput
from normcore.array_backend.reference import ReferenceBackend, merge_moments
from normcore.layout.tiling import blocks
from normcore.statistics import array_api_double_double as dd
from normcore.statistics.array_api_moments import times_power
from normcore.testing.checks import check_moments

backend = ReferenceBackend()


def value(pair: Any) -> Fraction:
    return Fraction(float(pair[0])) + Fraction(float(pair[1]))


def random_pairs(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    hi = rng.standard_normal(size) * 2.0 ** rng.integers(-30, 30, size)
    return dd.fast_two_sum(hi, hi * rng.uniform(-1, 1, size) * 2.0**-54)


# -- double-double -------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [dd.two_sum, dd.two_product])
def test_error_free_transformations_lose_nothing(operation: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200)) * 2.0 ** rng.integers(-60, 60, (2, 200))
    hi, lo = operation(a, b)
    for each in range(200):
        x, y = Fraction(float(a[each])), Fraction(float(b[each]))
        assert value((hi[each], lo[each])) == (x + y if operation is dd.two_sum else x * y)


@pytest.mark.parametrize("name", ["add", "multiply", "divide"])
def test_double_double_keeps_100_bits(name: str) -> None:
    rng = np.random.default_rng(1)
    a, b = random_pairs(rng, 200), random_pairs(rng, 200)
    hi, lo = getattr(dd, name)(a, b)
    for each in range(200):
        x, y = (value((pair[0][each], pair[1][each])) for pair in (a, b))
        exact = {"add": x + y, "multiply": x * y, "divide": x / y}[name]
        units = max(abs(exact), (abs(x) + abs(y)) * Fraction(1, 2**8) if name == "add" else 0)
        assert abs(value((hi[each], lo[each])) - exact) <= units * Fraction(1, 2**100)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 7, 64, 101])
def test_sum_of_rows(num_rows: int) -> None:
    x = np.random.default_rng(2).standard_normal((num_rows, 3)) * [1.0, 1e10, 1e-10]
    hi, lo = dd.sum_rows(np, x, np.zeros_like(x))
    for channel in range(3):
        exact = sum((Fraction(each) for each in x[:, channel].tolist()), Fraction(0))
        assert abs(value((hi[channel], lo[channel])) - exact) <= abs(exact) * Fraction(1, 2**98)


def test_powers_of_two_are_exact() -> None:
    exponents = np.array([0.0, 1, -1, 53, -700, 900, -1074, 1023])
    for start in (1.0, 1.75):
        with np.errstate(all="ignore"):
            got = times_power(np, np.full(exponents.shape, start), exponents)
        np.testing.assert_array_equal(got, np.ldexp(start, exponents.astype(int)))


# -- blocks --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 3, 5), (1, 2, 100), (100, 2, 1), (3, 50, 4), (0, 2, 3)])
def test_blocks_cover_every_position_once(shape: tuple[int, int, int]) -> None:
    seen = np.zeros((shape[0], shape[2]), dtype=int)
    for rows, inner in blocks(shape, 24):
        block = seen[rows, inner]
        block += 1
        assert block.size * shape[1] <= max(24, shape[1])
    assert np.all(seen == 1)


# -- moments -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-170, 5e-310])
@pytest.mark.parametrize("offset", [0.0, 1e7, 1e12])
def test_moments_of_extreme_data(scale: float, offset: float) -> None:
    x = (np.random.default_rng(3).standard_normal((300, 3, 2)) + offset) * scale
    check_moments(backend.moments(x), x)


@pytest.mark.parametrize("offset", [0.0, 1e12])
def test_hundreds_of_chunks_in_random_order(offset: float) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3000, 2, 1)) + offset
    parts = [backend.moments(chunk).parts for chunk in np.array_split(x, 200)]
    total = np.zeros((7, 2))
    for index in rng.permutation(200):
        total = merge_moments(total, parts[index])
    check_moments(nc.Moments(total), x)


def test_channels_of_different_exponents_merge() -> None:
    x = np.concatenate([np.full((4, 1, 1), 3e200), np.arange(4.0)[:, None, None] * 1e-170])
    for cut in (4, 2, 6):
        merged = merge_moments(backend.moments(x[:cut]).parts, backend.moments(x[cut:]).parts)
        check_moments(nc.Moments(merged), x)


def test_zeros_take_the_exponent_of_the_other() -> None:
    zeros, tiny = np.zeros((3, 1, 1)), np.array([1e-200, 3e-200]).reshape(2, 1, 1)
    for pair in ((zeros, tiny), (tiny, zeros)):
        merged = merge_moments(*(backend.moments(each).parts for each in pair))
        assert merged[6, 0] == backend.moments(tiny).parts[6, 0] != 0
        check_moments(nc.Moments(merged), np.concatenate(pair))


def test_both_merges_are_one_law() -> None:
    x = np.random.default_rng(5).standard_normal((400, 6, 1)) * 10.0 ** np.arange(-3, 3)[:, None]
    x[:, 2] = 0.0
    x[:, 3] *= 1e250
    x[300:, 4] = np.nan
    x[5, 5] = np.inf
    a, b = backend.moments(x[:150]), backend.moments(x[150:])
    compiled, written = a.merge(b).parts, merge_moments(a.parts, b.parts)
    np.testing.assert_allclose(compiled[::2], written[::2], rtol=1e-15)
    total = nc.Moments(written)
    finite = slice(0, 4)
    np.testing.assert_array_equal(a.merge(b).mean[finite], total.mean[finite])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_channels_leave_others_alone_and_warn_of_nothing(bad: float) -> None:
    x = np.random.default_rng(6).standard_normal((40, 2, 1))
    broken = x.copy()
    broken[7, 0] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moments = backend.moments(broken)
        moments = moments.merge(backend.moments(x))
        whole = backend.moments(np.concatenate([broken, x]))
        backend.backward_reduce(broken, broken, np.zeros(2))
        backend.rescale(broken, nc.Affine(scale=np.zeros(2)))
    for each in (moments, whole):
        np.testing.assert_array_equal(each.mean[0], bad)
        assert math.isnan(each.var()[0])
        assert math.isfinite(each.mean[1])


def test_huge_row_of_few_channels_is_walked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    x = np.random.default_rng(7).standard_normal((1, 2, 400_000))
    tracemalloc.start()
    try:
        backend.moments(x)
        backend.extrema(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * x.nbytes  # the double-double of everything at once takes 20 times as much


# -- the other kernels ---------------------------------------------------------------------


def test_infinity_is_refused_on_demand() -> None:
    x = np.array([1.0, np.inf]).reshape(2, 1, 1)
    assert np.isinf(backend.rescale(x, nc.Affine()))[1, 0, 0]
    with pytest.raises(InfiniteInput):
        backend.rescale(x, nc.Affine(), refuse_infinite=True)


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="gelu"):
        backend.rescale(np.ones((1, 1, 1)), nc.Affine(), activation="gelu")


def test_vectors_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"scale has shape \(3,\).* 2 channels"):
        backend.rescale(np.ones((1, 2, 1)), nc.Affine(scale=np.ones(3)))


def test_rescale_rounds_once() -> None:
    x = np.array([[[1.0]], [[1 + 2.0**-23]]], dtype=np.float32)
    y = backend.rescale(x, nc.Affine(center=1.0 + 2.0**-30, scale=3.0))
    exact = ((x.astype(np.float64) - (1.0 + 2.0**-30)) / 3.0).astype(np.float32)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, exact)


def test_masked_positions_do_not_reach_the_sums() -> None:
    x = np.array([1.0, np.nan, 3.0]).reshape(3, 1, 1)
    mask = np.array([[True], [False], [True]])
    sum_dy, sum_dy_xmu = backend.backward_reduce(np.ones((3, 1, 1)), x, np.zeros(1), mask=mask)
    assert (sum_dy[0], sum_dy_xmu[0]) == (2.0, 4.0)


def test_closed_relu_stops_the_gradient() -> None:
    x = np.array([-1.0, 0.0, 2.0]).reshape(3, 1, 1)
    dy = np.array([5.0, 7.0, 11.0]).reshape(3, 1, 1)
    sums = backend.backward_reduce(dy, x, np.zeros(1), relu_mask=nc.Affine())
    assert [each[0] for each in sums] == [11.0, 22.0]
    zero, one = np.zeros(1), np.ones(1)
    dx = backend.backward_elemt(dy, x, zero, one, zero, zero, relu_mask=nc.Affine())
    np.testing.assert_array_equal(dx.ravel(), [0.0, 0.0, 11.0])


def test_backward_reduce_survives_cancellation() -> None:
    x = np.random.default_rng(8).standard_normal((501, 1, 1)) + 1e9
    dy = np.random.default_rng(9).standard_normal((501, 1, 1))
    mean = np.array([1e9])
    got = backend.backward_reduce(dy, x, mean)[1][0]
    pairs = zip(dy.ravel().tolist(), x.ravel().tolist(), strict=True)
    exact = sum((Fraction(g) * (Fraction(v) - 10**9) for g, v in pairs), Fraction(0))
    assert got == float(exact)


# -- any array library ---------------------------------------------------------------------


@pytest.mark.parametrize("convert", [to_torch, to_strict])
def test_results_live_where_the_input_lives(convert: Any) -> None:
    rng = np.random.default_rng(10)
    host = rng.standard_normal((50, 3, 2))
    x = convert(host)
    ends = np.full((2, 3), -0.5), np.full((2, 3), 0.5)
    kind = type(x)
    moments, extrema = backend.moments(x), backend.extrema(x)
    brackets = backend.brackets(x, *ends)
    assert isinstance(moments.parts, kind)
    assert isinstance(extrema.min, kind)
    assert isinstance(brackets.below, kind)
    assert isinstance(brackets.inside[0][0], kind)
    assert isinstance(backend.rescale(x, nc.Affine(scale=np.ones(3))), kind)
    np.testing.assert_array_equal(moments.to_host().parts, backend.moments(host).parts)
    np.testing.assert_array_equal(moments.merge(moments).to_host().mean, backend.moments(host).mean)
    np.testing.assert_array_equal(moments.to_host().var(1), backend.moments(host).var(1))
    if convert is to_torch:
        np.testing.assert_array_equal(np.asarray(moments.std(1)), backend.moments(host).std(1))


@pytest.mark.parametrize("convert", [to_torch, to_strict])
def test_release_crosses_libraries(convert: Any) -> None:
    host = np.arange(6.0).reshape(2, 3)
    there = backend.release(host, convert(host))
    assert type(there) is type(convert(host))
    back = backend.release(there, host)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, host)


def test_lists_are_adopted() -> None:
    assert backend.adopt([[1, 2]]).dtype.kind == "i"


def test_library_without_a_namespace_is_named() -> None:
    class Foreign:
        dtype = np.dtype(float)

    with pytest.raises(TypeError, match=r"Foreign"):
        backend.adopt(Foreign())


@pytest.mark.parametrize("convert", [np.asarray, to_torch, to_strict])
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_extrema_of_zeros_are_positive_in_every_order(convert: Any, length: int) -> None:
    """NumPy's minimum of zeros of both signs is another on each processor."""
    signs = np.random.default_rng(length).integers(0, 2, (40, length, 1))
    extrema = backend.extrema(convert(np.where(signs, 0.0, -0.0))).to_host()
    assert not np.signbit(extrema.min).any()
    assert not np.signbit(extrema.max).any()
