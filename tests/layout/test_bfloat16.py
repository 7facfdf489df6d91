"""bfloat16: told from other dtypes, read exactly, rounded once, by kernels and by NumPy alike."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore.layout.bfloat16 import cast, is_bfloat16, is_floating, is_real
from normcore.layout.namespace import BFLOAT16

EVERY_PATTERN = np.arange(1 << 16, dtype=np.uint16)


def values_of(patterns):
    """Return what bfloat16 means, by its definition, as float64."""
    sign = np.where(patterns >> 15, -1.0, 1.0)
    exponent, mantissa = (patterns >> 7 & 0xFF).astype(int), (patterns & 0x7F).astype(float)
    normal = np.ldexp(1 + mantissa / 128, exponent - 127)
    found = np.where(exponent == 0, np.ldexp(mantissa, -133), normal)
    found = np.where(exponent == 255, np.where(mantissa == 0, np.inf, np.nan), found)
    return sign * found


def nearest(value):
    """Return the bfloat16 nearest to a float64, ties to even, in rational arithmetic."""
    if np.isnan(value) or np.isinf(value) or value == 0:
        return value
    _, exponent = np.frexp(abs(value))
    unit = Fraction(2) ** max(int(exponent) - 8, -133)
    found = round(Fraction(float(value)) / unit) * unit
    limit = Fraction(2) ** 128
    return float(np.copysign(np.inf if abs(found) >= limit else float(found), value))


def by_kernel(x, dtype, backend="cpu"):
    """Return a vector in another dtype, as a map that changes nothing writes it."""
    out = np.empty((len(x), 1, 1), dtype)
    return nc.get_backend(backend).rescale(x.reshape(-1, 1, 1), nc.Affine(), out=out).reshape(-1)


def assert_same(found, expected):
    """Compare numbers, and the signs of zeros unless a map has added 0 to them."""
    np.testing.assert_array_equal(found, expected)
    nonzero = ~np.isnan(expected) & (expected != 0)
    np.testing.assert_array_equal(np.signbit(found)[nonzero], np.signbit(expected)[nonzero])


@pytest.fixture(params=["ours", "ml_dtypes"])
def bfloat16(request):
    if request.param == "ours":
        return BFLOAT16
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_every_pattern_is_read_as_what_it_means(bfloat16, backend):
    x = EVERY_PATTERN.view(bfloat16)
    assert_same(cast(x, np.float64), values_of(EVERY_PATTERN))
    np.testing.assert_array_equal(np.signbit(cast(x[[0, 0x8000]], np.float64)), [False, True])
    assert_same(by_kernel(x, np.float64, backend), values_of(EVERY_PATTERN))
    assert_same(cast(x, np.float32), values_of(EVERY_PATTERN).astype(np.float32))


def test_every_pattern_is_that_of_ml_dtypes_and_of_pytorch():
    ml_dtypes, torch = pytest.importorskip("ml_dtypes"), pytest.importorskip("torch")
    found = cast(EVERY_PATTERN.view(BFLOAT16), np.float32)
    with np.errstate(invalid="ignore"):
        assert_same(found, EVERY_PATTERN.view(ml_dtypes.bfloat16).astype(np.float32))
    tensor = torch.from_numpy(EVERY_PATTERN.view(np.int16)).view(torch.bfloat16)
    assert_same(found, tensor.float().numpy())


def test_every_pattern_is_written_as_itself(bfloat16):
    expected = EVERY_PATTERN[~np.isnan(values_of(EVERY_PATTERN))]
    wide = values_of(expected)
    np.testing.assert_array_equal(cast(wide, bfloat16).view(np.uint16), expected)
    assert_same(cast(by_kernel(wide, bfloat16), np.float64), wide)
    nan = cast(EVERY_PATTERN[np.isnan(values_of(EVERY_PATTERN))].view(bfloat16), np.float64)
    for found in (by_kernel(nan, bfloat16), cast(nan, bfloat16)):
        assert np.isnan(cast(found, np.float64)).all()


@pytest.mark.parametrize("inner", [1, 16, 37])
def test_rounds_once_to_nearest_even(bfloat16, inner):
    finite = values_of(EVERY_PATTERN[:0x7F80])
    halfway = np.append((finite[1:] + finite[:-1]) / 2, 2.0**128 * (1 - 2.0**-9))
    lower = np.append(finite[:-1], finite[-1])
    upper = np.append(finite[1:], np.inf)
    even = np.where(np.arange(len(halfway)) % 2 == 0, lower, upper)
    below, above = (np.nextafter(halfway, end) for end in (0, np.inf))
    cases = [(halfway, even), (below, lower), (above, upper)]
    for sign in (1, -1):
        for x, expected in cases:
            assert_same(cast(cast(sign * x, bfloat16), np.float64), sign * expected)
            padded = np.resize(sign * x, (-(-len(x) // inner), 1, inner))
            out = np.empty(padded.shape, bfloat16)
            nc.get_backend("cpu").rescale(padded, nc.Affine(), out=out)
            found = cast(out, np.float64).reshape(-1)[: len(x)]
            np.testing.assert_array_equal(found, sign * expected)


@given(st.floats(width=64) | st.floats(-1e3, 1e3) | st.floats(1e-42, 1e-36))
def test_rounding_of_any_number(value):
    x, expected = np.array([value]), np.array([nearest(value)])
    assert_same(cast(cast(x, BFLOAT16), np.float64), expected)
    assert_same(cast(by_kernel(x, BFLOAT16), np.float64), expected)


def test_by_way_of_float32_is_not_once():
    value = np.array([1.0 + 2.0**-8 + 2.0**-40])  # just above a tie, at which float32 puts it
    assert cast(cast(value, np.float32), BFLOAT16).view(np.uint16)[0] == 0x3F80
    assert cast(value, BFLOAT16).view(np.uint16)[0] == 0x3F81


def test_casts_of_any_strides_and_to_itself(bfloat16):
    x = np.arange(24.0).reshape(2, 3, 4)[:, ::-1, ::2]
    found = cast(x, bfloat16)
    np.testing.assert_array_equal(cast(found[::-1].T, np.float64), x[::-1].T)
    again = cast(found, bfloat16)
    assert again is not found
    assert not np.shares_memory(again, found)
    np.testing.assert_array_equal(again.view(np.uint16), found.view(np.uint16))
    np.testing.assert_array_equal(cast(np.arange(5), bfloat16).view(np.uint16)[:2], [0, 0x3F80])


def test_what_it_is(bfloat16):
    assert is_bfloat16(bfloat16)
    assert is_floating(bfloat16)
    assert is_real(bfloat16)
    for name in ("f2", "f4", "f8", "g"):
        assert is_floating(np.dtype(name))
        assert not is_bfloat16(np.dtype(name))
    for other in ("i4", "?"):
        assert is_real(np.dtype(other))
        assert not is_floating(np.dtype(other))
    for unreal in ("c8", "U2", "V2", "V3", "M8[s]", [("a", "V2")], [("bfloat16", "V4")]):
        assert not is_real(np.dtype(unreal))


def test_its_memory_is_not_taken_for_other_numbers():
    x = np.zeros(3, BFLOAT16)
    with pytest.raises(ValueError, match="sequence"):
        x.astype(np.float64)
    with pytest.raises(TypeError):
        x + 1.0


@pytest.mark.parametrize("dtype", ["V2", [("a", "u2")], [("a", "u1"), ("b", "u1")]])
def test_other_memory_of_two_bytes_is_refused(dtype):
    for backend in ("cpu", "reference"):
        with pytest.raises(TypeError):
            nc.functional.batch_norm(np.zeros((4, 3), dtype), backend=backend)
