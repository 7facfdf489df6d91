"""scale, minmax_scale, maxabs_scale, robust_scale: scikit-learn's functions of those names."""

import warnings

import numpy as np
import pytest
from libraries import to_strict, to_torch

import normcore as nc

preprocessing = pytest.importorskip("sklearn.preprocessing")

CASES = [
    ("scale", {}),
    ("scale", {"with_mean": False}),
    ("scale", {"with_std": False}),
    ("minmax_scale", {}),
    ("minmax_scale", {"feature_range": (-2, 3)}),
    ("maxabs_scale", {}),
    ("robust_scale", {}),
    ("robust_scale", {"with_centering": False, "quantile_range": (10, 90)}),
    ("robust_scale", {"with_scaling": False}),
    ("robust_scale", {"unit_variance": True}),
]
each_case = pytest.mark.parametrize(("name", "params"), CASES)


def both(name):
    return getattr(nc, name), getattr(preprocessing, name)


@pytest.fixture
def X():
    X = np.random.default_rng(0).normal(3, 2, size=(40, 5)) * [1, 1e-3, 1e4, 7, 1]
    X[3, 1] = np.nan
    X[:, 4] = 2.5
    return X


@each_case
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64])
def test_tables(X, name, params, axis, dtype):
    ours, theirs = both(name)
    if dtype == np.int64:
        X = np.nan_to_num(X)
    elif dtype == np.float16:
        X = X[:, [0, 3, 4]]
    X = X.astype(dtype)
    before = X.copy()
    expected = theirs(X.astype(np.float64), axis=axis, **params)
    result = ours(X, axis=axis, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of digits that it loses
        assert result.dtype == theirs(X, axis=axis, **params).dtype
    eps = float(np.finfo(result.dtype).eps)
    size = np.nanmax(np.abs(expected)) + np.nanmax(np.abs(X))  # numbers of this size cancel
    np.testing.assert_allclose(result, expected, rtol=8 * eps, atol=8 * 2.0**-52 * size)
    np.testing.assert_array_equal(X, before)


@each_case
def test_one_dimension(X, name, params):
    ours, theirs = both(name)
    column = X[:, 0]
    result = ours(column, **params)
    assert result.shape == column.shape
    np.testing.assert_allclose(result, theirs(column, **params), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(ours(list(column), **params), result)
    with pytest.raises(ValueError, match="dim 3"):
        ours(np.ones((2, 2, 2)), **params)


@each_case
@pytest.mark.parametrize("axis", [0, 1])
def test_without_copy_the_result_is_in_the_input(X, name, params, axis):
    ours, _ = both(name)
    expected = ours(X, axis=axis, **params)
    given = X.copy()
    result = ours(given, axis=axis, copy=False, **params)
    assert np.shares_memory(result, given)
    np.testing.assert_array_equal(given, expected)


@each_case
@pytest.mark.parametrize("axis", [0, 1])
def test_containers(X, name, params, axis):
    ours, _ = both(name)
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    expected = ours(X, axis=axis, **params)
    columns = list("abcde")
    for given in (
        X.tolist(),
        pandas.DataFrame(X, columns=columns),
        polars.DataFrame(X, schema=columns),
    ):
        result = ours(given, axis=axis, **params)
        assert isinstance(result, np.ndarray)
        np.testing.assert_allclose(result, expected, rtol=1e-14)
    for convert in (to_torch, to_strict):
        result = ours(convert(X), axis=axis, **params)
        assert type(result) is type(convert(X))
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-12, atol=1e-12)
        flat = ours(convert(X[:, 0]), **params)
        np.testing.assert_allclose(np.asarray(flat), ours(X[:, 0], **params), rtol=1e-12)
    np.testing.assert_array_equal(ours(pandas.Series(X[:, 0]), **params), ours(X[:, 0], **params))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *CASES,
        *(("normalize", {"axis": axis}) for axis in (0, 1)),
        *(("quantile_transform", {"axis": axis, "n_quantiles": 2}) for axis in (0, 1)),
        ("power_transform", {}),
    ],
)
def test_the_result_is_an_array_whatever_is_configured(X, name, params):
    sklearn = pytest.importorskip("sklearn")
    pandas = pytest.importorskip("pandas")
    X = np.nan_to_num(X)
    for given in (X, pandas.DataFrame(X)):
        expected = getattr(nc, name)(given, **params)
        with sklearn.config_context(transform_output="pandas"):
            result = getattr(nc, name)(given, **params)
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, expected)


@each_case
@pytest.mark.parametrize("axis", [2, -1, "0", None, 0.0, True])
def test_axis_is_checked(X, name, params, axis):
    with pytest.raises(ValueError, match="axis must be 0 or 1, not "):
        both(name)[0](X, axis=axis, **params)


def test_sparse_input_that_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.random(20, 4, 0.5, random_state=0, format="csr")
    for function in both("scale"):
        with pytest.raises(ValueError, match="Cannot center sparse matrices: pass `with_mean=Fal"):
            function(X)
        with pytest.raises(ValueError, match="Can only scale sparse matrix on axis=0"):
            function(X, axis=1, with_mean=False)
    with pytest.raises(TypeError, match="MinMaxScaler does not support sparse input"):
        nc.minmax_scale(X)


@pytest.mark.parametrize("container", ["csr_array", "csc_matrix"])
@pytest.mark.parametrize(
    ("name", "params", "axis"),
    [
        ("scale", {"with_mean": False}, 0),
        ("maxabs_scale", {}, 0),
        ("maxabs_scale", {}, 1),
        ("robust_scale", {"with_centering": False}, 0),
        ("robust_scale", {"with_centering": False}, 1),
    ],
)
def test_sparse_tables(container, name, params, axis):
    sparse = pytest.importorskip("scipy.sparse")
    ours, theirs = both(name)
    dense = np.random.default_rng(1).integers(0, 9, size=(30, 12)) * 1.0
    dense[dense < 5] = 0
    X = getattr(sparse, container)(dense)
    mine, their = (each(X, axis=axis, **params) for each in (ours, theirs))
    assert (type(mine), mine.format) == (type(their), their.format)
    np.testing.assert_allclose(mine.toarray(), their.toarray(), rtol=1e-12)
    assert (X.toarray() == dense).all()
