"""The scalers inside scikit-learn: pipelines, searches, routing, output containers, joblib."""

import numpy as np
import pytest
from processes import run_python
from scalers import each_scaler

import normcore as nc

pytest.importorskip("sklearn")
import joblib
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


@pytest.fixture(scope="module")
def frame():
    pytest.importorskip("pandas")
    return load_breast_cancer(as_frame=True).data


@each_scaler
def test_pipeline(cls, wine):
    X, y = wine
    pipe = make_pipeline(cls(), LogisticRegression(max_iter=500)).fit(X, y)
    assert pipe.score(X, y) > 0.95
    assert cls.__name__ in repr(pipe)
    assert cls.__name__ in pipe._repr_html_()
    assert cls.__name__ in cls().fit(X)._repr_html_()
    with sklearn.config_context(display="text"):
        assert cls()._repr_html_() is None
    assert pipe[:-1].get_feature_names_out().tolist() == [f"x{i}" for i in range(13)]


def test_grid_search_over_scalers_and_their_parameters(wine):
    X, y = wine
    pipe = Pipeline([("scale", nc.StandardScaler()), ("model", LogisticRegression(max_iter=500))])
    grid = [
        {"scale": [nc.StandardScaler()], "scale__with_mean": [True, False]},
        {"scale": [nc.RobustScaler()], "scale__quantile_range": [(25, 75), (10, 90)]},
        {"scale": [nc.MinMaxScaler()], "scale__clip": [True]},
    ]
    search = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.9
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("container", ["default", "pandas", "polars"])
def test_column_transformer(frame, container):
    library = None if container == "default" else pytest.importorskip(container)
    names = list(frame.columns)
    table = frame[names[:4]].assign(kind=np.where(frame[names[0]] > 14, "big", "small"))
    transformer = ColumnTransformer([
        ("standard", nc.StandardScaler(), names[:2]),
        ("robust", nc.RobustScaler(), names[2:4]),
        ("kind", OneHotEncoder(sparse_output=False), ["kind"]),
    ], verbose_feature_names_out=False).set_output(transform=container)  # fmt: skip
    result = transformer.fit_transform(table)
    assert transformer.get_feature_names_out().tolist() == [*names[:4], "kind_big", "kind_small"]
    if library is not None:
        assert isinstance(result, library.DataFrame)
        result = result.to_numpy()
    expected = nc.StandardScaler().fit_transform(table[names[:2]])
    np.testing.assert_array_equal(np.asarray(result)[:, :2].astype(float), expected)


def test_feature_union(wine):
    union = FeatureUnion([("a", nc.StandardScaler()), ("b", nc.MinMaxScaler())])
    assert union.fit_transform(wine[0]).shape == (178, 26)


@each_scaler
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_global_transform_output(cls, frame, container):
    library = pytest.importorskip(container)
    with sklearn.config_context(transform_output=container):
        result = cls().fit(frame).transform(frame)
        assert isinstance(result, library.DataFrame)
        assert list(result.columns) == list(frame.columns)
        own = cls().set_output(transform="default").fit_transform(frame)
        assert isinstance(own, np.ndarray)
    assert isinstance(cls().fit_transform(frame), np.ndarray)


@each_scaler
def test_clone_carries_parameters_and_output_but_no_fit(cls, wine):
    scaler = cls(copy=False).set_output(transform="pandas").fit(wine[0])
    twin = clone(scaler)
    assert twin.get_params() == scaler.get_params()
    assert twin._sklearn_output_config == {"transform": "pandas"}
    with pytest.raises(NotFittedError):
        check_is_fitted(twin)
    check_is_fitted(scaler)


@each_scaler
def test_not_fitted_error_is_sklearns(cls, wine):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        cls().transform(wine[0])


