"""A sparse matrix, scaled and centered, as a linear operator."""

import pickle

import numpy as np
import pytest

import normcore as nc

sp = pytest.importorskip("scipy.sparse")
linalg = pytest.importorskip("scipy.sparse.linalg")

SCALERS = [
    nc.StandardScaler(),
    nc.MinMaxScaler((-1, 2)),
    nc.RobustScaler(),
    nc.StandardScaler(with_mean=False),
    nc.MaxAbsScaler(),
]
each_affine = pytest.mark.parametrize("scaler", SCALERS, ids=repr)


def dense(shape=(60, 9), dtype=np.float64):
    rng = np.random.default_rng(5)
    X = np.where(rng.random(shape) < 0.5, rng.normal(2, 3, shape), 0.0)
    return X.astype(dtype)


@each_affine
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.csc_array, sp.coo_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_multiplies_as_the_dense_table(scaler, kind, dtype):
    X = dense(dtype=dtype)
    scaler.fit(X.astype(np.float64))
    operator = nc.centered(kind(X), scaler)
    expected = scaler.transform(X.astype(np.float64))
    assert isinstance(operator, linalg.LinearOperator)
    assert operator.shape == expected.shape
    assert operator.dtype == np.float64
    rng = np.random.default_rng(6)
    w, W, u, U = (rng.normal(size=size) for size in (9, (9, 4), 60, (60, 3)))
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(operator @ w, expected @ w, **close)
    np.testing.assert_allclose(operator @ W, expected @ W, **close)
    np.testing.assert_allclose(operator.matmat(w[:, None]), expected @ w[:, None], **close)
    np.testing.assert_allclose(operator.rmatvec(u), expected.T @ u, **close)
    np.testing.assert_allclose(operator.T @ U, expected.T @ U, **close)
    np.testing.assert_allclose(operator.rmatmat(U), expected.T @ U, **close)
    again = pickle.loads(pickle.dumps(operator))
    np.testing.assert_array_equal(again @ w, operator @ w)


def test_singular_values_and_least_squares():
    X = dense((200, 12))
    scaler = nc.StandardScaler().fit(X)
    operator, expected = nc.centered(sp.csr_array(X), scaler), scaler.transform(X)
    found = np.sort(linalg.svds(operator, k=4, return_singular_vectors=False))
    np.testing.assert_allclose(found, np.sort(np.linalg.svd(expected)[1])[-4:], rtol=1e-10)
    y = np.random.default_rng(7).normal(size=200)
    solved = linalg.lsqr(operator, y, atol=1e-14, btol=1e-14)[0]
    np.testing.assert_allclose(solved, np.linalg.lstsq(expected, y)[0], rtol=1e-8)


def test_principal_components_of_a_sparse_table():
    """PCA's components are those of the operator, which no one had to make dense."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    X = dense((300, 20))
    scaler = nc.StandardScaler().fit(X)
    pca = decomposition.PCA(3).fit(scaler.transform(X))
    values = linalg.svds(nc.centered(sp.csr_array(X), scaler), k=3)[1]
    np.testing.assert_allclose(np.sort(values)[::-1], pca.singular_values_, rtol=1e-9)


def test_bad_arguments():
    X = sp.csr_array(dense())
    fitted = nc.StandardScaler().fit(dense())
    with pytest.raises(ValueError, match="not fitted yet"):
        nc.centered(X, nc.StandardScaler())
    with pytest.raises(TypeError, match="X must be a sparse matrix, got ndarray"):
        nc.centered(dense(), fitted)
    with pytest.raises(TypeError, match="scaler must be an AffineScaler, got float"):
        nc.centered(X, 1.0)
    with pytest.raises(ValueError, match="X has 4 features"):
        nc.centered(X[:, :4], fitted)
    with pytest.raises(ValueError, match="clips, which is no linear map"):
        nc.centered(X, nc.MinMaxScaler(clip=True).fit(dense()))
    X.data[5] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        nc.centered(X, fitted)
