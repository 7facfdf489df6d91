"""QuantileTransformer and quantile_transform, against scikit-learn's and exact arithmetic."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore.testing import ScalerConformance

preprocessing = pytest.importorskip("sklearn.preprocessing")
sparse = pytest.importorskip("scipy.sparse")
special = pytest.importorskip("scipy.special")

FEW = "ignore:n_quantiles .* is greater than the total number of samples:UserWarning"


@pytest.mark.filterwarnings(FEW)
class TestUniform(ScalerConformance):
    invertible = False  # what lies between landmarks is interpolated

    def scaler():
        return nc.QuantileTransformer(random_state=0)


@pytest.mark.filterwarnings(FEW)
class TestNormal(ScalerConformance):
    invertible = False

    def scaler():
        return nc.QuantileTransformer(output_distribution="normal", n_quantiles=50, random_state=0)


def data(seed, num_rows=400, ties=True, nan=True):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(num_rows, 6)) * [1.0, 100.0, 1.0, 1e6, 1.0, 3.0]
    X[:, 2] = np.exp(3 * X[:, 2])
    if ties:
        X[:, 4] = np.round(X[:, 4])
        X[:, 5] = np.where(rng.random(num_rows) < 0.7, 0.0, np.abs(X[:, 5]))
    if nan:
        X[rng.random(X.shape) < 0.05] = np.nan
    return X


def both(X, **parameters):
    mine = nc.QuantileTransformer(**parameters).fit(X)
    return mine, preprocessing.QuantileTransformer(**parameters).fit(X)


@pytest.mark.filterwarnings(FEW)
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"n_quantiles": 100},
        {"n_quantiles": 7},
        {"n_quantiles": 1},
        {"n_quantiles": 1000},
        {"n_quantiles": 100, "subsample": 150, "random_state": 3},
        {"n_quantiles": 100, "subsample": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1])
def test_results_are_scikit_learns(distribution, parameters, seed):
    X = data(seed)
    mine, theirs = both(X, output_distribution=distribution, **parameters)
    assert mine.n_quantiles_ == theirs.n_quantiles_
    np.testing.assert_array_equal(mine.references_, theirs.references_)
    assert mine.quantiles_.shape == theirs.quantiles_.shape
    span = np.nanmax(np.abs(X), axis=0)
    np.testing.assert_array_equal(mine.quantiles_, theirs.quantiles_)
    new = np.concatenate([X, data(seed + 10), 3 * data(seed + 20), mine.quantiles_])
    ours, expected = mine.transform(new), theirs.transform(new)
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-13)
    back = np.concatenate([expected, np.random.default_rng(seed).random((50, 6)), 2 - expected])
    np.testing.assert_allclose(
        mine.inverse_transform(back) / span, theirs.inverse_transform(back) / span, atol=1e-12
    )


def test_the_subsample_of_a_seed_is_scikit_learns():
    X = data(0, 3000, nan=False)
    for state in (0, 12345, np.int64(7)):
        mine, theirs = both(X, subsample=1000, random_state=state)
        np.testing.assert_array_equal(mine.quantiles_, theirs.quantiles_)
    generators = np.random.RandomState(5), np.random.RandomState(5)
    mine = nc.QuantileTransformer(subsample=1000, random_state=generators[0]).fit(X)
    theirs = preprocessing.QuantileTransformer(subsample=1000, random_state=generators[1]).fit(X)
    np.testing.assert_array_equal(mine.quantiles_, theirs.quantiles_)
    assert generators[0].randint(1 << 30) == generators[1].randint(1 << 30)


def test_without_a_subsample_landmarks_are_exact():
    X = data(0, 100_001, nan=False)
    scaler = nc.QuantileTransformer(subsample=None, n_quantiles=501).fit(X)
    np.testing.assert_allclose(
        scaler.quantiles_, np.quantile(X, scaler.references_, axis=0), rtol=1e-11, atol=1e-14
    )


@pytest.mark.parametrize("dtype", ["f2", "f4", "i8", "u1", "?"])
def test_every_dtype(dtype):
    X = np.abs(data(0, nan=False)[:, [0, 1, 5]]).astype(dtype)
    scaler = nc.QuantileTransformer(n_quantiles=100).fit(X)
    expected = nc.QuantileTransformer(n_quantiles=100).fit(X.astype(np.float64))
    np.testing.assert_array_equal(scaler.quantiles_, expected.quantiles_)
    result = scaler.transform(X)
    assert result.dtype == (dtype if np.dtype(dtype).kind == "f" else np.float64)
    np.testing.assert_array_equal(result, expected.transform(X.astype("f8")).astype(result.dtype))


# -- the two functions of the normal distribution ------------------------------------------


def unit(normal):
    """Return a transformer whose forward map is that of the distribution alone."""
    X = np.array([[0.0], [1.0]])
    scaler = nc.QuantileTransformer(n_quantiles=2).fit(X)
    return scaler.set_params(output_distribution="normal") if normal else scaler


def ulps(found, exact):
    return np.max(np.abs(found - exact) / np.spacing(np.abs(exact)))


def test_normal_quantiles_are_accurate():
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(500), 10 ** -rng.uniform(0, 6.9, 500), [0.5, 0.075, 0.925]])
    with mpmath.workdps(40):
        exact = [mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(float(each)) - 1) for each in p]
    found = unit(True).transform(p[:, None])[:, 0]
    assert ulps(found[p != 0.5], np.array([float(each) for each in exact])[p != 0.5]) <= 6
    assert found[p == 0.5] == 0.0
    np.testing.assert_allclose(found, special.ndtri(p), rtol=2e-15)


def test_normal_probabilities_are_accurate():
    mpmath = pytest.importorskip("mpmath")
    x = np.random.default_rng(0).uniform(-5.19, 5.19, 1000)
    with mpmath.workdps(40):
        exact = np.array([float(mpmath.ncdf(mpmath.mpf(float(each)))) for each in x])
    found = unit(True).inverse_transform(x[:, None])[:, 0]
    assert ulps(found, exact) <= 4
    np.testing.assert_allclose(found, special.ndtr(x), rtol=1e-14)


def test_ends_of_the_normal_distribution():
    from scipy.stats import norm

    least = norm.ppf(1e-7 - np.spacing(1))
    largest = norm.ppf(1 - (1e-7 - np.spacing(1)))
    scaler = unit(True)
    found = scaler.transform([[-1.0], [0.0], [1.0], [2.0]])[:, 0]
    np.testing.assert_allclose(found, [least, least, largest, largest], rtol=1e-14)
    np.testing.assert_array_equal(scaler.inverse_transform([[-9.0], [least], [largest], [9.0]]),
                                  [[0.0], [0.0], [1.0], [1.0]])  # fmt: skip


# -- extremes ------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [5e-324, 1e-310, 1e-170, 1e200, 1.7e308])
def test_scale_does_not_matter(unit):
    """scikit-learn widens the ends by 1e-7 of the data's own unit, whatever that is."""
    values = np.array([-1.0, -1.0, -0.5, 0.0, 0.25, 0.25, 0.25, 0.75, 1.0])[:, None]
    if unit == 5e-324:
        values = np.round(values * 8)
    for distribution in ("uniform", "normal"):
        scaler = nc.QuantileTransformer(n_quantiles=9, output_distribution=distribution)
        expected = scaler.fit_transform(values)
        found = scaler.fit_transform(values * unit)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
        back = scaler.inverse_transform(found)
        assert np.isfinite(back).all()
        np.testing.assert_allclose(back / unit, values, rtol=1e-6, atol=0.1 * (unit < 1e-320))