@each_scaler
def test_joblib(cls, wine, tmp_path):
    scaler = cls().fit(wine[0])
    joblib.dump(scaler, tmp_path / "scaler.joblib")
    twin = joblib.load(tmp_path / "scaler.joblib")
    np.testing.assert_array_equal(twin.transform(wine[0]), scaler.transform(wine[0]))
    parts = joblib.Parallel(n_jobs=2, prefer="threads")(
        joblib.delayed(scaler.transform)(part) for part in np.array_split(wine[0], 5)
    )
    np.testing.assert_array_equal(np.vstack(parts), scaler.transform(wine[0]))


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_routing_of_sample_weight_to_fit(wine):
    X, y = wine
    weights = np.random.default_rng(0).random(len(X))
    scaler = nc.StandardScaler().set_fit_request(sample_weight=True)
    model = LogisticRegression(max_iter=500).set_fit_request(sample_weight=False)
    pipe = make_pipeline(scaler, model).fit(X, y, sample_weight=weights)
    expected = nc.StandardScaler().fit(X, sample_weight=weights)
    np.testing.assert_array_equal(pipe[0].mean_, expected.mean_)
    aliased = nc.StandardScaler().set_fit_request(sample_weight="scaler_weight")
    pipe = make_pipeline(aliased, model).fit(X, y, scaler_weight=weights)
    np.testing.assert_array_equal(pipe[0].var_, expected.var_)
    ignoring = nc.StandardScaler().set_fit_request(sample_weight=False)
    model = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
    pipe = make_pipeline(ignoring, model).fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(pipe[0].mean_, nc.StandardScaler().fit(X).mean_)


@pytest.mark.usefixtures("routing")
def test_routing_refuses_what_was_not_decided(wine):
    X, y = wine
    model = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        make_pipeline(nc.StandardScaler(), model).fit(X, y, sample_weight=np.ones(len(X)))


@pytest.mark.usefixtures("routing")
def test_requests_by_method():
    scaler = nc.StandardScaler().set_fit_request(sample_weight=True)
    assert scaler.set_partial_fit_request(sample_weight="w") is scaler
    scaler.set_transform_request(copy=False, where="w").set_inverse_transform_request(copy=True)
    routing = clone(scaler).get_metadata_routing()
    assert routing.fit.requests == {"sample_weight": True, "where": None}
    assert routing.partial_fit.requests == {"sample_weight": "w", "where": None}
    assert routing.transform.requests == {"copy": False, "where": "w"}
    assert routing.inverse_transform.requests == {"copy": True, "where": None}
    undecided = nc.StandardScaler().get_metadata_routing().fit.requests
    assert undecided == {"sample_weight": None, "where": None}
    with pytest.raises(TypeError, match="Unexpected args"):
        scaler.set_fit_request(weights=True)
    with pytest.raises(TypeError, match="Unexpected args"):
        nc.MinMaxScaler().set_fit_request(sample_weight=True)
    nc.RobustScaler().set_fit_request(sample_weight=True)
    assert not hasattr(nc.RobustScaler(), "set_partial_fit_request")


@pytest.mark.usefixtures("routing")
def test_routing_of_a_mask_to_fit_and_transform():
    X = np.random.default_rng(0).standard_normal((30, 3))
    where = np.random.default_rng(1).random(X.shape) < 0.7
    scaler = nc.StandardScaler().set_fit_request(where=True).set_transform_request(where=True)
    blind = nc.MinMaxScaler().set_fit_request(where=False).set_transform_request(where=False)
    pipeline = make_pipeline(scaler, blind)
    result = pipeline.fit(X, where=where).transform(X, where=where)
    first = nc.StandardScaler().fit_transform(X, where=where)
    np.testing.assert_array_equal(first[~where], X[~where])
    np.testing.assert_array_equal(result, nc.MinMaxScaler().fit_transform(first))


def test_requests_need_routing_switched_on():
    with pytest.raises(RuntimeError, match="enable_metadata_routing"):
        nc.StandardScaler().set_fit_request(sample_weight=True)


WITHOUT_SKLEARN = """
import sys
import numpy as np
import normcore as nc

X = np.arange(12.0).reshape(4, 3)
for cls in (nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler):
    try:
        cls().transform(X)
    except (ValueError) as error:
        assert isinstance(error, AttributeError) and "not fitted yet" in str(error), error
    else:
        raise SystemExit("no error")
    scaler = cls().fit(X)
    scaler.inverse_transform(scaler.transform(X))
    repr(scaler), scaler._repr_html_(), scaler.get_params(), scaler.get_feature_names_out()
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"sklearn", "pandas", "polars", "scipy", "pyarrow", "torch"}, loaded
"""


def test_everything_works_without_importing_scikit_learn():
    run_python("-W", "error", "-c", WITHOUT_SKLEARN)
