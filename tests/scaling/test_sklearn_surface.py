"""What scikit-learn and normcore share has scikit-learn's parameters, defaults and attributes."""

import inspect

import numpy as np
import pytest

import normcore as nc
from normcore import registration

preprocessing = pytest.importorskip("sklearn.preprocessing")

OURS = set(nc.__all__) | {
    row.target.partition(":")[2] if row.kind == "scaler" else row.name
    for row in registration.registrations()
    if row.kind in ("scaler", "function")
}
SHARED = sorted(OURS & set(preprocessing.__all__))
CLASSES = [name for name in SHARED if name[0].isupper()]
FUNCTIONS = [name for name in SHARED if name[0].islower()]
METHODS = (
    "fit", "partial_fit", "transform", "inverse_transform", "fit_transform",
    "get_feature_names_out", "set_output", "get_params", "set_params",
)  # fmt: skip
#: Parameters of methods that take anything, and of those that are scikit-learn's alone.
KINDS_THAT_COLLECT = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def parameters(function):
    return {
        name: each
        for name, each in inspect.signature(function).parameters.items()
        if each.kind not in KINDS_THAT_COLLECT and name != "self"
    }


def assert_compatible(ours, theirs):
    """Assert that each call of theirs is one of ours, with the same defaults."""
    mine = parameters(ours)
    positional = [each.name for each in mine.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    order = []
    for name, their in parameters(theirs).items():
        assert name in mine, name
        assert mine[name].default == their.default, name
        if their.kind is their.POSITIONAL_OR_KEYWORD:
            order.append(name)
    assert positional[: len(order)] == order
    added = mine.keys() - parameters(theirs).keys()
    assert all(mine[name].default is not inspect.Parameter.empty for name in added), added


def test_the_family_is_there():
    assert {"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer"} <= set(
        CLASSES
    )
    assert {"scale", "minmax_scale", "maxabs_scale", "robust_scale", "normalize"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    assert_compatible(getattr(nc, name), getattr(preprocessing, name))


@pytest.mark.parametrize("name", CLASSES)
def test_constructors(name):
    ours, theirs = getattr(nc, name), getattr(preprocessing, name)
    assert_compatible(ours.__init__, theirs.__init__)
    assert theirs().get_params().items() <= ours().get_params().items()


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name):
    ours, theirs = getattr(nc, name)(), getattr(preprocessing, name)()
    for method in METHODS:
        if hasattr(theirs, method) and hasattr(ours, method):
            assert_compatible(getattr(ours, method), getattr(theirs, method))
        else:
            # RobustScaler has partial_fit where theirs has none; nothing of theirs is missing.
            assert not hasattr(theirs, method), method


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("named", [False, True])
def test_fitted_attributes(name, named):
    X = np.random.default_rng(0).random((1200, 3)) + 0.5
    if named:
        X = pytest.importorskip("pandas").DataFrame(X, columns=["a", "b", "c"])
    ours, theirs = getattr(nc, name)().fit(X), getattr(preprocessing, name)().fit(X)
    fitted = [each for each in vars(theirs) if each.endswith("_") and not each.startswith("_")]
    for attribute in fitted:
        assert hasattr(ours, attribute), attribute
        mine, their = getattr(ours, attribute), getattr(theirs, attribute)
        assert np.shape(mine) == np.shape(their), attribute
        if np.asarray(their).dtype.kind == "f":
            # SciPy's search for lambdas ends when it has half of their digits.
            rtol = 1e-6 if attribute == "lambdas_" else 1e-9
            np.testing.assert_allclose(mine, their, rtol=rtol, atol=1e-12, err_msg=attribute)


@pytest.mark.parametrize("name", CLASSES)
def test_tags(name):
    """What scikit-learn's meta-estimators and checks ask of an estimator."""
    ours, theirs = (getattr(module, name)().__sklearn_tags__() for module in (nc, preprocessing))
    assert ours.requires_fit == theirs.requires_fit
    assert ours.input_tags.allow_nan == theirs.input_tags.allow_nan
    assert set(theirs.transformer_tags.preserves_dtype) <= set(
        ours.transformer_tags.preserves_dtype
    )
