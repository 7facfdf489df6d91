"""scikit-learn's estimators as scalers, and scalers as these."""

import pickle
import re
import warnings

import numpy as np
import pytest
from exported import DATASETS, Halves, dataset, run, same_bits

import normcore as nc

preprocessing = pytest.importorskip("sklearn.preprocessing")
pd = pytest.importorskip("pandas")
exceptions = pytest.importorskip("sklearn.exceptions")
impute = pytest.importorskip("sklearn.impute")
pipeline = pytest.importorskip("sklearn.pipeline")

EPS = np.finfo(np.float64).eps
PAIRS = [
    ("StandardScaler", {}),
    ("StandardScaler", {"with_mean": False}),
    ("StandardScaler", {"with_std": False}),
    ("StandardScaler", {"with_mean": False, "with_std": False}),
    ("MinMaxScaler", {"feature_range": (-1, 2), "clip": True}),
    ("MaxAbsScaler", {"clip": True}),
    ("RobustScaler", {"quantile_range": (10, 80), "unit_variance": True}),
    ("RobustScaler", {"with_scaling": False}),
    ("RobustScaler", {"with_scaling": False, "with_centering": False}),
    ("PowerTransformer", {}),
    ("PowerTransformer", {"standardize": False}),
    ("PowerTransformer", {"method": "box-cox"}),
    ("QuantileTransformer", {"n_quantiles": 20}),
    ("QuantileTransformer", {"n_quantiles": 30, "output_distribution": "normal"}),
    ("Normalizer", {"norm": "l1"}),
]
each_pair = pytest.mark.parametrize(("name", "params"), PAIRS, ids=str)


def table(name, dataset_name="wine"):
    """Return a frame that the estimator takes: no NaN for rows, no offset for powers."""
    X = dataset(dataset_name)
    if name == "Normalizer":
        X = X[~np.isnan(X).any(axis=1)]
    if name == "PowerTransformer":
        X[:, ::2] -= 1e6
        X = X[:200, :8]
    return pd.DataFrame(X, columns=[f"column {i}" for i in range(X.shape[1])])


def tolerance(name, X):
    """Return how far results may lie apart, in absolute terms: see docs/export.md."""
    if name == "MinMaxScaler":  # theirs is x * scale_ + min_, two large numbers
        X = np.asarray(X)
        spread = np.nanmax(X, axis=0) - np.nanmin(X, axis=0)
        return 8 * EPS * (1 + 3 * np.nanmax(np.abs(X), axis=0) / spread)
    return {"PowerTransformer": 1e-9, "QuantileTransformer": 1e-12, "Normalizer": 4 * EPS}.get(name)


def check(name, ours, theirs, X):
    expected, found = np.asarray(theirs.transform(X)), np.asarray(ours.transform(X))
    allowed = tolerance(name, X)
    if allowed is None:
        same_bits(found, expected + 0.0)  # theirs may be -0.0
    else:
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        assert (np.nan_to_num(np.abs(found - expected)) <= allowed).all()


@each_pair
@pytest.mark.parametrize("dataset_name", DATASETS)
def test_estimators_become_scalers(name, params, dataset_name, tmp_path):
    X = table(name, dataset_name)
    if params.get("method") == "box-cox":
        X = X.abs() + 0.5
    theirs = getattr(preprocessing, name)(**params).fit(X)
    ours = nc.from_sklearn(theirs)
    assert type(ours).__name__ == name
    assert params.items() <= ours.get_params().items()
    assert list(ours.feature_names_in_) == list(X.columns)
    check(name, ours, theirs, X)
    ours.save(tmp_path / "scaler.json")
    same_bits(np.asarray(nc.load(tmp_path / "scaler.json").transform(X)), ours.transform(X))
    if name in ("PowerTransformer", "QuantileTransformer", "RobustScaler"):
        with pytest.raises((AttributeError, ValueError), match="partial_fit"):
            ours.partial_fit(X)


