"""Normalizer and normalize: rows of norm 1, whatever their size, dtype, layout and neighbours."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import to_strict, to_torch

import normcore as nc

NORMS = ("l1", "l2", "max")
each_norm = pytest.mark.parametrize("norm", NORMS)
DTYPES = (np.float64, np.float32, np.float16)


def theirs():
    return pytest.importorskip("sklearn.preprocessing")


def exact_norm(row, norm):
    """Return the norm in rational arithmetic; only the root rounds, to 60 digits."""
    values = [abs(Fraction(float(value))) for value in row]
    if norm == "max":
        return max(values)
    if norm == "l1":
        return sum(values)
    square = sum(value * value for value in values)
    scale = 10**700  # so that the integer root has digits of the least square too
    return Fraction(isqrt(square.numerator * scale**2 // square.denominator), scale)


def assert_normalized(row, result, norm, units):
    """Assert that results are within some units in the last place of exact quotients."""
    size = exact_norm(row, norm) or Fraction(1)
    tiny = Fraction(float(np.finfo(result.dtype).smallest_subnormal))
    eps = Fraction(float(np.finfo(result.dtype).eps))
    for value, mine in zip(row, result, strict=True):
        exact = Fraction(float(value)) / size
        assert abs(Fraction(float(mine)) - exact) <= units * max(eps * abs(exact), tiny)


finite = {
    np.float64: st.floats(allow_nan=False, allow_infinity=False),
    np.float32: st.floats(allow_nan=False, allow_infinity=False, width=32),
    np.float16: st.floats(allow_nan=False, allow_infinity=False, width=16),
}


@each_norm
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_quotients_are_exact_to_the_last_places(norm, dtype, data):
    row = data.draw(st.lists(finite[dtype], min_size=1, max_size=40))
    X = np.array([row], dtype=dtype)
    Y = nc.Normalizer(norm).transform(X)
    assert Y.dtype == dtype
    # Norms within 4 units of float64, and a quotient; narrower dtypes see one rounding.
    assert_normalized(X[0], Y[0], norm, 5 if dtype is np.float64 else Fraction(51, 100))


@each_norm
@pytest.mark.parametrize("size", [1e200, 1e-200, 1e308, 5e-324, 2.0**-1022, 1.0, 1e-17])
@pytest.mark.parametrize("columns", [1, 3, 16, 129, 1000])
def test_rows_of_any_size_have_their_digits(norm, size, columns):
    rng = np.random.default_rng(columns)
    row = (rng.integers(1, 9, size=columns) * (size / 8)).astype(np.float64)
    Y = nc.Normalizer(norm).transform(row[None, :])
    assert_normalized(row, Y[0], norm, 5)


def test_largest_and_smallest_values_together():
    row = np.array([[np.finfo(float).max] * 4 + [5e-324, 0.0, -0.0]])
    for norm in NORMS:
        Y = nc.Normalizer(norm).transform(row)
        assert np.isfinite(Y).all()
        assert_normalized(row[0], Y[0], norm, 5)


@each_norm
@pytest.mark.parametrize("columns", [1, 2, 7, 15, 16, 17, 31, 64, 127, 128, 129, 1000, 4099])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_long_rows(norm, columns, dtype):
    X = np.random.default_rng(columns).normal(size=(2, columns)).astype(dtype)
    Y = nc.Normalizer(norm).transform(X)
    for row, result in zip(X, Y, strict=True):
        assert_normalized(row, result, norm, 5 if dtype is np.float64 else Fraction(51, 100))


@each_norm
def test_rows_of_zeros_stay(norm):
    X = np.array([[0.0, -0.0, 0.0], [1.0, 2.0, 2.0]])
    Y, norms = nc.normalize(X, norm, return_norm=True)
    np.testing.assert_array_equal(Y[0], X[0])
    assert np.signbit(Y[0, 1])
    assert norms[0] == 1.0


@each_norm
@pytest.mark.parametrize("dtype", [*DTYPES, np.int64, np.uint8, bool, ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F", "sliced", "reversed"])
def test_dtypes_and_layouts(norm, dtype, order):
    values = np.random.default_rng(0).integers(0, 9, size=(37, 11)).astype(dtype)
    X = {
        "C": lambda: values,
        "F": lambda: np.asfortranarray(values),
        "sliced": lambda: np.repeat(values, 2, axis=1)[:, ::2],
        "reversed": lambda: values[::-1, ::-1].copy()[::-1, ::-1],
    }[order]()
    Y = nc.Normalizer(norm).transform(X)
    kind = np.dtype(dtype)
    assert Y.dtype == (kind.newbyteorder("=") if kind.kind == "f" else np.float64)
    plain = values.astype(Y.dtype)
    np.testing.assert_array_equal(Y, nc.Normalizer(norm).transform(plain))
    for row, result in zip(plain[:5], Y, strict=False):
        assert_normalized(row, result, norm, 5 if Y.dtype == np.float64 else Fraction(51, 100))


@each_norm
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_rows_beside_it(norm, dtype):
    X = np.random.default_rng(1).normal(size=(20_011, 33)).astype(dtype)
    whole = nc.Normalizer(norm).transform(X)
    for start, stop in [(0, 1), (17, 18), (100, 4_000), (20_000, 20_011)]:
        part = nc.Normalizer(norm).transform(X[start:stop])
        assert part.tobytes() == whole[start:stop].tobytes()
    for threads in (1, 2, 5):
        with nc.use_num_threads(threads):
            assert nc.Normalizer(norm).transform(X).tobytes() == whole.tobytes()


@each_norm
@pytest.mark.parametrize("columns", [64, 33])
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_and_in_place(norm, columns, dtype):
    X = np.random.default_rng(2).normal(size=(40_000, columns)).astype(dtype)
    expected = nc.Normalizer(norm).transform(X)
    out = np.empty_like(X)
    assert nc.Normalizer(norm).transform(X, out=out) is out
    assert out.tobytes() == expected.tobytes()
    again = X.copy()
    assert nc.Normalizer(norm, copy=False).transform(again) is again
    assert again.tobytes() == expected.tobytes()
    again = X.copy()
    assert nc.Normalizer(norm).transform(again, copy=False) is again
    assert nc.Normalizer(norm, copy=False).transform(X, copy=True) is not X
    assert nc.normalize(X, norm).tobytes() == expected.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["fit", "transform", "in place", "csr"])
@each_norm
def test_what_is_not_finite_is_refused_by_its_place(bad, where, norm):
    sparse = pytest.importorskip("scipy.sparse")
    X = np.random.default_rng(3).normal(size=(30_000, 5))
    X[29_000, 3] = bad
    before = X.copy()
    scaler = nc.Normalizer(norm, copy=where != "in place")
    what = "NaN" if np.isnan(bad) else "infinity"
    message = f"^Input X contains {what}: column 3, first at row 29000. Normalizer takes finite"
    table = sparse.csr_array(X) if where == "csr" else X
    with pytest.raises(ValueError, match=message):
        (scaler.fit if where == "fit" else scaler.transform)(table)
    np.testing.assert_array_equal(X, before)
    with pytest.raises(ValueError, match=f"Input X contains {what}"):
        nc.normalize(X, norm, axis=0)


def test_stateless():
    X = np.random.default_rng(4).normal(size=(6, 3))
    scaler = nc.Normalizer()
    Y = scaler.transform(X)
    assert not hasattr(scaler, "n_features_in_")
    np.testing.assert_array_equal(scaler.transform(X[:, :2]), nc.normalize(X[:, :2]))
    assert scaler.fit(X) is scaler
    with pytest.raises(ValueError, match="X has 2 features, but Normalizer is expecting 3"):
        scaler.transform(X[:, :2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scaler)).transform(X), Y)
    with pytest.raises(AttributeError, match="Normalizer has no inverse_transform"):
        _ = scaler.inverse_transform
    assert not hasattr(scaler, "inverse_transform")


def test_parameters_are_checked_in_fit_and_transform():
    X = np.ones((2, 2))
    for attempt in (nc.Normalizer("l3").fit, nc.Normalizer("l3").transform):
        with pytest.raises(ValueError, match="norm must be one of 'l1', 'l2', 'max', got 'l3'"):
            attempt(X)
    with pytest.raises(ValueError, match="norm must be one of"):
        nc.normalize(X, "l3")
    with pytest.raises(ValueError, match="copy must be True or False, got 'no'"):
        nc.Normalizer(copy="no").fit(X)
    with pytest.raises(ValueError, match="axis must be 0 or 1, not 2"):
        nc.normalize(X, axis=2)
    for bad in (np.ones(3), np.empty((0, 3)), np.ones((2, 2, 2)), np.array([["a"]])):
        with pytest.raises(ValueError, match=r"2D array|0 sample|dim 3|text"):
            nc.Normalizer().transform(bad)


@each_norm
@pytest.mark.parametrize("convert", [to_strict, to_torch])
def test_arrays_of_other_libraries(norm, convert):
    X = np.random.default_rng(5).normal(size=(9, 4)) * [[1e200], [1e-200], [0.0], *[[1.0]] * 6]
    for x in (X, X[3:].astype(np.float32)):
        foreign = convert(x)
        for backend in (None, "reference"):
            Y = nc.Normalizer(norm, backend=backend).fit(foreign).transform(foreign)
            assert type(Y) is type(foreign)
            eps = np.finfo(x.dtype).eps
            expected = nc.Normalizer(norm).transform(x)
            np.testing.assert_allclose(np.asarray(Y), expected, rtol=4 * eps)
    Y, norms = nc.normalize(convert(X[3:]), norm, return_norm=True)
    np.testing.assert_allclose(np.asarray(norms), [float(exact_norm(x, norm)) for x in X[3:]])


def test_frames_keep_names_and_index():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [3.0, 0.0], "b": [4.0, 0.0]}, index=["x", "y"])
    Y = nc.Normalizer().set_output(transform="pandas").transform(frame)
    assert list(Y.columns) == ["a", "b"]
    assert list(Y.index) == ["x", "y"]
    np.testing.assert_array_equal(Y, [[0.6, 0.8], [0.0, 0.0]])


def test_saved_file(tmp_path):
    scaler = nc.Normalizer("l1").fit(np.ones((2, 3)))
    scaler.save(tmp_path / "normalizer.json")
    again = nc.load(tmp_path / "normalizer.json")
    assert again.get_params() == scaler.get_params()
    assert again.n_features_in_ == 3


@each_norm
@pytest.mark.parametrize("threads", [1, 4])
def test_threads_may_share_it(norm, threads):
    X = np.random.default_rng(6).normal(size=(20_000, 10))
    scaler = nc.Normalizer(norm)
    expected = scaler.transform(X)
    with ThreadPoolExecutor(threads) as pool:
        for result in pool.map(lambda _: scaler.transform(X), range(6)):
            assert result.tobytes() == expected.tobytes()


# -- scikit-learn's function and class ----------------------------------------------------


@each_norm
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_is_scikit_learns(norm, axis, dtype):
    X = np.random.default_rng(7).normal(size=(50, 6)).astype(dtype)
    X[4] = 0
    mine, my_norms = nc.normalize(X, norm, axis=axis, return_norm=True)
    their, their_norms = theirs().normalize(X, norm, axis=axis, return_norm=True)
    assert (mine.dtype, my_norms.dtype) == (their.dtype, their_norms.dtype)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(mine, their, rtol=4 * eps)
    np.testing.assert_allclose(my_norms, their_norms, rtol=20 * eps)


@each_norm
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "container", ["csr_array", "csc_array", "csr_matrix", "csc_matrix", "coo_array"]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_sparse_is_scikit_learns(norm, axis, container, dtype):
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.random(60, 9, 0.2, random_state=0, format="lil") * 9
    X = getattr(sparse, container)(X.astype(dtype))
    before = X.copy()
    mine, their = nc.normalize(X, norm, axis=axis), theirs().normalize(X, norm, axis=axis)
    assert (type(mine), mine.format, mine.dtype) == (type(their), their.format, their.dtype)
    np.testing.assert_allclose(
        mine.toarray(), their.toarray(), rtol=4 * float(np.finfo(their.dtype).eps)
    )
    assert (X - before).nnz == 0
    if norm == "max":
        for ours, others in zip(
            nc.normalize(X, norm, axis=axis, return_norm=True),
            theirs().normalize(X, norm, axis=axis, return_norm=True),
            strict=True,
        ):
            ours, others = (x.toarray() if hasattr(x, "toarray") else x for x in (ours, others))
            np.testing.assert_allclose(ours, others)
    else:
        for function in (nc.normalize, theirs().normalize):
            with pytest.raises(NotImplementedError, match="return_norm=True is not implemented"):
                function(X, norm, axis=axis, return_norm=True)


def test_sparse_in_place_and_duplicates():
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.csr_array(np.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [0.0, -5.0, 0.0]]))
    data = X.data
    assert nc.Normalizer(copy=False).transform(X) is X
    np.testing.assert_array_equal(data, [0.6, 0.8, -1.0])
    twice = sparse.csr_array(([1.0, 2.0, 4.0], [0, 0, 1], [0, 3]), shape=(1, 2))
    np.testing.assert_array_equal(nc.Normalizer().transform(twice).toarray(), [[0.6, 0.8]])
    assert twice.nnz == 3  # the input keeps its form
    wide = sparse.csr_array(np.eye(3))
    wide.indptr, wide.indices = wide.indptr.astype(np.int64), wide.indices.astype(np.int64)
    np.testing.assert_array_equal(nc.Normalizer("l1").fit(wide).transform(wide).data, 1.0)
    with pytest.raises(TypeError, match="out is for dense input"):
        nc.Normalizer().transform(wide, out=np.empty((3, 3)))
    with pytest.raises(ValueError, match="X has 2 features"):
        nc.Normalizer().fit(wide).transform(wide[:, :2])
    with pytest.raises(ValueError, match="0 sample"):
        nc.Normalizer().transform(sparse.csr_array((0, 3)))
    with pytest.raises(ValueError, match="Complex data not supported"):
        nc.Normalizer().transform(sparse.csr_array(np.eye(2, dtype=complex)))


def test_sparse_is_not_made_dense():
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    places = rng.integers(50_000, size=100_000), rng.integers(2_000_000, size=100_000)
    X = sparse.coo_array((rng.normal(size=100_000), places), shape=(50_000, 2_000_000)).tocsr()
    Y = nc.Normalizer().transform(X)
    assert Y.nnz == X.nnz
    squares = np.asarray(Y.multiply(Y).sum(axis=1)).ravel()
    np.testing.assert_allclose(squares[squares > 0], 1.0)


def test_sparse_pieces_and_bool_of_strict_libraries():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    strict = pytest.importorskip("array_api_strict")
    X = np.array([[3.0, 4.0], [0.0, 2.0]])
    pieces = [scipy_sparse.csr_array(X), scipy_sparse.csr_array(X[:1])]
    scaler = nc.Normalizer().partial_fit(pieces[0]).partial_fit(pieces[1])
    np.testing.assert_array_equal(scaler.transform(pieces[1]).toarray(), [[0.6, 0.8]])
    with pytest.raises(ValueError, match="3 features"):
        scaler.partial_fit(scipy_sparse.csr_array(np.ones((1, 3))))
    assert scaler.n_features_in_ == 2
    table = strict.asarray([[True, False], [True, True]])
    found = np.asarray(nc.Normalizer("l1").fit(table).transform(table))
    np.testing.assert_array_equal(found, [[1.0, 0.0], [0.5, 0.5]])
