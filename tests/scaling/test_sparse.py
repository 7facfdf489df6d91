"""Sparse matrices: fitted and scaled as the dense tables that they stand for."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import normcore as nc
from normcore.testing.exact import exact_moments, ulp_error

sp = pytest.importorskip("scipy.sparse")

SPARSE = [
    nc.StandardScaler(with_mean=False),
    nc.StandardScaler(with_mean=False, with_std=False),
    nc.MaxAbsScaler(),
    nc.RobustScaler(with_centering=False),
    nc.RobustScaler(with_centering=False, quantile_range=(1, 93), unit_variance=True),
]
each_sparse = pytest.mark.parametrize("scaler", SPARSE, ids=repr)
FORMATS = ["csr", "csc"]
KINDS = [getattr(sp, f"{name}_{kind}") for name in FORMATS for kind in ("matrix", "array")]


def table(shape=(40, 6), density=0.4, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = np.where(rng.random(shape) < density, rng.normal(3, 2, shape), 0.0)
    return X.astype(dtype)


def attributes(scaler):
    return {
        name: np.asarray(value)
        for name, value in vars(scaler).items()
        if name.endswith("_") and value is not None
    }


def assert_fitted_alike(scaler, other, ulps=0):
    mine, theirs = attributes(scaler), attributes(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.shape == theirs[name].shape, name
        if value.dtype.kind == "f":
            np.testing.assert_array_max_ulp(value, theirs[name], max(ulps, 1))
        else:
            np.testing.assert_array_equal(value, theirs[name])


@each_sparse
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8, bool])
def test_fitted_and_scaled_as_dense(scaler, kind, dtype):
    dense = table(dtype=dtype)
    X = kind(dense)
    scaler = fresh(scaler)
    expected = fresh(scaler).fit(dense)
    assert_fitted_alike(scaler.fit(X), expected, ulps=4)
    for method in ("transform", "inverse_transform"):
        result = getattr(scaler, method)(X)
        assert type(result) is kind
        of_dense = getattr(scaler, method)(dense)
        assert result.dtype == of_dense.dtype
        np.testing.assert_array_equal(result.toarray(), of_dense)
    np.testing.assert_array_equal(X.toarray(), dense)


def fresh(scaler):
    return type(scaler)(**scaler.get_params())


@settings(deadline=None, max_examples=150)
@given(
    data=st.data(),
    num_rows=st.integers(1, 30),
    num_columns=st.integers(1, 6),
    format=st.sampled_from(FORMATS),
    index=st.sampled_from([np.int32, np.int64]),
    weighted=st.booleans(),
)
def test_moments_within_ulps_of_exact(data, num_rows, num_columns, format, index, weighted):
    """Whatever is stored: in any order, twice, as explicit zeros or NaN, of any size."""
    size = data.draw(st.integers(0, 2 * num_rows))
    place = st.tuples(st.integers(0, num_rows - 1), st.integers(0, num_columns - 1))
    places = data.draw(st.lists(place, min_size=size, max_size=size))
    size_of = data.draw(st.sampled_from([1.0, 1e200, 1e-170, 2.0**60]))
    number = st.one_of(st.integers(-8, 8).map(float), st.just(float("nan")), st.floats(-1e3, 1e3))
    values = data.draw(st.lists(number, min_size=size, max_size=size))
    values = np.array([value * size_of for value in values], dtype=np.float64)
    rows = np.array([row for row, _ in places], dtype=index)
    columns = np.array([column for _, column in places], dtype=index)
    X = unsorted(format, values, rows, columns, (num_rows, num_columns), index)
    dense = X.toarray()
    weights = None
    if weighted:
        each = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
        weights = data.draw(st.lists(each, min_size=num_rows, max_size=num_rows))
        if not any(weights):
            return
    scaler = nc.StandardScaler(with_mean=False).fit(X, sample_weight=weights)
    counts = np.broadcast_to(scaler.n_samples_seen_, num_columns)
    for column in range(num_columns):
        exact = exact_moments(dense[:, column], weights)
        if exact is None:
            assert np.isnan(scaler.mean_[column])
            assert counts[column] == 0
            continue
        assert ulp_error(counts[column], exact.count) <= 1
        assert ulp_error(scaler.mean_[column], exact.mean) <= 1
        if exact.var() == 0 or exact.var() > Fraction(1, 10**290):  # where float64 has all digits
            assert ulp_error(scaler.var_[column], exact.var()) <= 4


def unsorted(format, values, rows, columns, shape, index):
    """Return a matrix as it may come: entries of a row in any order, and some places twice."""
    major, minor = (rows, columns) if format == "csr" else (columns, rows)
    order = np.argsort(major, kind="stable")
    starts = np.searchsorted(major[order], np.arange(shape[format == "csc"] + 1)).astype(index)
    kind = sp.csr_array if format == "csr" else sp.csc_array
    X = kind(shape, dtype=np.float64)
    X.data, X.indices, X.indptr = values[order], minor[order].astype(index), starts
    return X


@each_sparse
@pytest.mark.parametrize("format", FORMATS)
def test_duplicates_and_unsorted_entries(scaler, format):
    values = np.array([1.0, 2, 3, -4, 5, 6, 7])
    rows, columns = np.array([2, 0, 2, 0, 1, 3, 2]), np.array([1, 1, 1, 0, 0, 1, 0])
    X = unsorted(format, values, rows, columns, (5, 2), np.int64)
    dense = X.toarray()
    assert dense[2, 1] == 4
    before = X.data.copy(), X.indices.copy(), X.indptr.copy()
    scaler = fresh(scaler).fit(X)
    assert_fitted_alike(scaler, fresh(scaler).fit(dense))
    np.testing.assert_array_equal(scaler.transform(X).toarray(), scaler.transform(dense))
    for mine, theirs in zip(before, (X.data, X.indices, X.indptr), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@each_sparse
@pytest.mark.parametrize("dtype", [bool, np.int8])
def test_duplicates_are_summed_in_their_dtype(scaler, dtype):
    values = np.array([1, 1, 1, 1], dtype)
    X = sp.csr_array((values, [0, 0, 1, 1], [0, 2, 3, 4]), shape=(3, 2))
    assert X.nnz == 4
    scaler = fresh(scaler).fit(X)
    np.testing.assert_array_equal(scaler.transform(X).toarray(), scaler.transform(X.toarray()))
    assert X.nnz == 4


@each_sparse
@pytest.mark.parametrize("format", ["coo", "lil", "dok", "bsr", "dia"])
def test_other_formats_become_csr(scaler, format):
    X = sp.coo_array(table()).asformat(format)
    scaler = fresh(scaler).fit(X)
    assert_fitted_alike(scaler, fresh(scaler).fit(table()), ulps=4)
    assert scaler.transform(X).format == "csr"
    np.testing.assert_array_equal(scaler.transform(X).toarray(), scaler.transform(table()))


@each_sparse
@pytest.mark.parametrize("kind", KINDS)
def test_in_place(scaler, kind):
    X = kind(table())
    scaler = fresh(scaler).set_params(copy=False).fit(X)
    expected = scaler.transform(table())
    assert scaler.transform(X) is X
    np.testing.assert_array_equal(X.toarray(), expected)
    integers = kind(table(dtype=np.int64))
    assert scaler.transform(integers) is not integers
    assert integers.dtype == np.int64


def test_columns_of_many_lengths():
    """Long and short ones, empty and full ones; of every statistic and way to observe it."""
    rng = np.random.default_rng(1)
    lengths = [0, 1, 2, 3, 127, 128, 129, 1023, 1024, 1500, 3000, 5, 3000]
    dense = np.zeros((3000, len(lengths)), dtype=np.float32)
    for column, length in enumerate(lengths):
        rows = rng.choice(3000, length, replace=False)
        dense[rows, column] = rng.normal(1e4, 1, length)
    dense[::7, 3] = np.nan
    X = sp.csr_array(dense)
    weights = rng.random(3000)
    for backend in (None, "reference"):
        scaler = nc.StandardScaler(with_mean=False, backend=backend)
        assert_fitted_alike(scaler.fit(X), nc.StandardScaler(with_mean=False).fit(dense), 4)
        scaler.fit(X, sample_weight=weights)
        exact = nc.StandardScaler(with_mean=False).fit(dense, sample_weight=weights)
        assert_fitted_alike(scaler, exact, 4)
        scaler = nc.MaxAbsScaler(backend=backend).fit(X)
        assert_fitted_alike(scaler, nc.MaxAbsScaler().fit(dense))


def test_wide_integers_count_with_every_digit():
    dense = np.array([[2**60 + 1, 0], [2**60 + 3, 2**55 + 1], [2**60 + 5, 0]])
    scaler = nc.StandardScaler(with_mean=False).fit(sp.csc_array(dense))
    np.testing.assert_allclose(scaler.var_[0], 8 / 3, rtol=1e-15)
    assert_fitted_alike(scaler, nc.StandardScaler(with_mean=False).fit(dense), 4)


@pytest.mark.parametrize("scaler", SPARSE[:3], ids=repr)
def test_pieces_learn_what_the_whole_does(scaler):
    X = sp.csr_array(table((60, 5)))
    whole = fresh(scaler).fit(X)
    parts = fresh(scaler).partial_fit(X[:7]).partial_fit(X[7:20].toarray())
    assert_fitted_alike(parts.merge(fresh(scaler).fit(X[20:].tocsc())), whole, 4)


class Outsider(nc.AffineScaler):
    statistic = nc.Extrema
    keeps_zero = True

    def observe(self, backend, x, *, weights=None):
        return nc.Extrema.observe(backend, np.abs(x), skipna=True)

    def affine(self, extrema):
        return nc.Affine(scale=extrema.max, gamma=2.0)


def test_a_scaler_of_someone_elses():
    dense = table((50, 7))
    scaler = Outsider().fit(sp.csr_array(dense))
    assert_fitted_alike(scaler, Outsider().fit(dense))
    np.testing.assert_array_equal(
        scaler.transform(sp.csr_array(dense)).toarray(), scaler.transform(dense)
    )


class Mistaken(Outsider):
    def affine(self, extrema):
        return nc.Affine(center=extrema.min)


def test_a_claim_to_keep_zeros_is_checked():
    scaler = Mistaken().fit(sp.csr_array(table() - 1))
    with pytest.raises(ValueError, match="does not keep zeros, as it claims"):
        scaler.transform(sp.csr_array(table()))


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 1025, 123457])
def test_so_many_zeros_by_doubling(n, monkeypatch):
    """A statistic that does not say what that of zeros is has it observed."""
    monkeypatch.setattr(nc.Extrema, "of_zeros", classmethod(lambda cls, count: None))
    X = sp.csc_array((np.array([-2.0]), np.array([0]), np.array([0, 1, 1])), shape=(n, 2))
    scaler = nc.MaxAbsScaler().fit(X)
    assert scaler._statistic.count.tolist() == [n, n]
    np.testing.assert_array_equal(scaler._statistic.max, [-2.0 if n == 1 else 0.0, 0.0])


def test_what_centers_refuses():
    X = sp.csr_array(table())
    for method in ("fit", "partial_fit", "fit_transform"):
        with pytest.raises(ValueError, match="Cannot center sparse matrices: pass `with_mean=Fa"):
            getattr(nc.StandardScaler(), method)(X)
    with pytest.raises(ValueError, match="Cannot center sparse matrices: use `with_centering=Fa"):
        nc.RobustScaler().fit(X)
    with pytest.raises(TypeError, match=r"MinMaxScaler does not support sparse input\. Consider"):
        nc.MinMaxScaler().fit(X)
    fitted = nc.StandardScaler().fit(table())
    with pytest.raises(ValueError, match="Cannot center sparse matrices"):
        fitted.transform(X)
    with pytest.raises(ValueError, match="Cannot uncenter sparse matrices"):
        fitted.inverse_transform(X)


@pytest.mark.parametrize("format", FORMATS)
@each_sparse
def test_bad_values(scaler, format):
    X = sp.csr_array(table()).asformat(format)
    scaler = fresh(scaler).fit(X)
    before = attributes(scaler)
    bad = X.copy()
    place = bad.data.size // 2
    bad.data[place] = -np.inf
    row, column = np.argwhere(np.isinf(bad.toarray()))[0]
    for method in ("fit", "transform", "inverse_transform"):
        with pytest.raises(ValueError, match=f"infinity: column {column}, first at row {row}"):
            getattr(scaler, method)(bad)
    with pytest.raises(ValueError, match=r"X has 3 features, but .* is expecting 6"):
        scaler.transform(X[:, :3])
    with pytest.raises(ValueError, match="Complex data not supported"):
        scaler.fit(X.astype(complex))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        scaler.fit(X[:0])
    with pytest.raises(TypeError, match="out= is for dense arrays"):
        scaler.transform(X, out=np.empty(X.shape))
    assert attributes(scaler).keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(attributes(scaler)[name], value)


@each_sparse
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("part", ["indices", "indptr"])
def test_indices_that_lead_elsewhere(scaler, format, part):
    """SciPy takes them as they are; nothing may be read or written outside the matrix."""
    fitted = fresh(scaler).fit(table())
    for value in (-1, 100_000, 40):
        X = sp.csr_array(table()).asformat(format)
        getattr(X, part)[3] = value
        if part == "indptr" and value == 40:
            X.indptr[2] = 41  # then they descend
        for method in (fresh(scaler).fit, fitted.transform, fitted.inverse_transform):
            with pytest.raises(
                ValueError, match=r"shape \(40, 6\), has indices that do not fit it"
            ):
                method(X)


@each_sparse
@pytest.mark.parametrize("format", FORMATS)
def test_spare_room_does_not_count(scaler, format):
    X = sp.csr_array(table()).asformat(format)
    roomy = X.copy()
    roomy.data = np.concatenate([X.data, [np.inf, 7.0]])
    roomy.indices = np.concatenate([X.indices, [0, 1]]).astype(X.indices.dtype)
    fitted = fresh(scaler).fit(roomy)
    assert_fitted_alike(fitted, fresh(scaler).fit(X))
    np.testing.assert_array_equal(fitted.transform(roomy).toarray(), fitted.transform(X).toarray())
    assert np.isinf(roomy.data[-2])


def test_bad_weights():
    X = sp.csr_array(table())
    for bad, message in (
        (-1.0, "negative"),
        (np.nan, "Input sample_weight contains NaN"),
        (np.inf, "3 is inf"),
    ):
        weights = np.ones(40)
        weights[3] = bad
        with pytest.raises(ValueError, match=message):
            nc.StandardScaler(with_mean=False).fit(X, sample_weight=weights)


@pytest.mark.parametrize("name", ["StandardScaler", "MaxAbsScaler", "RobustScaler"])
@pytest.mark.parametrize("kind", KINDS)
def test_as_scikit_learn(name, kind):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    params = {
        "StandardScaler": {"with_mean": False},
        "MaxAbsScaler": {},
        "RobustScaler": {"with_centering": False, "quantile_range": (10.0, 85.0)},
    }[name]
    dense = table((200, 8), density=0.7)
    dense[::9, 2] = np.nan
    X = kind(dense)
    ours, theirs = getattr(nc, name)(**params), getattr(preprocessing, name)(**params)
    np.testing.assert_allclose(ours.fit(X).scale_, theirs.fit(X).scale_, rtol=1e-12)
    for method in ("transform", "inverse_transform"):
        mine, other = getattr(ours, method)(X), getattr(theirs, method)(X)
        np.testing.assert_allclose(mine.toarray(), other.toarray(), rtol=1e-12)
    assert ours.__sklearn_tags__().input_tags.sparse


def test_names_of_columns():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(table(), columns=list("abcdef"))
    scaler = nc.MaxAbsScaler().fit(frame)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        scaler.transform(sp.csr_array(table()))


@pytest.mark.parametrize("format", FORMATS)
def test_the_format_stays(format):
    X = sp.csr_array(table((20, 3), density=0.3)).asformat(format)
    scaler = nc.MaxAbsScaler().fit(X)
    for result in (scaler.transform(X), scaler.inverse_transform(X)):
        assert result.format == format
