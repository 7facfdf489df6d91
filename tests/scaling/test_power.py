"""PowerTransformer and power_transform, against scikit-learn's and arithmetic of many digits."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from normcore_power import array_form, curve
from releases import is_older, skip_before

import normcore as nc
from normcore.testing import ScalerConformance
from normcore.testing.backend import laws
from normcore.testing.strategies import tables

preprocessing = pytest.importorskip("sklearn.preprocessing")

YEARS = [2003.0, 1950.0, 1997.0, 2000.0, 2009.0, 2009.0, 1980.0, 1999.0, 2007.0, 1991.0]


class TestYeoJohnson(ScalerConformance):
    scaler = nc.PowerTransformer
    invertible = False  # a power may take most digits; test_the_inverse_restores says of what

    @laws
    @given(X=tables())
    def test_shape_dtype_and_nan_are_kept(self, X):
        """But for the inverse of what is no transform, which the base feeds it."""
        scaler = self.make()
        assert scaler.fit(X) is scaler
        result = scaler.transform(X)
        assert (result.shape, result.dtype) == (X.shape, X.dtype)
        missing = np.isnan(X)
        np.testing.assert_array_equal(np.isnan(result), missing | missing.all(0))
        assert not np.isinf(result).any()
        back = scaler.inverse_transform(result)
        np.testing.assert_array_equal(np.isnan(back), np.isnan(result))

    @laws
    @given(data=st.data())
    def test_out_is_written_and_returned(self, data):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the inverse, likewise
            super().test_out_is_written_and_returned.hypothesis.inner_test(self, data)


def samples():
    rng = np.random.default_rng(0)
    return {
        "normal": rng.normal(size=60),
        "lognormal": np.exp(rng.normal(size=60)),
        "negative": -np.exp(rng.normal(size=60)),
        "large": rng.gamma(2.0, size=60) * 1e7,
        "mixed sizes": np.append(rng.normal(size=50) * 1e5, -1.0),
        "small": rng.gamma(1.0, size=50) * 1e-12,
        "many zeros": np.where(rng.random(60) < 0.8, 0.0, rng.exponential(size=60)),
        "an outlier": np.append(rng.normal(size=50), 1e9),
        "extreme skew": np.array([1.0, 1.0, 1e10]),
        "close together": rng.normal(size=40) * 1e-3 + 5.0,
        "years": np.array(YEARS),
        "mostly ones": np.array([1.0] * 400 + [0.0]),
        "close and far": rng.normal(size=40) ** 3 * 1e-3 + 1e8,
        "tiny": rng.normal(size=40) * 1e-200,
        "huge": rng.normal(size=40) * 1e200,
        "denormal": rng.integers(-9, 9, 40) * 5e-324,
    }


SAMPLES = samples()
POSITIVE = [name for name, x in SAMPLES.items() if (x > 0).all()]
BOTH = [("yeo-johnson", name) for name in SAMPLES] + [("box-cox", name) for name in POSITIVE]
#: Whose likelihood has its maximum beyond the bounds of lambda.
BOUNDED = {
    ("yeo-johnson", "close together"), ("yeo-johnson", "close and far"), ("yeo-johnson", "years"),
    ("yeo-johnson", "mostly ones"), ("yeo-johnson", "huge"), ("yeo-johnson", "denormal"),
    ("box-cox", "years"), ("box-cox", "close and far"),
}  # fmt: skip
#: Where scikit-learn's variances lose their digits.
ROUNDED = {"close together", "close and far", "tiny", "huge", "denormal"}
#: Since when scikit-learn finds the maximum: 1.7 bounds its search, 1.9 keeps the digits of small
#: values.
UNLIKE = {
    ("yeo-johnson", "small"): "1.9",
    ("yeo-johnson", "years"): "1.7",
    ("yeo-johnson", "mostly ones"): "1.7",
}


def transform(mp, values, power, method):
    """Return the transform with many digits, its derivative by lambda, and signed logarithms."""
    power, result = mp.mpf(float(power)), []
    for value in values:
        value = mp.mpf(float(value))
        sign, base = (1, value) if method == "box-cox" else (-1 if value < 0 else 1, 1 + abs(value))
        log, c = mp.log(base), power if sign > 0 else 2 - power
        grown = mp.exp(c * log)
        mapped = log if c == 0 else (grown - 1) / c
        slope = log * log / 2 if c == 0 else (log * grown - mapped) / c
        result.append((sign * mapped, slope, sign * log))
    return tuple(zip(*result, strict=True))


@pytest.mark.parametrize(("method", "name"), BOTH)
def test_lambda_is_the_most_likely_and_the_map_exact(method, name):
    mp = pytest.importorskip("mpmath")
    values = SAMPLES[name]
    scaler = nc.PowerTransformer(method).fit(values[:, None])
    power = scaler.lambdas_[0]
    with mp.workdps(2500 if name == "close together" else 800):
        number = len(values)

        def slope(power):
            mapped, derivative, logs = transform(mp, values, power, method)
            mean = sum(mapped) / number
            variance = sum((each - mean) ** 2 for each in mapped)
            covariance = sum(
                (each - mean) * other for each, other in zip(mapped, derivative, strict=True)
            )
            return covariance / variance - sum(logs) / number

        if (method, name) not in BOUNDED:
            step = abs(power) * 1e-11
            assert slope(power - step) < 0 < slope(power + step)
        mapped = transform(mp, values, power, method)[0]
        mean = sum(mapped) / number
        deviation = mp.sqrt(sum((each - mean) ** 2 for each in mapped) / number)
        exact = np.array([float((each - mean) / deviation) for each in mapped])
    found = scaler.transform(values[:, None])
    np.testing.assert_allclose(found[:, 0], exact, rtol=4e-15, atol=4e-15)
    back = scaler.inverse_transform(found)[:, 0]
    if name == "mostly ones":  # all below 0.4 has one transform
        found, back, values = found[:-1], back[:-1], values[:-1]
    np.testing.assert_allclose(back, values, rtol=1e-12, atol=1e-14 * np.abs(values).max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "name"), BOTH)
def test_lambdas_are_scikit_learns(method, name):
    if name in ROUNDED or (method, name) == ("box-cox", "years"):
        pytest.skip("scikit-learn's loses its digits there")
    since = UNLIKE.get((method, name))
    if since and is_older("scikit-learn", since):
        pytest.skip(f"scikit-learn finds that maximum since {since}")
    values = SAMPLES[name][:, None]
    mine = nc.PowerTransformer(method).fit(values)
    theirs = preprocessing.PowerTransformer(method).fit(values)
    np.testing.assert_allclose(mine.lambdas_, theirs.lambdas_, rtol=3e-6, atol=1e-7)
    np.testing.assert_allclose(mine.transform(values), theirs.transform(values), atol=1e-5)


def table(method="yeo-johnson", nan=True, num_rows=300):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(num_rows, 5)) * [1.0, 10.0, 1e-3, 1.0, 1.0] + [0.0, 5.0, 0.0, 0.0, 9.0]
    X[:, 3] = np.exp(X[:, 3])
    X = X if method == "yeo-johnson" else np.abs(X) + 0.1
    if nan:
        X[rng.random(X.shape) < 0.05] = np.nan
    return X


SMALL_VALUES = skip_before("scikit-learn", "1.9", "keeps the digits of small values")


@pytest.mark.parametrize(
    ("method", "standardize"),
    [
        ("yeo-johnson", True),
        pytest.param("yeo-johnson", False, marks=SMALL_VALUES),
        ("box-cox", True),
        ("box-cox", False),
    ],
)
def test_results_are_scikit_learns(method, standardize):
    X = table(method)
    mine = nc.PowerTransformer(method, standardize=standardize).fit(X)
    theirs = preprocessing.PowerTransformer(method, standardize=standardize).fit(X)
    np.testing.assert_allclose(mine.lambdas_, theirs.lambdas_, rtol=1e-4, atol=1e-6)
    mine.lambdas_ = theirs.lambdas_
    if not standardize:
        np.testing.assert_allclose(mine.transform(X), theirs.transform(X), rtol=1e-12)
        Y = theirs.transform(X)
        np.testing.assert_allclose(
            mine.inverse_transform(Y), theirs.inverse_transform(Y), rtol=1e-6
        )
    else:
        np.testing.assert_allclose(mine.transform(X), theirs.transform(X), atol=1e-3)


def test_a_large_table_is_fitted_as_a_small_one_is():
    """Where values are many, some of them say where to look."""
    rng = np.random.default_rng(0)
    X = np.column_stack([np.exp(rng.normal(size=70_000)), np.sort(rng.normal(size=70_000)) ** 3])
    theirs = preprocessing.PowerTransformer().fit(X)
    np.testing.assert_allclose(nc.PowerTransformer().fit(X).lambdas_, theirs.lambdas_, rtol=1e-6)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_the_inverse_restores(method, standardize):
    X = table(method, nan=False)
    scaler = nc.PowerTransformer(method, standardize=standardize).fit(X)
    back = scaler.inverse_transform(scaler.transform(X))
    np.testing.assert_allclose(back, X, rtol=1e-13, atol=1e-15 * np.abs(X).max())


def test_the_inverse_is_accurate_to_the_last_digits():
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(0)
    for power in (-1.5, 0.0, 0.01, 1e-9, 0.5, 1.0, 2.0, 3.7):
        y = rng.uniform(-0.9, 0.9, 200) / max(abs(power), abs(2 - power), 1)
        parameters = np.array([[power, 0.0, 1.0, 0.0, 1.0]])
        found = curve.inverse(y[:, None], parameters, True)[:, 0]
        with mp.workdps(60):
            exact = []
            for each in y:
                c = mp.mpf(power) if each >= 0 else 2 - mp.mpf(power)
                t = abs(mp.mpf(float(each)))
                root = mp.expm1(t if c == 0 else mp.log1p(c * t) / c)
                exact.append(float(root if each >= 0 else -root))
        exact = np.array(exact)
        assert np.max(np.abs(found - exact) / np.spacing(np.abs(exact))) <= 4


def test_what_is_no_transform_has_no_inverse():
    X = np.array([[1.0], [1.0], [1e10]])
    scaler = nc.PowerTransformer(standardize=False).fit(X)
    bound = -1 / scaler.lambdas_[0]
    with pytest.warns(UserWarning, match="Some values in column 0 of the inverse-transformed data"):
        result = scaler.inverse_transform([[0.5], [bound * 1.001], [np.nan]])
    assert np.isfinite(result[0, 0])
    assert np.isnan(result[1:, 0]).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_the_map_is_monotone(seed):
    rng = np.random.default_rng(seed)
    X = np.sort(
        rng.normal(size=(40, 1)) * 10.0 ** rng.integers(-6, 6) + rng.integers(-3, 3), axis=0
    )
    found = nc.PowerTransformer().fit_transform(X)
    # Between neighbours rounding may count more than their distance.
    assert np.all(np.diff(found, axis=0) >= -4e-15 * np.abs(found).max())


@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_other_libraries_have_the_same_map(method):
    X = table(method, nan=False)
    scaler = nc.PowerTransformer(method).fit(X)
    xp = pytest.importorskip("array_api_strict")
    plus_one = method == "yeo-johnson"
    given_ = xp.asarray(X)
    found = array_form.forward(xp, given_, scaler._parameters(), plus_one)
    np.testing.assert_allclose(np.asarray(found), scaler.transform(X), rtol=1e-12, atol=1e-12)
    back = array_form.inverse(xp, found, scaler._parameters(), plus_one)
    np.testing.assert_allclose(np.asarray(back), X, rtol=1e-10, atol=1e-12)


# -- what is special -----------------------------------------------------------------------


def test_constants():
    X = np.column_stack([np.full(9, 3.3), np.zeros(9), np.arange(9.0)])
    scaler = nc.PowerTransformer().fit(X)
    np.testing.assert_array_equal(scaler.lambdas_[:2], 1.0)
    np.testing.assert_array_equal(scaler.transform(X)[:, :2], 0.0)
    plain = nc.PowerTransformer(standardize=False).fit_transform(X)
    np.testing.assert_allclose(plain[:, :2], X[:, :2], rtol=1e-15)
    with pytest.raises(ValueError, match="Data must not be constant, as column 0 of X is"):
        nc.PowerTransformer("box-cox").fit(X + 1)


def test_box_cox_takes_positive_data_alone():
    X = table("box-cox")
    scaler = nc.PowerTransformer("box-cox", copy=False).fit(X)
    bad = np.tile(X, (200, 1))
    bad[-1, 2] = 0.0
    before = bad.copy()
    for attempt in (scaler.transform, nc.PowerTransformer("box-cox").fit):
        with pytest.raises(ValueError, match=r"only be applied to strictly positive .* column 2"):
            attempt(bad)
        np.testing.assert_array_equal(bad, before)
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="Column must not be all nan"):
        nc.PowerTransformer("box-cox").fit(X)


def test_float32_stays_finite_without_standardizing():
    values = np.array(YEARS, np.float32)[:, None]
    result = nc.PowerTransformer(standardize=False).fit_transform(values)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


def test_parameters_and_messages():
    for parameters, message in (
        ({"method": "log"}, "method must be 'yeo-johnson' or 'box-cox', got 'log'"),
        ({"standardize": "no"}, "standardize must be True or False"),
    ):
        with pytest.raises(ValueError, match=message):
            nc.PowerTransformer(**parameters).fit(table())
    one, other = nc.PowerTransformer().fit(table()), nc.PowerTransformer().fit(table())
    with pytest.raises(ValueError, match="two fits cannot be merged"):
        one.merge(other)
    with pytest.raises(AttributeError, match="no partial_fit"):
        one.partial_fit(table())


def test_saved_and_pickled(tmp_path):
    X = table()
    scaler = nc.PowerTransformer().fit(X)
    scaler.save(tmp_path / "scaler.json")
    for again in (nc.load(tmp_path / "scaler.json"), pickle.loads(pickle.dumps(scaler))):
        np.testing.assert_array_equal(again.lambdas_, scaler.lambdas_)
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("units", -1.0, "units of power curves must be positive"),
        ("scales", 0.0, "scales of power curves must be positive"),
        ("lambdas", np.inf, "lambdas of power curves must be finite"),
        ("count", -1.0, "counts of power curves"),
        ("means", None, "lacks 'means'"),
    ],
)
def test_impossible_states_are_refused(name, value, message):
    saved = nc.PowerTransformer().fit(table()).to_dict()
    if value is None:
        del saved["statistic"][name]
    else:
        saved["statistic"][name][1] = value
    with pytest.raises(ValueError, match=message):
        nc.PowerTransformer.from_dict(saved)


def test_function():
    X = table(nan=False)
    np.testing.assert_array_equal(nc.power_transform(X), nc.PowerTransformer().fit_transform(X))
    X = table("box-cox", nan=False)
    np.testing.assert_allclose(
        nc.power_transform(X, "box-cox", standardize=False),
        preprocessing.power_transform(X, "box-cox", standardize=False),
        rtol=1e-3,
    )


@pytest.mark.parametrize("axis", [1, 0, (1, 2), None])
def test_other_axes_are_columns_laid_out_otherwise(axis):
    X = np.exp(np.random.default_rng(0).normal(size=(8, 5, 60)))
    kept = () if axis is None else (axis,) if isinstance(axis, int) else axis
    others = [each for each in range(3) if each not in kept]
    rows = X.transpose(*others, *kept).reshape(-1, int(np.prod([X.shape[k] for k in kept])))
    scaler = nc.PowerTransformer(axis=axis).fit(X)
    found = scaler.transform(X)
    expected = nc.PowerTransformer().fit_transform(rows)
    np.testing.assert_allclose(
        found.transpose(*others, *kept).reshape(rows.shape), expected, rtol=1e-10, atol=1e-10
    )
    np.testing.assert_allclose(scaler.inverse_transform(found), X, rtol=1e-12)
