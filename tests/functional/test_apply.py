"""nc.functional.apply: a map of known coefficients, of arrays of any library and any strides."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import LIBRARIES, library

import normcore as nc
from normcore import functional
from normcore.testing.strategies import arrange

RNG = np.random.default_rng(0)
AFFINE = nc.Affine(
    center=np.array([1e6, -3.0, 0.1]), scale=np.array([3.0, 0.7, 1e-3]),
    gamma=np.array([2.0, -1.0, 0.3]), beta=0.25,
)  # fmt: skip


def expected(affine, x, axis, dtype):
    """Return the map, every operation rounded once in float64, and then once to the dtype."""
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    rows = (row.reshape(shape) for row in affine.coefficients(x.shape[axis]))
    center, scale, gamma, beta = rows
    with np.errstate(all="ignore"):
        return (((x.astype(np.float64) - center) / scale) * gamma + beta).astype(dtype)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arrays_of_every_library(name, dtype, axis, monkeypatch):
    shape = [4, 5, 6]
    shape[axis] = 3
    x = (RNG.normal(size=shape) * 1e3 + 1e6).astype(dtype)
    y = expected(AFFINE, x, axis, dtype if dtype != "i4" else "f8")
    with library(name, monkeypatch) as known:
        native = known.native(x)
        result = functional.apply(AFFINE, native, axis=axis, backend=known.backend)
        assert isinstance(result, known.kind)
        np.testing.assert_array_equal(known.host(result), y, strict=True)
        out = known.native(np.zeros_like(y))
        assert functional.apply(AFFINE, native, axis=axis, out=out, backend=known.backend) is out
        np.testing.assert_array_equal(known.host(out), y, strict=True)
        if dtype != "i4":
            functional.apply(AFFINE, native, axis=axis, out=native, backend=known.backend)
            np.testing.assert_array_equal(known.host(native), y, strict=True)


@pytest.mark.parametrize("layout", ["C", "F", "sliced", "reversed", "read-only"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8"])
@pytest.mark.parametrize("shape", [(50, 3), (1, 3), (0, 3)])
def test_strides_and_dtypes_are_those_of_transform(shape, dtype, layout):
    x = (RNG.normal(size=shape) * 100).astype(dtype)
    arranged = arrange(x, layout)
    y = functional.apply(AFFINE, arranged, axis=1)
    native = np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(y, expected(AFFINE, x, 1, native), strict=True)


class Given(nc.AffineScaler):
    """A scaler whose map is given, so that transform is the oracle."""

    statistic = nc.Moments

    def affine(self, moments):
        return AFFINE


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1", "?"])
def test_it_is_what_transform_does(dtype):
    x = (RNG.random((40, 3)) * 2).astype(dtype)
    scaler = Given().fit(x)
    y = scaler.transform(x)
    np.testing.assert_array_equal(functional.apply(AFFINE, x, axis=1), y, strict=True)
    if dtype == "f2":  # which holds no 1e6
        return
    back = functional.apply(AFFINE.inverse(), y, axis=1)
    np.testing.assert_array_equal(back, scaler.inverse_transform(y), strict=True)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5))
@settings(max_examples=200, deadline=None)
def test_results_are_finite_where_they_are_numbers(numbers):
    """Against rational arithmetic: what overflows on the way to a number does not matter."""
    x, center, scale, gamma, beta = numbers
    scale = scale or 1.0
    affine = nc.Affine(center=center, scale=scale, gamma=gamma, beta=beta)
    y = functional.apply(affine, np.array([[x]]), axis=1)[0, 0]
    exact = (Fraction(x) - Fraction(center)) / Fraction(scale) * Fraction(gamma) + Fraction(beta)
    spread = abs((Fraction(x) - Fraction(center)) / Fraction(scale) * Fraction(gamma))
    size = spread + abs(Fraction(beta)) + abs(Fraction(center) * Fraction(gamma) / Fraction(scale))
    if size < Fraction(1e300) and abs(Fraction(gamma) / Fraction(scale)) > Fraction(1e-290):
        assert abs(Fraction(float(y)) - exact) <= size * 16 * Fraction(2) ** -53 + Fraction(1e-300)


def test_what_transform_keeps_in_range_stays_in_range():
    edge = np.finfo(np.float64).max
    x = np.array([[-edge], [edge], [0.0]])
    affine = nc.Affine(center=-edge, scale=edge, gamma=0.5)
    np.testing.assert_array_equal(functional.apply(affine, x, axis=1), [[0.0], [1.0], [0.5]])
    np.testing.assert_array_equal(functional.apply(affine, x.T, axis=None), [[0.0, 1.0, 0.5]])


def test_one_channel_for_all():
    x = np.arange(24.0).reshape(2, 3, 4)
    affine = nc.Affine(center=2.0, scale=4.0)
    np.testing.assert_array_equal(functional.apply(affine, x, axis=None), (x - 2) / 4)
    same = nc.Affine(center=np.array([2.0]), scale=np.array([4.0]))
    np.testing.assert_array_equal(functional.apply(same, x, axis=None), (x - 2) / 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_clip(dtype):
    x = np.array([[-9.0, 9.0, np.nan, 0.3, np.inf]], dtype=dtype).T
    y = functional.apply(nc.Affine(), x, axis=1, clip=(-0.1, 0.1))[:, 0]
    assert y.dtype == dtype
    assert (np.abs(y[[0, 1, 3, 4]].astype(float)) <= 0.1).all()
    assert math.isnan(y[2])
    assert float(y[1]) > 0.0999


def test_infinity_propagates():
    x = np.array([[np.inf], [-np.inf], [1.0]])
    np.testing.assert_array_equal(functional.apply(nc.Affine(scale=2.0), x, axis=1), x / 2)


def test_bfloat16():
    torch = pytest.importorskip("torch")
    x = torch.arange(-20, 20, dtype=torch.bfloat16).reshape(20, 2)
    affine = nc.Affine(center=0.5, scale=np.array([3.0, 7.0]))
    y = functional.apply(affine, x, axis=1)
    assert y.dtype == torch.bfloat16
    exact = (x.double() - 0.5) / torch.tensor([3.0, 7.0], dtype=torch.float64)
    assert torch.equal(y, exact.to(torch.bfloat16))


def test_wide_integers_are_exact_or_refused():
    x = np.array([[2**60 + 1], [2**60 + 3]])
    low = nc.Affine(center=np.array([2.0**60]), center_low=np.array([0.0]))
    np.testing.assert_array_equal(functional.apply(low, x, axis=1), [[1.0], [3.0]])
    with pytest.raises(ValueError, match=r"beyond 2\*\*53"):
        functional.apply(nc.Affine(center=2.0**60), x, axis=1)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        (((0.0, 1.0), np.ones((2, 3))), {}, TypeError, r"affine must be a normcore\.Affine"),
        ((AFFINE, np.ones((2, 4))), {}, ValueError, r"center must have shape \(4,\), one entry"),
        ((AFFINE, np.ones((2, 3))), {"axis": 2}, ValueError, "axis"),
        ((AFFINE, np.ones((2, 3))), {"axis": None}, ValueError, r"must have shape \(1,\)"),
        ((AFFINE, np.array(["a"])), {}, TypeError, "real"),
        ((AFFINE, np.ones((2, 3))), {"out": np.ones((3, 2))}, ValueError, "shape"),
        ((AFFINE, np.ones((2, 3))), {"out": np.ones((2, 3), "f4")}, TypeError, "dtype"),
        ((AFFINE, np.ones((2, 3))), {"clip": (1, 0)}, ValueError, "lo <= hi"),
        ((AFFINE, np.ones((2, 3))), {"clip": (math.nan, 0)}, ValueError, "lo <= hi"),
        ((AFFINE, np.ones((2, 3))), {"clip": 3}, ValueError, "a pair"),
        ((AFFINE, np.ones((2, 3))), {"clip": ("a", 3)}, TypeError, "clip must be a number"),
        ((nc.Affine(center="x"), np.ones((2, 3))), {}, TypeError, "center must be a number"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, error, said):
    with pytest.raises(error, match=said):
        functional.apply(*arguments, **{"axis": -1, **options})


def test_an_out_that_overlaps_in_part_is_refused():
    parent = np.zeros((11, 3))
    with pytest.raises(ValueError, match="overlaps the input in part"):
        functional.apply(AFFINE, parent[1:], axis=1, out=parent[:-1])