@given(seed=st.integers(0, 2**32 - 1), normal=st.booleans())
def test_maps_are_monotone_and_bounded(seed, normal):
    rng = np.random.default_rng(seed)
    X = np.sort(rng.choice([rng.normal(), 1e3, 7.0, *rng.normal(size=9)], size=60))[:, None]
    kind = "normal" if normal else "uniform"
    scaler = nc.QuantileTransformer(n_quantiles=int(rng.integers(2, 60)), output_distribution=kind)
    found = scaler.fit_transform(X)
    assert np.all(np.diff(found, axis=0) >= 0)
    bounds = np.array([found[0, 0], found[-1, 0]])
    outside = scaler.transform([[X.min() - 5], [X.max() + 5]])[:, 0]
    assert outside[0] == bounds[0]
    assert outside[1] >= bounds[1]


# -- messages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_quantiles": 0}, "n_quantiles must be a whole number of at least 1, got 0"),
        ({"n_quantiles": 2.5}, "n_quantiles"),
        ({"subsample": 0}, "subsample"),
        ({"subsample": 10}, "Got 1000 quantiles and 10 samples"),
        ({"output_distribution": "rand"}, "output_distribution must be 'uniform' or 'normal'"),
        ({"ignore_implicit_zeros": "no"}, "ignore_implicit_zeros must be True or False"),
        ({"random_state": "seed"}, "cannot be used to seed"),
        ({"random_state": -1}, "random_state"),
        ({"copy": "yes"}, "copy must be True or False"),
    ],
)
def test_bad_parameters(parameters, message):
    scaler = nc.QuantileTransformer(**parameters)
    with pytest.raises(ValueError, match=message):
        scaler.fit(data(0, 2000))
    assert not hasattr(scaler, "quantiles_")


