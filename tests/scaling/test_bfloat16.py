"""bfloat16, of ml_dtypes and of PyTorch: read exactly, computed in float64, rounded once."""

from fractions import Fraction

import numpy as np
import pytest
from scalers import SCALERS

import normcore as nc
from normcore.layout.bfloat16 import cast

ml_dtypes = pytest.importorskip("ml_dtypes")
bfloat16 = ml_dtypes.bfloat16


class Squared(nc.PointwiseScaler):
    def forward(self, xp, x):
        return x * x

    def inverse(self, xp, x):
        return xp.sqrt(x)


each_scaler = pytest.mark.parametrize("cls", [*SCALERS, nc.MaxAbsScaler, Squared])
LIBRARIES = ["ml_dtypes", "torch"]
each_library = pytest.mark.parametrize("library", LIBRARIES)


def data(shape=(300, 5), seed=0):
    return np.random.default_rng(seed).normal(3, 2, shape).astype(bfloat16)


def as_library(X, library):
    if library == "ml_dtypes":
        return X
    torch = pytest.importorskip("torch")
    return torch.from_numpy(X.astype(np.float32)).to(torch.bfloat16)


def wide(array):
    """Return the same numbers in float64."""
    if isinstance(array, np.ndarray):
        return array.astype(np.float64)
    return array.double().numpy()


def nearest(value):
    """Return the bfloat16 nearest to a float64, ties to even, by exact comparison."""
    if np.isnan(value) or value == 0 or np.isinf(value):
        return float(value)
    largest = float(ml_dtypes.finfo(bfloat16).max)
    exponent = max(int(np.floor(np.log2(abs(value)))), -126) - 7
    for shift in (0, 1, -1):  # log2 may be off by one
        unit = Fraction(2) ** max(exponent + shift, -133)
        quotient = Fraction(value) / unit
        if abs(quotient) < 256 and (abs(quotient) >= 128 or unit == Fraction(2) ** -133):
            result = float(round(quotient) * unit)
            return result if abs(result) <= largest else float(np.copysign(np.inf, value))
    raise AssertionError(value)


@each_scaler
@each_library
def test_learned_exactly_and_rounded_once(cls, library):
    X = data()
    given = as_library(X, library)
    scaler = cls().fit(given)
    whole = cls().fit(X.astype(np.float64))
    for name, value in vars(whole).items():
        if name.endswith("_") and value is not None:
            mine = getattr(scaler, name)
            np.testing.assert_array_max_ulp(np.asarray(mine, float), np.asarray(value, float), 4)
    for method in ("transform", "inverse_transform"):
        x = np.abs(wide(given)) if cls is Squared else wide(given)
        given_here = as_library(x.astype(bfloat16), library)
        result = getattr(scaler, method)(given_here)
        assert type(result) is type(given)
        assert result.dtype == given.dtype
        expected = getattr(scaler, method)(x)
        np.testing.assert_array_equal(wide(result), [[nearest(v) for v in row] for row in expected])


@each_scaler
@each_library
def test_blocks_of_many_rows_and_columns(cls, library):
    for shape in ((70_000, 5), (3, 100_001)):
        X = data(shape, seed=1)
        X[1, 2] = np.nan
        given = as_library(X, library)
        scaler = cls().fit(given)
        single = cls().fit(X.astype(np.float32))
        if hasattr(single, "scale_"):
            np.testing.assert_allclose(np.asarray(scaler.scale_), single.scale_, rtol=1e-14)
        expected = single.transform(X.astype(np.float64)).astype(np.float32)
        result = wide(scaler.transform(given))
        np.testing.assert_allclose(result, expected, rtol=2**-8, atol=1e-30)


@each_library
def test_weights(library):
    weights = np.arange(300.0)
    scaler = nc.StandardScaler().fit(as_library(data(), library), sample_weight=weights)
    expected = nc.StandardScaler().fit(data().astype(np.float64), sample_weight=weights)
    np.testing.assert_array_max_ulp(np.asarray(scaler.var_), expected.var_, 4)


@each_scaler
@each_library
def test_in_place_and_into_out(cls, library):
    X = np.abs(data())
    scaler = cls().fit(X.astype(np.float32))
    given = as_library(X.copy(), library)
    expected = wide(scaler.transform(given))
    np.testing.assert_array_equal(wide(given), X.astype(np.float64))
    out = as_library(np.zeros_like(X), library)
    assert scaler.transform(given, out=out) is out
    np.testing.assert_array_equal(wide(out), expected)
    scaler.copy = False
    assert scaler.transform(given) is given
    np.testing.assert_array_equal(wide(given), expected)


@each_scaler
@each_library
def test_bad_input(cls, library):
    X = data()
    X[200, 3] = -np.inf
    bad = as_library(X, library)
    scaler = cls().fit(data().astype(np.float32))
    scaler.copy = False
    for method in ("fit", "transform", "inverse_transform"):
        with pytest.raises(ValueError, match="infinity: column 3, first at row 200"):
            getattr(scaler, method)(bad)
    np.testing.assert_array_equal(wide(bad), X.astype(np.float64))
    good = as_library(data(), library)
    with pytest.raises(TypeError, match="out must be an array of bfloat16"):
        scaler.transform(good, out=np.empty((300, 5), np.float32))
    with pytest.raises(ValueError, match=r"out has shape \(299, 5\)"):
        scaler.transform(good, out=as_library(data()[1:], library))
    with pytest.raises(ValueError, match="X has 4 features"):
        scaler.transform(good[:, :4])
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        cls().fit(good[0])
    with pytest.raises(ValueError, match="Pandas output does not support bfloat16"):
        scaler.set_output(transform="pandas").transform(good)


def test_some_of_the_features():
    scaler = nc.StandardScaler().fit(data())
    scaled = scaler.transform(data())
    some = scaler.inverse_transform(scaled[:, [4, 1]], columns=[4, 1])
    np.testing.assert_array_equal(some, scaler.inverse_transform(scaled)[:, [4, 1]])


def test_a_tensor_that_wants_a_gradient():
    torch = pytest.importorskip("torch")
    X = torch.ones((4, 2), dtype=torch.bfloat16, requires_grad=True)
    result = nc.MinMaxScaler().fit(X).transform(X)
    assert not result.requires_grad


@pytest.mark.parametrize("cls", [*SCALERS, nc.PowerTransformer, nc.QuantileTransformer])
@each_library
@pytest.mark.parametrize("axis", [1, (0, 2), None])
@pytest.mark.filterwarnings("ignore:n_quantiles")
def test_any_axes(cls, library, axis):
    if "axis" not in cls().get_params():
        pytest.skip("for tables alone")
    X = data((40, 3, 4))
    given = as_library(X, library)
    scaler = cls(axis=axis).fit(given)
    whole = cls(axis=axis).fit(X.astype(np.float64))
    hidden = np.random.default_rng(3).random(X.shape) < 0.3
    for where in (None, ~hidden):
        mask = where
        if where is not None and library == "torch":
            mask = pytest.importorskip("torch").from_numpy(where)
        result = scaler.transform(given, where=mask)
        assert type(result) is type(given)
        assert result.dtype == given.dtype
        expected = whole.transform(X.astype(np.float64), where=where)
        np.testing.assert_array_equal(wide(result), cast(cast(expected, bfloat16), np.float64))
    out = as_library(np.zeros_like(X), library)
    assert scaler.transform(given, out=out) is out
    np.testing.assert_array_equal(wide(out), wide(scaler.transform(given)))
    with pytest.raises(TypeError, match="out"):
        scaler.transform(given, out=np.zeros(X.shape))
