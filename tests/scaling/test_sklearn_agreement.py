"""All three scalers agree with scikit-learn within 1e-12 relative on three real tables."""

from itertools import product

import numpy as np
import pytest

import normcore as nc

pytest.importorskip("sklearn")

from sklearn import datasets, preprocessing

TABLES = {
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
CASES = [
    *(
        ("StandardScaler", {"with_mean": with_mean, "with_std": with_std})
        for with_mean, with_std in product([True, False], repeat=2)
    ),
    *(
        ("MinMaxScaler", {"feature_range": feature_range, "clip": clip})
        for feature_range, clip in product([(0, 1), (-1, 1), (-0.3, 7.1)], [True, False])
    ),
    *(
        ("RobustScaler", {"with_centering": centering, "with_scaling": scaling})
        for centering, scaling in product([True, False], repeat=2)
    ),
    *(
        ("RobustScaler", {"quantile_range": quantile_range, "unit_variance": unit_variance})
        for quantile_range, unit_variance in product([(25.0, 75.0), (10, 80.5)], [True, False])
    ),
    ("RobustScaler", {"quantile_range": (0, 100)}),
]
RTOL = 1e-12
each_case = pytest.mark.parametrize(("name", "params"), CASES)


@pytest.fixture(scope="module", params=TABLES)
def X(request):
    return TABLES[request.param]().data


def assert_agree(ours, theirs, scale=None):
    """Compare within 1e-12 relative, to the size of the column where numbers cancel."""
    theirs = np.asarray(theirs)
    size = np.abs(theirs) if scale is None else np.nanmax(np.abs(scale), axis=0)
    difference = np.abs(np.asarray(ours) - theirs)
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    assert (np.nan_to_num(difference) <= RTOL * np.nan_to_num(size)).all()


def assert_same_attributes(ours, theirs, X):
    fitted = {name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")}
    assert fitted <= set(vars(ours))
    for name in fitted:
        expected = getattr(theirs, name)
        if expected is None:
            assert getattr(ours, name) is None
        elif name == "min_":  # lo - data_min * scale cancels
            assert_agree(ours.min_, expected, np.abs(theirs.data_min_ * theirs.scale_) + 1)
        elif name in ("mean_", "center_"):  # a sum of terms of both signs
            assert_agree(getattr(ours, name), expected, X)
        else:
            assert_agree(getattr(ours, name), expected)


@each_case
def test_fit_transform_and_inverse(X, name, params):
    ours = getattr(nc, name)(**params).fit(X)
    theirs = getattr(preprocessing, name)(**params).fit(X)
    assert_same_attributes(ours, theirs, X)
    Y = theirs.transform(X)
    assert_agree(ours.transform(X), Y, Y)
    assert_agree(ours.inverse_transform(Y), theirs.inverse_transform(Y), X)


@each_case
def test_unseen_data(X, name, params):
    ours = getattr(nc, name)(**params).fit(X[:100])
    theirs = getattr(preprocessing, name)(**params).fit(X[:100])
    Y = theirs.transform(X[100:])
    assert_agree(ours.transform(X[100:]), Y, Y)


@each_case
def test_with_missing_values(X, name, params):
    X = X.copy()
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    ours = getattr(nc, name)(**params).fit(X)
    theirs = getattr(preprocessing, name)(**params).fit(X)
    assert_same_attributes(ours, theirs, X)
    Y = theirs.transform(X)
    assert_agree(ours.transform(X), Y, Y)


@pytest.mark.parametrize("name", ["StandardScaler", "MinMaxScaler"])
def test_partial_fit(X, name):
    ours, theirs = getattr(nc, name)(), getattr(preprocessing, name)()
    for part in np.array_split(X, 7):
        ours.partial_fit(part)
        theirs.partial_fit(part)
    assert_same_attributes(ours, theirs, X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_sample_weight(X, method):
    weights = np.random.default_rng(1).random(len(X)) * 3
    ours = getattr(nc.StandardScaler(), method)(X, sample_weight=weights)
    theirs = getattr(preprocessing.StandardScaler(), method)(X, sample_weight=weights)
    assert_same_attributes(ours, theirs, X)


def test_parameters_and_their_defaults():
    for name in ("StandardScaler", "MinMaxScaler", "RobustScaler"):
        ours, theirs = getattr(nc, name)(), getattr(preprocessing, name)()
        added = {"backend": None, "axis": "columns"}
        if name == "RobustScaler":
            added |= {"quantiles": "exact", "quantile_error": 0.01, "keep_sketch": False}
        assert ours.get_params() == theirs.get_params() | added