def test_warnings_are_scikit_learns():
    X = data(0)
    with pytest.warns(UserWarning, match=r"n_quantiles \(1000\) is greater than .*\(400\)"):
        nc.QuantileTransformer().fit(X)
    with pytest.warns(UserWarning, match="takes effect only with sparse matrix"):
        nc.QuantileTransformer(n_quantiles=9, ignore_implicit_zeros=True).fit(X)


def test_infinity_outside_the_subsample_is_refused():
    X = data(0, 2000)
    scaler = nc.QuantileTransformer(n_quantiles=10, subsample=20, random_state=0)
    X[1234, 3] = np.inf
    with pytest.raises(ValueError, match="infinity: column 3, first at row 1234"):
        scaler.fit(X)


def test_merging_and_streaming_say_why_not():
    X = data(0)
    one, other = (nc.QuantileTransformer(n_quantiles=10).fit(X) for _ in range(2))
    with pytest.raises(ValueError, match="cannot be merged"):
        one.merge(other)
    with pytest.raises(AttributeError, match="no partial_fit"):
        one.partial_fit(X)


# -- state ---------------------------------------------------------------------------------


def test_landmarks_are_the_state():
    X = data(0)
    scaler = nc.QuantileTransformer(n_quantiles=10).fit(X)
    other = nc.QuantileTransformer(n_quantiles=10).fit(2 * X)
    scaler.quantiles_ = other.quantiles_.copy()
    np.testing.assert_array_equal(scaler.transform(X), other.transform(X))
    with pytest.raises(ValueError, match="read-only"):
        nc.QuantileTransformer(n_quantiles=10).fit(X).quantiles_[0] = 1.0


def test_saved_and_pickled(tmp_path):
    X = data(0)
    scaler = nc.QuantileTransformer(n_quantiles=10, output_distribution="normal").fit(X)
    scaler.save(tmp_path / "scaler.json")
    for again in (nc.load(tmp_path / "scaler.json"), pickle.loads(pickle.dumps(scaler))):
        np.testing.assert_array_equal(again.quantiles_, scaler.quantiles_)
        np.testing.assert_array_equal(again.transform(X), scaler.transform(X))
    saved = scaler.to_dict()
    saved["statistic"]["values"] = saved["statistic"]["values"][::-1]
    with pytest.raises(ValueError, match="not in the order of ranks"):
        nc.QuantileTransformer.from_dict(saved)