@each_pair
def test_scalers_become_estimators_and_back(name, params):
    X = table(name)
    if params.get("method") == "box-cox":
        X = X.abs() + 0.5
    ours = getattr(nc, name)(**params).fit(X)
    theirs = pickle.loads(pickle.dumps(ours.export("sklearn")))
    assert type(theirs) is getattr(preprocessing, name)
    assert list(theirs.feature_names_in_) == list(X.columns)
    assert list(theirs.get_feature_names_out()) == list(X.columns)
    check(name, ours, theirs, X)
    again = nc.from_sklearn(theirs)
    if name == "PowerTransformer":  # measured from another origin
        np.testing.assert_allclose(again.transform(X), ours.transform(X), rtol=0, atol=1e-9)
    else:
        same_bits(np.asarray(again.transform(X)), np.asarray(ours.transform(X)))
    if hasattr(theirs, "inverse_transform") and name != "Normalizer":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Y = ours.transform(X)
            back = np.asarray(theirs.inverse_transform(pd.DataFrame(Y, columns=X.columns)))
        np.testing.assert_allclose(
            back, np.asarray(ours.inverse_transform(Y)), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("name", ["StandardScaler", "MinMaxScaler", "MaxAbsScaler"])
def test_what_both_remember_goes_on(name):
    X = table(name)
    theirs = getattr(preprocessing, name)().fit(X[:90])
    ours = nc.from_sklearn(theirs)
    np.testing.assert_array_equal(ours.n_samples_seen_, theirs.n_samples_seen_)
    ours.partial_fit(X[90:])
    whole = getattr(nc, name)().fit(X)
    np.testing.assert_allclose(ours.scale_, whole.scale_, rtol=1e-9)
    np.testing.assert_allclose(ours.transform(X), whole.transform(X), rtol=1e-9, atol=1e-9)
    ours = getattr(nc, name)().fit(X[:90]).export("sklearn").partial_fit(X[90:])
    np.testing.assert_allclose(ours.scale_, whole.scale_, rtol=1e-7)


@pytest.mark.parametrize("with_mean", [True, False])
def test_a_spread_whose_square_is_no_float(with_mean):
    X = np.array([[1.0, 1.0, 1.0, 7.0], [3.0, 3.0, 2.0, 7.0], [5.0, -3.0, 4.0, 7.0]])
    X *= [1e200, 1e-200, 1.0, 1.0]
    ours = nc.StandardScaler(with_mean=with_mean).fit(X)
    again = nc.from_sklearn(ours.export("sklearn"))
    same_bits(again.transform(X), ours.transform(X))
    np.testing.assert_allclose(
        again.partial_fit(X).scale_, ours.partial_fit(X).scale_, rtol=1e-15, atol=0.0
    )


@pytest.mark.parametrize("container", [None, "default", "pandas", "polars"])
@pytest.mark.parametrize("cls", [nc.StandardScaler, nc.Normalizer, nc.PercentileScaler])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.filterwarnings("error")
def test_the_output_stays_chosen(container, cls, named):
    if container == "polars":
        pytest.importorskip("polars")
    X = table("StandardScaler")[:3]
    X = X if named else np.asarray(X)
    ours = cls().set_output(transform=container).fit(X)
    expected = ours.transform(X)
    theirs = ours.export("sklearn")
    made = [theirs] if cls is nc.PercentileScaler else [theirs, nc.from_sklearn(theirs)]
    for each in made:
        found = each.transform(X)
        assert type(found) is type(expected)
        if container in ("pandas", "polars"):
            assert list(found.columns) == list(expected.columns)


def test_an_output_that_only_this_library_has():
    scaler = nc.MinMaxScaler().set_output(transform="pyarrow").fit(np.eye(3))
    with pytest.raises(ValueError, match="give no pyarrow: choose another container by set_outp"):
        scaler.export("sklearn")


@pytest.mark.parametrize("name", ["StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"])
def test_columns_that_only_scikit_learn_takes_for_constant(name):
    """Its scale is then 1, and what transforms like it has that too."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=5000) * 1e-17, rng.normal(size=5000)])
    theirs = getattr(preprocessing, name)().fit(X)
    ours = nc.from_sklearn(theirs)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-12, atol=1e-16)


def test_float32_is_taken_as_it_is():
    X = np.asarray(table("StandardScaler"))[:, 1::2].astype(np.float32)
    for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        theirs = getattr(preprocessing, name)().fit(X)
        ours = nc.from_sklearn(theirs)
        assert ours.transform(X).dtype == np.float32
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-5, atol=1e-5)


def test_sample_weights_and_columns_without_values():
    X = np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan]])
    theirs = preprocessing.StandardScaler().fit(X[:, :1], sample_weight=[1.0, 0.5, 2.0])
    ours = nc.from_sklearn(theirs)
    assert ours.n_samples_seen_ == 3.5
    same_bits(ours.transform(X[:, :1]), theirs.transform(X[:, :1]))
    for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a slice without values
            theirs = getattr(preprocessing, name)().fit(X)
        np.testing.assert_allclose(
            nc.from_sklearn(theirs).transform(X), theirs.transform(X), atol=1e-15
        )


class Doubled(nc.StandardScaler):
    """Derived from a scaler with a counterpart, and another map."""

    def affine(self, moments):
        affine = super().affine(moments)
        return nc.Affine(center=affine.center, scale=affine.scale, gamma=2.0)


@pytest.mark.parametrize("scaler", [Halves(), Halves(clip=True), Doubled()], ids=str)
def test_affine_scalers_of_plugins_become_a_pipeline_of_the_same_bits(scaler):
    X = np.asarray(table("StandardScaler"))
    scaler.fit(X)
    made = scaler.export("sklearn")
    assert isinstance(made, pipeline.Pipeline)
    same_bits(run("sklearn", scaler, X), scaler.transform(X))
    if scaler.bounds() is None:
        Y = scaler.transform(X)
        np.testing.assert_allclose(made.inverse_transform(Y), X, rtol=1e-12)


def test_a_plugin_that_only_standardizes_becomes_one_estimator():
    class Centered(nc.AffineScaler):
        statistic = nc.Moments

        def affine(self, moments):
            return nc.Affine(center=moments.mean)

    X = np.asarray(table("StandardScaler"))
    scaler = Centered().fit(X)
    assert type(scaler.export("sklearn")) is preprocessing.StandardScaler
    same_bits(run("sklearn", scaler, X), scaler.transform(X))


def test_power_transforms_far_from_zero_are_refused():
    X = np.exp(np.random.default_rng(0).normal(size=(100, 2)))
    X[:, 1] = X[:, 1] * 1e-3 + 1e6
    with pytest.raises(ValueError, match="column 1 lies so far from zero that its power transform"):
        nc.PowerTransformer().fit(X).export("sklearn")


def test_a_normalizer_needs_no_fit():
    assert nc.from_sklearn(preprocessing.Normalizer("max")).norm == "max"
    assert nc.Normalizer("max").export("sklearn").norm == "max"


def test_others_are_refused():
    class Derived(preprocessing.StandardScaler):
        pass

    X = np.ones((3, 2))
    listed = "MaxAbsScaler, MinMaxScaler, Normalizer, PowerTransformer, QuantileTransformer"
    for estimator, said in [
        (impute.SimpleImputer().fit(X), "sklearn.impute.SimpleImputer"),
        (pipeline.Pipeline([("a", preprocessing.StandardScaler())]).fit(X), "Pipeline"),
        (Derived().fit(X), "Derived"),
        (preprocessing.StandardScaler, "not the class StandardScaler"),
        (nc.StandardScaler().fit(X), "StandardScaler"),
        (7, "builtins.int"),
    ]:
        with pytest.raises(TypeError, match=re.escape(said)) as error:
            nc.from_sklearn(estimator)
        assert listed in str(error.value)
    with pytest.raises(exceptions.NotFittedError):
        nc.from_sklearn(preprocessing.StandardScaler())


def test_arrays_of_other_axes_are_refused():
    scaler = nc.StandardScaler(axis=1).fit(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="scikit-learn's estimators are for tables, not for axis"):
        scaler.export("sklearn")
