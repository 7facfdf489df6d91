"""Exact quantiles of weighted collections of Dask: the bits of those in memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import normcore as nc
from normcore.engines import weighted_task
from normcore.statistics import weighted_sample

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")


@pytest.fixture(autouse=True, scope="module")
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def few_rows(monkeypatch):
    """Take the passes of large data on small data."""
    for name in ("_SAMPLE_ROWS", "_USUAL_ROWS"):
        monkeypatch.setattr(weighted_task, name, 0)


def table(rows=3000, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 4)) * [1, 1e-6, 1e6, 1] + [0, 1, -1e6, 0]
    X[:, 3] = rng.integers(0, 4, rows)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


DRAWN = {
    "whole": lambda rng, size: rng.integers(0, 5, size),
    "random": lambda rng, size: rng.random(size),
    "shares": lambda rng, size: np.full(size, 1 / size),
    "halves": lambda rng, size: np.where(rng.random(size) < 0.5, 0.0, 1.5),
    "of any size": lambda rng, size: 10.0 ** rng.uniform(-200, 200, size),
    "heavy tails": lambda rng, size: rng.pareto(0.7, size),
    "too many to repeat": lambda rng, size: rng.integers(1, 9, size) * 2.0**52,
    "float32": lambda rng, size: rng.random(size).astype(np.float32),
}
MADE = {
    "robust": nc.RobustScaler,
    "ends": lambda: nc.RobustScaler(quantile_range=(0, 100)),
    "percentile": nc.PercentileScaler,
}


def assert_same(found, expected):
    assert str(found.to_dict()) == str(expected.to_dict())


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("large", [False, True])
def test_the_bits_of_memory(kind, name, large, request):
    if large:
        request.getfixturevalue("few_rows")
    X, weights = table(), DRAWN[kind](np.random.default_rng(1), 3000)
    expected = MADE[name]().fit(X, sample_weight=weights)
    for chunks in ((700, 4), (1000, (1, 3)), (3000, 2)):
        lazy = da.from_array(X, chunks=chunks)
        assert_same(MADE[name]().fit(lazy, sample_weight=weights), expected)
    lazy_weights = da.from_array(weights, chunks=1100)
    assert_same(MADE[name]().fit(lazy, sample_weight=lazy_weights), expected)


@pytest.mark.usefixtures("few_rows")
def test_collections_of_any_kind():
    X, weights = table(600), np.random.default_rng(1).random(600)
    expected = nc.RobustScaler().fit(X, sample_weight=weights)
    frame = pd.DataFrame(X, columns=list("abcd"))
    named = nc.RobustScaler().fit(frame, sample_weight=weights)
    lazy = dd.from_pandas(frame, npartitions=4)
    for given in (weights, dd.from_pandas(pd.Series(weights), npartitions=4)):
        assert_same(nc.RobustScaler().fit(lazy, sample_weight=given), named)
    none = lazy[lazy.a > lazy.a.max()]
    with_empty = dd.concat([none, lazy, none])
    assert_same(nc.RobustScaler().fit(with_empty, sample_weight=weights), named)
    parts = [dask.delayed(part) for part in np.array_split(X, 7)]
    assert_same(nc.RobustScaler().fit(parts, sample_weight=weights), expected)
    some = da.from_array(X, chunks=(100, 4))
    unknown = some[some[:, 3] != 7]
    assert_same(nc.RobustScaler().fit(unknown, sample_weight=weights), expected)
    assert_same(
        nc.RobustScaler().fit(some, sample_weight=2), nc.RobustScaler().fit(X, sample_weight=2)
    )
    xr = pytest.importorskip("xarray")
    labelled = xr.DataArray(some, dims=("time", "station"))
    in_pieces = xr.DataArray(weights, dims="time").chunk({"time": 70})
    series = dd.from_pandas(pd.Series(weights), npartitions=6)
    for given in (weights, in_pieces, series):
        assert_same(nc.RobustScaler().fit(labelled, sample_weight=given), expected)
    assert_same(nc.RobustScaler().fit(some, sample_weight=series), expected)
    of_parts = [dask.delayed(part) for part in np.array_split(weights, 7)]
    assert_same(nc.RobustScaler().fit(parts, sample_weight=of_parts), expected)
    columns = nc.ColumnScaler([("a", nc.RobustScaler(), [2, 0]), ("b", nc.StandardScaler(), [1])])
    columns.fit(some, sample_weight=weights)
    alone = nc.RobustScaler().fit(X[:, [2, 0]], sample_weight=weights)
    assert_same(columns.named_transformers_["a"], alone)


@drawn(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_weights_in_any_pieces(data):
    rows = data.draw(st.integers(1, 60))
    weights = data.draw(
        st.lists(
            st.one_of(
                st.integers(0, 4).map(float),
                st.floats(0, 1),
                st.sampled_from([1e-300, 1e300, 0.1, 1 / 3]),
            ),
            min_size=rows,
            max_size=rows,
        ).filter(lambda weights: max(weights) > 1e-200)
    )
    X = np.random.default_rng(rows).integers(0, 9, (rows, 2)) * 1.0
    ends = sorted(data.draw(st.lists(st.integers(0, rows), max_size=4)))
    pieces = [dask.delayed(part) for part in np.split(X, ends)]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_USUAL_ROWS", "_LEAST_ROWS"):
            patch.setattr(weighted_task, name, data.draw(st.sampled_from([1, 8])))
        for name in ("_ERRORS", "_MORE"):
            patch.setattr(weighted_sample, name, data.draw(st.sampled_from([0.0, 1.0])))
        found = nc.RobustScaler().fit(pieces, sample_weight=weights)
    assert_same(found, nc.RobustScaler().fit(X, sample_weight=weights))


@pytest.mark.usefixtures("few_rows")
def test_whole_weights_repeat_rows():
    X, weights = table(), np.random.default_rng(1).integers(0, 4, 3000)
    lazy = da.from_array(X, chunks=(900, 3))
    repeated = nc.RobustScaler().fit(np.repeat(X, weights, axis=0))
    found = nc.RobustScaler(keep_sketch=True).fit(lazy, sample_weight=weights)
    np.testing.assert_array_equal(found.center_, repeated.center_)
    np.testing.assert_array_equal(found.scale_, repeated.scale_)
    assert found.n_samples_seen_ == 3000
    assert found.partial_fit(lazy, sample_weight=weights).n_samples_seen_ == 6000


def test_what_weighs_nothing_may_be_anything():
    X, weights = table(), np.random.default_rng(1).random(3000)
    weights[[5, 900]] = 0.0
    expected = nc.RobustScaler().fit(X, sample_weight=weights)
    X[5], X[900, 1] = np.inf, np.nan
    found = nc.RobustScaler().fit(da.from_array(X, chunks=(500, 3)), sample_weight=weights)
    assert_same(found, expected)
    X[1234, 2] = -np.inf
    with pytest.raises(
        ValueError, match=r"^chunk \(2, 0\) of X: .* infinity: column 2, first at row 234"
    ):
        found.fit(da.from_array(X, chunks=(500, 3)), sample_weight=weights)
    assert_same(found, expected)


def test_columns_without_values():
    X, weights = table(), np.random.default_rng(1).random(3000)
    X[:, 1] = np.nan
    weights[~np.isnan(X[:, 2])] = 0.0
    for passes in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(weighted_task, "_SAMPLE_ROWS", 5.0 if passes == 1 else 0.0)
            found = nc.RobustScaler().fit(da.from_array(X, chunks=(500, 3)), sample_weight=weights)
        assert_same(found, nc.RobustScaler().fit(X, sample_weight=weights))


def test_wrong_weights():
    X = table(100)
    weights = np.random.default_rng(1).random(100)
    scaler = nc.RobustScaler().fit(X)
    before = scaler.to_dict()
    lazy = da.from_array(X, chunks=(30, 2))
    for wrong, message in [
        (weights[1:], "sample_weight has 99 values, but X has 100 rows"),
        (weights * 0, "at least one non-zero"),
        (weights - 0.5, "negative"),
        (weights * np.nan, "NaN"),
        (weights * 1e308, "so large that its sum"),
        (weights * 1e-300, "holds nothing above"),
    ]:
        for given in (wrong, da.from_array(wrong, chunks=30)):
            if wrong.size == 99 and given is not wrong:
                continue
            with pytest.raises(ValueError, match=message):
                scaler.fit(lazy, sample_weight=given)
    assert str(scaler.to_dict()) == str(before)
    for given in (weights, da.from_array(weights, chunks=30)):
        with pytest.raises(ValueError, match="other than whole numbers whose sum is below"):
            nc.RobustScaler(keep_sketch=True).fit(lazy, sample_weight=given)
    for make in (nc.QuantileTransformer, lambda: nc.PercentileScaler(spread="mad")):
        with pytest.raises(TypeError, match=r"unless quantiles='sketch', which dask data takes"):
            make().fit(lazy, sample_weight=weights)


@pytest.mark.parametrize("make", [nc.StandardScaler, nc.RobustScaler])
def test_weights_are_judged_as_a_whole(make):
    X = np.arange(16.0).reshape(8, 2)
    lazy = da.from_array(X, chunks=2)
    for least in (1e-250, 5e-324, 0.0):
        weights = np.r_[[least] * 4, 1.0, 2.5, 1.0, 0.5]
        expected = make().fit(X, sample_weight=weights)
        for given in (weights, da.from_array(weights, chunks=2)):
            found = make().fit(lazy, sample_weight=given)
            np.testing.assert_array_equal(found.scale_, expected.scale_)
    for wrong, message in (
        (np.full(8, 1e-250), "holds nothing above 1e-250"),
        (np.full(8, 3e307), "so large that its sum"),
        (np.zeros(8), "at least one non-zero"),
    ):
        for given in (wrong, da.from_array(wrong, chunks=2)):
            with pytest.raises(ValueError, match=message):
                make().fit(lazy, sample_weight=given)
    with pytest.raises(ValueError, match=r"not negative, but weight 7 is -1\.0"):
        make().fit(lazy, sample_weight=np.r_[np.ones(7), -1.0])


def test_sparse_items_of_which_some_weigh_nothing():
    X, weights = np.eye(6) + 1, np.array([0.0, 0.0, 1e-250, 0.0, 2.0, 1.0])
    X[1, 1] = np.inf
    parts = [dask.delayed(sp.csr_array)(X[i : i + 2]) for i in (0, 2, 4)]
    found = nc.StandardScaler(with_mean=False).fit(parts, sample_weight=weights)
    expected = nc.StandardScaler(with_mean=False).fit(sp.csr_array(X), sample_weight=weights)
    np.testing.assert_allclose(found.scale_, expected.scale_, rtol=1e-12)


def test_many_columns():
    X = np.random.default_rng(0).normal(size=(60, 5000))
    weights = np.random.default_rng(1).random(60)
    found = nc.RobustScaler().fit(da.from_array(X, chunks=(20, 2000)), sample_weight=weights)
    assert_same(found, nc.RobustScaler().fit(X, sample_weight=weights))


@pytest.mark.usefixtures("few_rows")
def test_data_that_changes_between_passes(monkeypatch):
    for name in ("_ERRORS", "_MORE"):
        monkeypatch.setattr(weighted_sample, name, 0.0)  # so that it takes many passes
    rng = np.random.default_rng(0)
    draw = dask.delayed(
        lambda: np.where(rng.random((3000, 9)) < 0.5, np.nan, rng.random((3000, 9))), pure=False
    )
    weights = rng.random(3000)
    with pytest.raises(ValueError, match=r"X is not the same in each pass: .*persist"):
        nc.RobustScaler().fit([draw()], sample_weight=weights)


DRIFTS = {
    "away": lambda X, read: X + read,
    "slowly": lambda X, read: X + 1e-4 * read,
    "down": lambda X, read: X - 0.1 * read,
    "to and fro": lambda X, read: X * (-1.5) ** read,
    "of the same values": lambda X, read: np.roll(np.sort(X, axis=0), 400 * read, axis=0),
}


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.usefixtures("few_rows")
def test_data_that_drifts_between_passes(drift, monkeypatch):
    for name in ("_ERRORS", "_MORE"):
        monkeypatch.setattr(weighted_sample, name, 0.0)
    rng = np.random.default_rng(0)
    X, reads = rng.normal(size=(3000, 2)), itertools.count()

    def drifted():
        read = next(reads)
        assert read < 1000
        return DRIFTS[drift](X, read)

    weights = rng.random(3000)
    with pytest.raises(ValueError, match=r"X is not the same in each pass: .*persist"):
        nc.RobustScaler().fit([dask.delayed(drifted, pure=False)()], sample_weight=weights)
