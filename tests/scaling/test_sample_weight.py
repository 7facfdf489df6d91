"""Weights of samples: whole ones are as repeated rows, to every scaler that takes them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from libraries import to_strict, to_torch

import normcore as nc

SCALERS = {
    "standard": nc.StandardScaler,
    "robust": nc.RobustScaler,
    "percentile": nc.PercentileScaler,
    "mad": lambda **options: nc.PercentileScaler(spread="mad", **options),
    "quantile": lambda **options: nc.QuantileTransformer(n_quantiles=20, subsample=None, **options),
    "normal": lambda **options: nc.QuantileTransformer(
        n_quantiles=20, output_distribution="normal", **options
    ),
    "yeo-johnson": nc.PowerTransformer,
    "box-cox": lambda **options: nc.PowerTransformer("box-cox", standardize=False, **options),
}
OF_QUANTILES = ["robust", "percentile", "mad", "quantile", "normal"]


def data(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    X = np.exp(rng.standard_normal((rows, 3))).round(2) + 0.01
    X[rng.random(X.shape) < 0.1] = np.nan
    weights = rng.integers(0, 5, rows)
    weights[0] = 3
    return X, weights


def repeated(X, weights):
    return np.repeat(X, weights, axis=0)


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_whole_weights_repeat_rows(name, dtype):
    X, weights = data()
    X = X.astype(dtype)
    expected = SCALERS[name]().fit(repeated(X, weights)).transform(X)
    for given in (weights, weights.astype(np.float32), weights.tolist()):
        found = SCALERS[name]().fit(X, sample_weight=given).transform(X)
        np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == np.float32 else 1e-11)
    assert not np.array_equal(SCALERS[name]().fit_transform(X), expected, equal_nan=True)


@pytest.mark.parametrize("name", OF_QUANTILES)
def test_quantiles_of_whole_weights_have_the_bits_of_repeated_rows(name):
    X, weights = data(4000)
    found = SCALERS[name]().fit(X, sample_weight=weights).transform(X)
    expected = SCALERS[name]().fit(repeated(X, weights)).transform(X)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", SCALERS)
def test_a_common_factor_of_weights_that_are_not_whole_does_not_matter(name):
    X, _ = data()
    weights = np.random.default_rng(1).random(len(X))
    found = [
        SCALERS[name]().fit(X, sample_weight=weights * factor).transform(X)
        for factor in (1.0, 2.0**-30, 2.0**100)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("name", SCALERS)
def test_rows_without_weight_are_not_there(name):
    X, weights = data()
    there = weights > 1
    for given in (there, np.where(there, 0.3, 0.0)):
        found = SCALERS[name]().fit(X, sample_weight=given)
        # Quantiles of weights that are not whole are of another definition.
        rest = given[there] if name in OF_QUANTILES and given.dtype != bool else None
        without = SCALERS[name]().fit(X[there], sample_weight=rest)
        np.testing.assert_allclose(found.transform(X), without.transform(X), rtol=1e-12)


@pytest.mark.parametrize("name", ["percentile", "quantile"])
def test_other_weights_are_those_of_the_inverted_cdf(name):
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((20_000, 2)), rng.random(20_000)
    scaler = SCALERS[name]().fit(X, sample_weight=weights)
    q = [0.01, 0.99] if name == "percentile" else scaler.references_
    found = [scaler.low_, scaler.high_] if name == "percentile" else scaler.quantiles_
    expected = np.quantile(X, q, axis=0, weights=weights, method="inverted_cdf")
    np.testing.assert_array_equal(found, expected)


def test_deviations_of_other_weights():
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((300, 2)), rng.random(300)
    scaler = nc.PercentileScaler(spread="mad").fit(X, sample_weight=weights)
    options = {"axis": 0, "weights": weights, "method": "inverted_cdf"}
    median = np.quantile(X, 0.5, **options)
    np.testing.assert_array_equal(scaler.median_, median)
    np.testing.assert_array_equal(scaler.mad_, np.quantile(abs(X - median), 0.5, **options))


def test_power_transforms_of_other_weights_are_the_most_likely():
    """The likelihood, written down, is no larger to either side of lambda."""
    rng = np.random.default_rng(2)
    x, weights = np.exp(rng.standard_normal(400)), rng.random(400)
    scaler = nc.PowerTransformer("box-cox").fit(x[:, None], sample_weight=weights)
    z = scaler.transform(x[:, None])[:, 0]
    assert np.average(z, weights=weights) == pytest.approx(0, abs=1e-13)
    assert np.average(z**2, weights=weights) == pytest.approx(1, rel=1e-13)

    def likelihood(power):
        y = (x**power - 1) / power
        mean = np.average(y, weights=weights)
        variance = np.average((y - mean) ** 2, weights=weights)
        return -np.log(variance) / 2 + (power - 1) * np.average(np.log(x), weights=weights)

    power = float(scaler.lambdas_[0])
    assert likelihood(power) > max(likelihood(power - 1e-5), likelihood(power + 1e-5))


@pytest.mark.parametrize("name", OF_QUANTILES)
def test_a_sketch_carries_whole_weights(name):
    X, weights = data(400)
    parts = slice(0, 150), slice(150, 400)
    sketched = SCALERS[name](quantiles="sketch")
    for part in parts:
        sketched.partial_fit(X[part], sample_weight=weights[part])
    exact = SCALERS[name]().fit(X, sample_weight=weights)
    np.testing.assert_allclose(sketched.transform(X), exact.transform(X), rtol=1e-12, atol=1e-15)
    kept = SCALERS[name](keep_sketch=True).fit(X[:150], sample_weight=weights[:150])
    kept.partial_fit(X[150:], None, weights[150:])
    np.testing.assert_allclose(kept.transform(X), exact.transform(X), rtol=1e-12, atol=1e-15)
    before = sketched.to_dict()
    with pytest.raises(ValueError, match="other than whole numbers whose sum is below"):
        sketched.partial_fit(X, sample_weight=weights + 0.5)
    assert str(sketched.to_dict()) == str(before)


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("to_library", [to_strict, to_torch])
def test_arrays_of_other_libraries(name, to_library):
    X, weights = data(60)
    expected = SCALERS[name]().fit(X, sample_weight=weights).transform(X)
    for given in (weights.astype(np.float64), to_library(weights.astype(np.float64))):
        scaler = SCALERS[name]().fit(to_library(X), sample_weight=given)
        np.testing.assert_allclose(scaler.transform(X), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", SCALERS)
def test_other_axes_and_masks(name):
    X, weights = data(60)
    shown = np.random.default_rng(3).random(X.shape) < 0.8
    hidden = np.where(shown, X, np.nan)
    for given in (weights, weights + 0.25):
        columns = SCALERS[name]().fit(hidden, sample_weight=given)
        masked = SCALERS[name]().fit(X, sample_weight=given, where=shown)
        np.testing.assert_array_equal(masked.transform(X), columns.transform(X))
        wide = SCALERS[name](axis=2).fit(hidden.reshape(60, 1, 3), sample_weight=given)
        np.testing.assert_array_equal(wide.transform(X[:, None])[:, 0], columns.transform(X))


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_quantiles_of_sparse_matrices(ignore, kind):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((300, 4)) < 0.3, rng.random((300, 4)).round(2), 0.0)
    dense[3, 1], dense[:, 2] = np.nan, 0.0
    X = sp.csr_array(dense).asformat(kind)
    options = {"n_quantiles": 20, "ignore_implicit_zeros": ignore}
    for weights in (rng.integers(0, 4, 300), rng.random(300)):
        scaler = nc.QuantileTransformer(**options).fit(X, sample_weight=weights)
        for column in range(4):
            values, given = dense[:, column], weights
            if ignore:
                values, given = values[values != 0], weights[values != 0]
            if not values.size:
                assert not scaler.quantiles_[:, column].any()
                continue
            alone = nc.QuantileTransformer(n_quantiles=20).fit(values[:, None], None, given)
            np.testing.assert_array_equal(scaler.quantiles_[:, column], alone.quantiles_[:, 0])
    with pytest.raises(ValueError, match="negative"):
        nc.QuantileTransformer().fit(X, sample_weight=np.full(300, -1.0))


@pytest.mark.parametrize("name", SCALERS)
def test_bad_weights_leave_the_scaler_as_it_was(name):
    X, weights = data(60)
    scaler = SCALERS[name]().fit(X)
    before = scaler.transform(X)
    for wrong, message in (
        (weights[:3], "3 values, but X has 60 rows"),
        (np.zeros(60), "non-zero"),
        (np.where(weights > 3, np.nan, 1.0), "NaN"),
        (weights - 1.0, "negative"),
        (-1.0 * weights, "negative"),
        (np.full(60, 1e308), "sample_weight is so large that its sum"),
    ):
        with pytest.raises(ValueError, match=message):
            scaler.fit(X, sample_weight=wrong)
    np.testing.assert_array_equal(scaler.transform(X), before)


OF_INFINITY = {
    "array": np.asarray,
    "float32": lambda X: X.astype(np.float32),
    "strict": to_strict,
    "torch": to_torch,
    "bfloat16": lambda X: X.astype(pytest.importorskip("ml_dtypes").bfloat16),
    "csr": sp.csr_array,
    "csc": sp.csc_array,
    "lazy": lambda X: pytest.importorskip("polars").DataFrame(X).lazy(),
    "images": lambda X: X[:, :, None],
}


@pytest.mark.parametrize("kind", OF_INFINITY)
def test_infinity_that_weighs_nothing_is_not_there(kind):
    rng = np.random.default_rng(0)
    X, weights = rng.integers(-9, 9, (9000, 2)) * 1.0, rng.random(9000)
    X[[5, 6000, 6001], 0] = np.inf
    weights[[5, 6000, 6001]] = 0.0
    there = weights > 0
    options = {"axis": 1} if kind == "images" else {}
    for make in (nc.StandardScaler, nc.RobustScaler):
        if kind in ("csr", "csc"):
            options = {"with_mean" if make is nc.StandardScaler else "with_centering": False}
        scaler = make(**options).fit(OF_INFINITY[kind](X), sample_weight=weights)
        alone = make(**options).fit(OF_INFINITY[kind](X[there]), sample_weight=weights[there])
        found, expected = (np.ravel(np.asarray(each.scale_)) for each in (scaler, alone))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        wrong = X.copy()
        wrong[6002:6004, 1] = -np.inf
        place = r"index \(6002, 1, 0\)" if kind == "images" else "row 6002"
        with pytest.raises(ValueError, match=f"contains infinity.*first at {place}"):
            make(**options).fit(OF_INFINITY[kind](wrong), sample_weight=weights)


def test_metadata_routing_knows_weights():
    sklearn = pytest.importorskip("sklearn")
    with sklearn.config_context(enable_metadata_routing=True):
        for name in SCALERS:
            scaler = SCALERS[name]().set_fit_request(sample_weight=True)
            requests = scaler.get_metadata_routing().fit.requests
            assert requests == {"sample_weight": True, "where": None}
        scaler = nc.RobustScaler(quantiles="sketch").set_partial_fit_request(sample_weight=True)
        assert scaler.get_metadata_routing().partial_fit.requests["sample_weight"] is True
        with pytest.raises(AttributeError):
            nc.PowerTransformer().set_partial_fit_request(sample_weight=True)


@pytest.mark.parametrize("how", ["partial_fit", "merge"])
def test_weights_that_together_leave_float64(how: str) -> None:
    """Each batch alone is fine; the error is of weights, and what was learned stays."""
    X = np.array([[1.0, 2.0], [3.0, 4.0]])
    heavy = [1e299, 1e299]
    scaler = nc.StandardScaler().fit(X, sample_weight=heavy)
    added = nc.StandardScaler().fit(X, sample_weight=heavy)

    def add() -> None:
        scaler.partial_fit(X, sample_weight=heavy) if how == "partial_fit" else scaler.merge(added)

    for _ in range(5):
        add()
    before = scaler.to_dict()
    with pytest.raises(ValueError, match="sample_weight is so large"):
        add()
    np.testing.assert_equal(scaler.to_dict(), before)
    np.testing.assert_array_equal(scaler.mean_, [2.0, 3.0])
