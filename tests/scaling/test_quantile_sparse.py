"""QuantileTransformer of sparse matrices, against scikit-learn's and the dense map."""

from __future__ import annotations

import numpy as np
import pytest
from releases import skip_before

import normcore as nc

preprocessing = pytest.importorskip("sklearn.preprocessing")
sparse = pytest.importorskip("scipy.sparse")

FEW = "ignore:n_quantiles .* is greater than the total number of samples:UserWarning"


def matrix(seed, negative=False, nan=True, dtype="f8"):
    rng = np.random.default_rng(seed)
    X = np.where(
        rng.random((300, 5)) < [0.02, 0.3, 0.9, 1.0, 0.0], rng.exponential(size=(300, 5)), 0
    )
    if negative:
        X *= rng.choice([-1.0, 1.0], X.shape)
    if nan:
        X[(X != 0) & (rng.random(X.shape) < 0.05)] = np.nan
    return X.astype(dtype)


SUBSAMPLE = skip_before("scikit-learn", "1.9.1", "takes a subsample of stored values whole")


@pytest.mark.filterwarnings(FEW)
@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_array", "csc_array"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"n_quantiles": 20},
        {"n_quantiles": 20, "ignore_implicit_zeros": True},
        {"n_quantiles": 20, "subsample": 60, "random_state": 0},
        pytest.param(
            {"n_quantiles": 20, "subsample": 60, "random_state": 0, "ignore_implicit_zeros": True},
            marks=SUBSAMPLE,
        ),
        {"n_quantiles": 20, "output_distribution": "normal"},
    ],
    ids=str,
)
def test_sparse_is_scikit_learns(kind, parameters):
    X = getattr(sparse, kind)(matrix(0, negative="ignore_implicit_zeros" in parameters))
    mine = nc.QuantileTransformer(**parameters).fit(X)
    theirs = preprocessing.QuantileTransformer(**parameters).fit(X)
    np.testing.assert_array_equal(mine.quantiles_, theirs.quantiles_)
    before = X.toarray()
    ours, expected = mine.transform(X), theirs.transform(X)
    assert ours.format == "csc"
    np.testing.assert_allclose(ours.toarray(), expected.toarray(), rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(X.toarray(), before)
    np.testing.assert_allclose(
        mine.inverse_transform(ours).toarray(),
        theirs.inverse_transform(expected).toarray(),
        rtol=1e-9,
        atol=1e-12,
    )


def test_sparse_in_place_and_other_dtypes():
    X = sparse.csc_matrix(matrix(0, dtype="f4"))
    scaler = nc.QuantileTransformer(n_quantiles=20).fit(X)
    expected = scaler.transform(X)
    assert expected.dtype == np.float32
    scaler.set_params(copy=False)
    result = scaler.transform(X)
    assert result is X
    np.testing.assert_array_equal(X.toarray(), expected.toarray())
    counts = sparse.csr_matrix(matrix(1, nan=False).astype("i8"))
    assert nc.QuantileTransformer(n_quantiles=5).fit_transform(counts).dtype == np.float64


@pytest.mark.filterwarnings(FEW)
@pytest.mark.parametrize("kind", ["csc_matrix", "csr_array"])
def test_sparse_duplicates_are_their_sum(kind):
    values, places, starts = [1.0, 2, 3, 5, 4], [1, 1, 0, 2, 0], [0, 3, 4, 5]
    X = getattr(sparse, kind)((values, places, starts), shape=(3, 3))
    scaler = nc.QuantileTransformer().fit(X)
    dense = X.toarray()
    alike = nc.QuantileTransformer().fit(dense)
    np.testing.assert_array_equal(scaler.quantiles_, alike.quantiles_)
    result = scaler.transform(X).toarray()
    np.testing.assert_array_equal(result, alike.transform(dense))
    np.testing.assert_array_equal(
        scaler.inverse_transform(scaler.transform(X)).toarray(), alike.inverse_transform(result)
    )
    assert X.nnz == 5
    scaler.set_params(copy=False)
    np.testing.assert_array_equal(scaler.transform(X).toarray(), result)


def test_sparse_refusals():
    scaler = nc.QuantileTransformer(n_quantiles=20)
    with pytest.raises(ValueError, match="only accepts non-negative sparse matrices"):
        scaler.fit(sparse.csr_matrix(matrix(0, negative=True)))
    X = sparse.csc_matrix(matrix(0))
    scaler.fit(X)
    with pytest.raises(ValueError, match="only accepts non-negative sparse matrices"):
        scaler.transform(-X)
    with pytest.raises(
        ValueError, match="X has 3 features, but QuantileTransformer is expecting 5"
    ):
        scaler.transform(X[:, :3])
    X.data[X.indptr[2] + 4] = np.inf
    with pytest.raises(ValueError, match="infinity: column 2, first at row"):
        scaler.transform(X)
    with pytest.raises(Exception, match="not fitted"):
        nc.QuantileTransformer().transform(X)
