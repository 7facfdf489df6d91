"""Attributes of scalers whose maps are not affine: assigned, they take effect or are refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from libraries import to_strict, to_torch

import normcore as nc

preprocessing = pytest.importorskip("sklearn.preprocessing")

X = np.random.default_rng(5).lognormal(size=(60, 3))
SIDES = {"positive": X, "negative": -50 * X, "both": X - 1}
QUANTILES = {"n_quantiles": 10}


@pytest.mark.parametrize("lambdas", [[-0.5, 0, 2], [1, 1.5, 3], [2, 2, 0]], ids=str)
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(
    ("method", "side"),
    [("box-cox", "positive"), *(("yeo-johnson", side) for side in SIDES)],
)
def test_lambdas_take_effect_as_in_scikit_learn(method, side, standardize, lambdas, tmp_path):
    Z = SIDES[side]
    mine = nc.PowerTransformer(method, standardize=standardize).fit(Z)
    theirs = preprocessing.PowerTransformer(method=method, standardize=standardize).fit(Z)
    theirs.lambdas_ = mine.lambdas_ = np.array(lambdas, float)
    expected = theirs.transform(Z)
    result = mine.transform(Z)
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mine.inverse_transform(result), Z, rtol=1e-6)
    mine.save(tmp_path / "scaler")
    for copy in (nc.load(tmp_path / "scaler"), pickle.loads(pickle.dumps(mine))):
        np.testing.assert_array_equal(copy.transform(Z), result)


def test_lambdas_that_were_learned_are_no_others():
    mine = nc.PowerTransformer().fit(X)
    expected = mine.transform(X)
    mine.lambdas_ = np.array(mine.lambdas_)
    np.testing.assert_array_equal(mine.transform(X), expected)


def test_lambdas_of_a_transformer_that_was_never_fitted(tmp_path):
    mine = nc.PowerTransformer("box-cox", standardize=False)
    mine.lambdas_ = [0.5, 0.0, 2.0]
    expected = np.column_stack([2 * (X[:, 0] ** 0.5 - 1), np.log(X[:, 1]), (X[:, 2] ** 2 - 1) / 2])
    mine.save(tmp_path / "scaler")
    for each in (mine, nc.load(tmp_path / "scaler")):
        np.testing.assert_allclose(each.transform(X), expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="set standardize=False, or call fit"):
        mine.set_params(standardize=True).transform(X)


@pytest.mark.parametrize("to_library", [to_torch, to_strict])
@pytest.mark.parametrize(
    ("scaler", "attribute"),
    [
        (nc.PowerTransformer(), "lambdas_"),
        (nc.QuantileTransformer(**QUANTILES), "quantiles_"),
        (nc.QuantileTransformer(**QUANTILES), "references_"),
        (nc.StandardScaler(), "scale_"),
    ],
    ids=str,
)
def test_arrays_of_any_library_take_effect(scaler, attribute, to_library, tmp_path):
    Z = to_library(X)
    scaler.fit(Z)
    known = getattr(scaler, attribute)
    setattr(scaler, attribute, known * 1.5)
    alike = type(scaler)(**scaler.get_params()).fit(X)
    setattr(alike, attribute, getattr(alike, attribute) * 1.5)
    result = np.from_dlpack(scaler.transform(Z))
    np.testing.assert_allclose(result, alike.transform(X), rtol=1e-9, atol=1e-12)
    known = getattr(scaler, attribute)
    known[...] = known * 1.5
    written = np.from_dlpack(scaler.transform(Z))
    assert not np.allclose(written, result)
    scaler.save(tmp_path / "scaler")
    for copy in (nc.load(tmp_path / "scaler"), pickle.loads(pickle.dumps(scaler))):
        np.testing.assert_allclose(np.from_dlpack(copy.transform(Z)), written, rtol=1e-14)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "shape"),
        (X[:5], "shape"),
        (np.sort(X[:10], axis=0).T, "shape"),
        (X[:10], "must not decrease"),
        (np.full((10, 3), np.inf), "must be finite"),
    ],
    ids=["None", "few", "transposed", "unsorted", "infinite"],
)
def test_landmarks_that_make_no_sense_are_refused(wrong, message):
    scaler = nc.QuantileTransformer(**QUANTILES).fit(X)
    scaler.quantiles_ = wrong
    with pytest.raises(ValueError, match=f"quantiles_ .*{message}"):
        scaler.transform(X)


@pytest.mark.parametrize("wrong", [None, np.ones(2), np.full(3, np.inf)], ids=str)
def test_lambdas_that_make_no_sense_are_refused(wrong):
    scaler = nc.PowerTransformer().fit(X)
    with pytest.raises(ValueError, match="lambdas_"):
        setattr(scaler, "lambdas_", wrong) or scaler.transform(X)


@pytest.mark.parametrize("attribute", ["low_", "high_", "median_", "mad_"])
def test_what_no_map_is_made_of_is_refused(attribute):
    scaler = nc.PercentileScaler(spread="mad").fit(X)
    expected = scaler.transform(X)
    with pytest.raises(AttributeError, match=f"{attribute} tells of what was learned"):
        setattr(scaler, attribute, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(scaler.transform(X), expected)
