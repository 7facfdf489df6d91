"""partial_fit and merge are one law: any split, in any order, equals one fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import normcore as nc

STREAMING = [nc.StandardScaler, nc.MinMaxScaler]
FEW = settings(max_examples=40, deadline=None)

tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan),
)
offsets = st.sampled_from([0.0, 1.0, 1e7, -1e12])


def pieces(X, data):
    """Cut rows of X into non-empty pieces in random order."""
    cuts = data.draw(st.lists(st.integers(1, max(1, len(X) - 1)), max_size=4))
    parts = [part for part in np.split(X, sorted(cuts)) if len(part)]
    return data.draw(st.permutations(parts))


def assert_same_fit(scaler, whole):
    # A few ulp apart at most: the promise for merged moments, 4 ulp each.
    for name in ("mean_", "var_", "data_min_", "data_max_"):
        if hasattr(whole, name):
            np.testing.assert_allclose(
                getattr(scaler, name), getattr(whole, name), rtol=8 * 2.0**-52, atol=0
            )
    np.testing.assert_array_equal(scaler.n_samples_seen_, whole.n_samples_seen_)


@pytest.mark.parametrize("cls", STREAMING)
@FEW
@given(X=tables, offset=offsets, data=st.data())
def test_any_split_equals_one_fit(cls, X, offset, data):
    X = X + offset
    whole = cls().fit(X)
    streamed = cls()
    for part in pieces(X, data):
        streamed.partial_fit(part)
    assert_same_fit(streamed, whole)


@pytest.mark.parametrize("cls", STREAMING)
@FEW
@given(X=tables, offset=offsets, data=st.data())
def test_merging_in_any_order_equals_one_fit(cls, X, offset, data):
    X = X + offset
    whole = cls().fit(X)
    scalers = [cls().fit(part) for part in pieces(X, data)]
    while len(scalers) > 1:
        other = scalers.pop(data.draw(st.integers(0, len(scalers) - 1)))
        assert scalers[0].merge(other) is scalers[0]
    assert_same_fit(scalers[0], whole)


@pytest.mark.parametrize("cls", [*STREAMING, nc.RobustScaler])
@FEW
@given(X=tables, offset=offsets)
def test_inverse_restores(cls, X, offset):
    X = X + offset
    scaler = cls().fit(X)
    restored = scaler.inverse_transform(scaler.transform(X))
    # Each of four operations rounds once; errors count in units of the largest number involved.
    size = np.nanmax(np.abs(X), initial=0.0)
    np.testing.assert_allclose(restored, X, rtol=0, atol=8 * 2.0**-52 * size)


@FEW
@given(X=tables, data=st.data())
def test_whole_number_weights_equal_repetition(X, data):
    weights = data.draw(hnp.arrays(np.int64, len(X), elements=st.integers(0, 4)))
    weights[0] += 1
    weighted = nc.StandardScaler().fit(X, sample_weight=weights)
    repeated = nc.StandardScaler().fit(np.repeat(X, weights, axis=0))
    assert_same_fit(weighted, repeated)


def test_merge_into_an_unfitted_scaler_takes_everything_over():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]})
    other = nc.StandardScaler().fit(frame)
    scaler = nc.StandardScaler()
    assert scaler.merge(other) is scaler
    assert scaler.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(scaler.mean_, other.mean_)
    scaler.partial_fit(frame * 3)
    np.testing.assert_array_equal(other.mean_, [1.5, 4.0])


def test_merge_with_itself_counts_twice():
    scaler = nc.StandardScaler().fit([[1.0], [3.0]])
    scaler.merge(scaler)
    assert scaler.n_samples_seen_ == 4
    assert scaler.var_[0] == 1.0


def test_merge_ignores_how_each_was_computed():
    X = np.arange(12.0).reshape(6, 2)
    scaler = nc.StandardScaler(copy=False).fit(X[:2])
    scaler.merge(nc.StandardScaler(backend="reference").fit(X[2:]))
    np.testing.assert_allclose(scaler.mean_, X.mean(0), rtol=1e-15)


def test_fit_forgets():
    X = np.arange(12.0).reshape(6, 2)
    scaler = nc.StandardScaler().fit(X * 9).fit(X)
    np.testing.assert_array_equal(scaler.mean_, X.mean(0))
    pd = pytest.importorskip("pandas")
    scaler.fit(pd.DataFrame(X, columns=["a", "b"])).fit(X)
    assert not hasattr(scaler, "feature_names_in_")


def test_changed_parameters_count_from_the_next_batch_on():
    X = np.arange(12.0).reshape(6, 2)
    scaler = nc.StandardScaler(with_std=False).partial_fit(X[:3])
    assert scaler.scale_ is None
    scaler.set_params(with_std=True).partial_fit(X[3:])
    np.testing.assert_allclose(scaler.scale_, X.std(0), rtol=1e-15)


def test_weighted_and_plain_batches_mix():
    X = np.array([[1.0], [2.0], [4.0]])
    scaler = nc.StandardScaler().partial_fit(X[:2]).partial_fit(X[2:], sample_weight=[0.5])
    assert scaler.n_samples_seen_ == 2.5
    assert scaler.mean_[0] == pytest.approx((1 + 2 + 2) / 2.5)
    same = nc.StandardScaler().fit(X[:2], sample_weight=1.0).partial_fit(X[2:], None, [0.5])
    np.testing.assert_array_equal(same.var_, scaler.var_)
