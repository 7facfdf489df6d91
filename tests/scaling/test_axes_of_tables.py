"""axis= of data frames and sparse matrices: rows, columns, or one statistic for everything."""

from __future__ import annotations

import numpy as np
import pytest

import normcore as nc

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")
sparse = pytest.importorskip("scipy.sparse")

AXES = [None, 0, 1, -1, -2, (1,)]
SCALERS = [
    nc.StandardScaler,
    nc.MinMaxScaler,
    nc.MaxAbsScaler,
    nc.RobustScaler,
    nc.PercentileScaler,
    lambda **options: nc.QuantileTransformer(n_quantiles=3, **options),
    nc.PowerTransformer,
]
FRAMES = {
    "pandas": lambda columns: pandas.DataFrame(columns, index=list("pqrstu")),
    "polars": polars.DataFrame,
    "pyarrow": pyarrow.table,
}


def columns():
    rng = np.random.default_rng(0)
    return {
        "a": rng.random(6).astype(np.float32),
        "b": rng.random(6) * 3,
        "c": np.arange(6.0) ** 2,
    }


def values_of(frame):
    if isinstance(frame, pyarrow.Table):
        return np.column_stack([column.to_numpy() for column in frame.columns])
    return frame.to_numpy()


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("make", SCALERS)
def test_frames_of_any_axis(make, axis, library):
    frame, X = FRAMES[library](columns()), np.column_stack(list(columns().values()))
    expected = make(axis=axis).fit(X).transform(X)
    found = make(axis=axis).fit(frame).transform(frame)  # in another order in memory
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)
    scaler = make(axis=axis).set_output(transform=library)
    scaled = scaler.fit_transform(frame)
    assert type(scaled) is type(frame)
    np.testing.assert_allclose(values_of(scaled), expected, rtol=1e-6, atol=1e-7)
    back = scaler.inverse_transform(scaled)
    np.testing.assert_allclose(values_of(back), X, rtol=1e-5, atol=1e-6)
    for each in (scaled, back):
        names = each.column_names if library == "pyarrow" else list(each.columns)
        assert names == ["a", "b", "c"]
        if library == "pandas":
            assert list(each.index) == list("pqrstu")
            assert [str(dtype) for dtype in each.dtypes] == ["float32", "float64", "float64"]


@pytest.mark.parametrize("axis", [1, -1, "columns"], ids=str)
def test_names_of_columns_that_are_features_are_checked(axis):
    frame = FRAMES["pandas"](columns())
    scaler = nc.StandardScaler(axis=axis).fit(frame)
    assert list(scaler.feature_names_in_) == ["a", "b", "c"]
    other = frame[["b", "a", "c"]]
    for call in (scaler.transform, scaler.partial_fit, scaler.inverse_transform):
        with pytest.raises(ValueError, match="feature names should match"):
            call(other)
    broken = frame.copy()
    broken.loc["r", "b"] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        scaler.transform(broken)


@pytest.mark.parametrize("axis", [None, 0], ids=str)
def test_other_features_have_no_names(axis):
    frame = FRAMES["pandas"](columns())
    scaler = nc.StandardScaler(axis=axis).set_output(transform="pandas").fit(frame)
    assert not hasattr(scaler, "feature_names_in_")
    reordered = scaler.transform(frame[["b", "a"]])
    expected = scaler.transform(frame)
    np.testing.assert_array_equal(reordered["b"], expected["b"])
    of_array = scaler.transform(frame.to_numpy())
    assert list(of_array.columns) == ["x0", "x1", "x2"]


def test_masks_and_weights_of_frames():
    frame, X = FRAMES["pandas"](columns()), np.column_stack(list(columns().values()))
    shown = np.random.default_rng(1).random(X.shape) < 0.7
    weights = np.arange(6.0)
    for axis in (None, 1):
        scaler = nc.StandardScaler(axis=axis)
        np.testing.assert_array_equal(
            scaler.fit(frame, sample_weight=weights, where=shown).transform(frame, where=shown),
            scaler.fit(X, sample_weight=weights, where=shown).transform(X, where=shown),
        )
    with pytest.raises(ValueError, match="weighs the first axis"):
        nc.StandardScaler(axis=0).fit(frame, sample_weight=weights)
    with pytest.raises(ValueError, match="each element of a data frame"):
        nc.StandardScaler(axis=(0, 1)).fit(frame)


ZERO_KEEPING = [
    lambda **options: nc.StandardScaler(with_mean=False, **options),
    nc.MaxAbsScaler,
    lambda **options: nc.RobustScaler(with_centering=False, **options),
]


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1], ids=str)
@pytest.mark.parametrize("make", ZERO_KEEPING)
def test_sparse_matrices_of_any_axis(make, axis, kind):
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((30, 7)) < 0.5, rng.random((30, 7)), 0.0)
    dense[0, 1] = np.nan
    X = sparse.csr_array(dense).asformat(kind)
    scaler, expected = make(axis=axis), make(axis=axis).fit(dense)
    if axis is None and isinstance(scaler, nc.RobustScaler):
        with pytest.raises(TypeError, match="axis=None does not go with sparse matrices"):
            scaler.fit(X)
        scaler.fit(dense)
    else:
        assert scaler.fit(X) is scaler
    assert scaler.scale_.shape == expected.scale_.shape
    np.testing.assert_allclose(scaler.scale_, expected.scale_, rtol=2e-15)
    np.testing.assert_array_equal(scaler.n_samples_seen_, expected.n_samples_seen_)
    scaled = scaler.transform(X)
    assert scaled.format == ("csr" if kind == "coo" else kind)
    np.testing.assert_array_equal(scaled.toarray(), scaler.transform(dense))
    np.testing.assert_allclose(scaler.inverse_transform(scaled).toarray(), dense, rtol=1e-15)
    if kind != "coo":
        given = X.copy()
        make(axis=axis, copy=False).fit(dense).transform(given)
        np.testing.assert_allclose(given.toarray(), scaled.toarray(), rtol=2e-15)


def test_sparse_streams_and_what_is_refused():
    X = sparse.random_array((20, 5), density=0.4, rng=np.random.default_rng(0), format="csr")
    for axis in (None, 0, 1):
        scaler = nc.StandardScaler(with_mean=False, axis=axis)
        whole = nc.StandardScaler(with_mean=False, axis=axis).fit(X.toarray())
        scaler.partial_fit(X).partial_fit(X)
        np.testing.assert_allclose(scaler.scale_, whole.scale_, rtol=1e-14)
        with pytest.raises(ValueError, match="Cannot center sparse matrices"):
            nc.StandardScaler(axis=axis).fit(X)
        with pytest.raises(TypeError, match="where= is for arrays"):
            scaler.fit(X, where=np.ones((20, 5), dtype=bool))
    scaler = nc.StandardScaler(with_mean=False, axis=0).fit(X)
    with pytest.raises(ValueError, match="X has shape"):
        scaler.transform(X[:7])
    with pytest.raises(ValueError, match="sample_weight of a sparse matrix"):
        nc.StandardScaler(with_mean=False, axis=None).fit(X, sample_weight=np.ones(20))
    weighted = nc.StandardScaler(with_mean=False, axis=1).fit(X, sample_weight=np.arange(20))
    columns = nc.StandardScaler(with_mean=False).fit(X, sample_weight=np.arange(20))
    np.testing.assert_array_equal(weighted.scale_, columns.scale_)
    with pytest.raises(TypeError, match="each element of a sparse matrix"):
        nc.StandardScaler(with_mean=False, axis=(0, 1)).fit(X)