def test_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(data(0, nan=False), columns=list("abcdef"), index=range(5, 405))
    scaler = nc.QuantileTransformer(n_quantiles=10).set_output(transform="pandas")
    result = scaler.fit_transform(frame)
    assert list(result.columns) == list("abcdef")
    assert (result.index == frame.index).all()


# -- the function --------------------------------------------------------------------------


def test_function_is_scikit_learns():
    X = data(0, nan=False)
    parameters = {"n_quantiles": 50, "output_distribution": "normal", "random_state": 0}
    np.testing.assert_allclose(
        nc.quantile_transform(X, **parameters),
        preprocessing.quantile_transform(X, **parameters),
        rtol=1e-9,
        atol=1e-12,
    )
    few = X[:60]
    np.testing.assert_allclose(
        nc.quantile_transform(few, axis=1, n_quantiles=4),
        preprocessing.quantile_transform(few, axis=1, n_quantiles=4),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="axis must be 0 or 1, not 2"):
        nc.quantile_transform(X, axis=2)


# -- sketches ------------------------------------------------------------------------------


def test_sketches_stream_and_merge():
    X = data(0, 20_000)
    parameters = {"quantiles": "sketch", "quantile_error": 0.005, "n_quantiles": 100}
    whole = nc.QuantileTransformer(**parameters).fit(X)
    streamed, merged = (nc.QuantileTransformer(**parameters) for _ in range(2))
    for chunk in np.array_split(X, 7):
        streamed.partial_fit(chunk)
        merged.merge(nc.QuantileTransformer(**parameters).fit(chunk))
    exact = nc.QuantileTransformer(n_quantiles=100, subsample=None).fit(X)
    for scaler in (whole, streamed, merged):
        assert 0 < scaler.quantile_error_ <= 0.005
        assert scaler.quantiles_.shape == (100, 6)
        assert scaler.n_samples_seen_ == 20_000
        for column in (0, 1, 2, 3):  # without ties
            values = np.sort(X[~np.isnan(X[:, column]), column])
            rank = np.searchsorted(values, scaler.quantiles_[:, column]) / len(values)
            assert np.abs(rank - scaler.references_).max() <= 0.0052
        close = np.nanmax(np.abs(scaler.transform(X) - exact.transform(X))[:, :4])
        assert close <= 0.01


def test_a_kept_sketch_continues_an_exact_fit(tmp_path):
    X = data(0, 4000)
    exact = nc.QuantileTransformer(n_quantiles=50, subsample=None).fit(X)
    scaler = nc.QuantileTransformer(n_quantiles=50, keep_sketch=True).fit(X)
    np.testing.assert_array_equal(scaler.quantiles_, exact.quantiles_)
    assert scaler.quantile_error_ == 0.0
    scaler.save(tmp_path / "s.json")
    other = nc.load(tmp_path / "s.json").partial_fit(data(1, 4000))
    scaler.merge(nc.QuantileTransformer(n_quantiles=50, keep_sketch=True).fit(data(1, 4000)))
    for each in (other, scaler):
        assert each.n_samples_seen_ == 8000
        assert 0 < each.quantile_error_ <= 0.01
    with pytest.raises(ValueError, match="no sketch of sparse"):
        scaler.fit(sparse.csr_matrix(np.eye(300, 5)))


@pytest.mark.parametrize("axis", [1, 0, (1, 2), None])
def test_other_axes_are_columns_laid_out_otherwise(axis):
    X = np.random.default_rng(0).normal(size=(8, 5, 60))
    kept = () if axis is None else (axis,) if isinstance(axis, int) else axis
    others = [each for each in range(3) if each not in kept]
    rows = X.transpose(*others, *kept).reshape(-1, int(np.prod([X.shape[k] for k in kept])))
    found = nc.QuantileTransformer(n_quantiles=7, axis=axis).fit(X).transform(X)
    expected = nc.QuantileTransformer(n_quantiles=7).fit_transform(rows)
    shaped = found.transpose(*others, *kept).reshape(rows.shape)
    np.testing.assert_allclose(shaped, expected, rtol=1e-12, atol=1e-12)
