"""PercentileScaler: percentiles, or median and deviation, to a range; clipped hard or softly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import to_strict, to_torch

import normcore as nc
from normcore.testing import ScalerConformance


class TestPercentiles(ScalerConformance):
    scaler = nc.PercentileScaler


class TestSoft(ScalerConformance):
    @staticmethod
    def scaler():
        return nc.PercentileScaler((10, 75), (-0.5, 2.5), clip="soft")


class TestDeviations(ScalerConformance):
    @staticmethod
    def scaler():
        return nc.PercentileScaler(spread="mad", clip="soft", num_deviations=2)


class TestHard(ScalerConformance):
    invertible = False

    @staticmethod
    def scaler():
        return nc.PercentileScaler(clip="hard")


class TestSketched(ScalerConformance):
    @staticmethod
    def scaler():
        return nc.PercentileScaler(spread="mad", quantiles="sketch")


def heavy(rows=5001, columns=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_t(2, size=(rows, columns)) * [1, 1e4, 1e-6, 3] + [0, 1e6, 0, -7]


@pytest.mark.parametrize("percentiles", [(1, 99), (0, 100), (12.5, 60), (2, 98)])
@pytest.mark.parametrize("feature_range", [(-1, 1), (0, 1), (-0.3, 7.5)])
def test_percentiles_map_to_the_ends(percentiles, feature_range):
    X = heavy()
    X[5, 0] = np.nan
    scaler = nc.PercentileScaler(percentiles, feature_range).fit(X)
    low, high = np.nanpercentile(X, percentiles, axis=0)
    np.testing.assert_allclose(scaler.low_, low, rtol=1e-14)
    np.testing.assert_allclose(scaler.high_, high, rtol=1e-14)
    lo, hi = feature_range
    Y = scaler.transform(X)
    expected = (X - low) / (high - low) * (hi - lo) + lo
    np.testing.assert_allclose(Y, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(scaler.transform(low[None]), lo, atol=1e-12)
    np.testing.assert_allclose(scaler.transform(high[None]), hi, atol=1e-12)
    assert scaler.quantile_error_ == 0
    assert scaler.n_samples_seen_ == len(X)


@pytest.mark.parametrize("rows", [1, 2, 3, 10, 501, 5000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.uint8])
def test_deviations_are_exact(rows, dtype):
    X = (np.random.default_rng(rows).normal(120, 20, size=(rows, 3))).astype(dtype)
    scaler = nc.PercentileScaler(spread="mad", num_deviations=2.5).fit(X)
    exact = [[Fraction(float(value)) for value in column] for column in X.T]
    medians = [median(column) for column in exact]
    deviations = [
        median([abs(value - center) for value in column])
        for column, center in zip(exact, medians, strict=True)
    ]
    np.testing.assert_allclose(scaler.median_, [float(each) for each in medians], rtol=1e-15)
    np.testing.assert_allclose(
        scaler.mad_, [float(each) for each in deviations], rtol=1e-13, atol=1e-13
    )
    scale = np.where(scaler.mad_ > 0, 2.5 * 1.482602218505602 * scaler.mad_, 1.0)
    np.testing.assert_allclose(scaler.scale_, scale, rtol=1e-14)
    X = X.astype(np.float64)
    np.testing.assert_allclose(scaler.transform(X), (X - scaler.median_) / scale, atol=1e-12)


def median(values):
    ordered, size = sorted(values), len(values)
    return (ordered[(size - 1) // 2] + ordered[size // 2]) / 2


def test_normal_deviation_is_that_of_the_normal_distribution():
    from statistics import NormalDist

    from normcore_percentile.scaler import NORMAL_DEVIATION

    assert pytest.approx(1 / NormalDist().inv_cdf(0.75), rel=1e-15) == NORMAL_DEVIATION


# -- beyond the range ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("feature_range", [(-1, 1), (-0.1, 0.1), (0.1, 0.7)])
def test_hard_clipping_stays_inside_after_rounding(dtype, feature_range):
    X = heavy(columns=4)[:, [0, 3]].astype(dtype)
    scaler = nc.PercentileScaler(feature_range=feature_range, clip="hard").fit(X)
    Y = scaler.transform(X)
    assert Y.dtype == dtype
    assert float(Y.min()) >= feature_range[0]
    assert float(Y.max()) <= feature_range[1]
    assert (np.sort(Y[:, 0]) == Y[np.argsort(X[:, 0], kind="stable"), 0]).all()


def soft(y, lo, hi):
    """Compute the squash from its definition."""
    r = (hi - lo) / 2
    if y > hi:
        return hi + r * math.log1p((y - hi) / r)
    return lo - r * math.log1p((lo - y) / r) if y < lo else y


@pytest.mark.parametrize("feature_range", [(-1.0, 1.0), (0.0, 1.0), (-2.5, 7.0)])
def test_soft_clipping_is_what_is_stated(feature_range):
    X = heavy()
    plain = nc.PercentileScaler(feature_range=feature_range).fit(X)
    scaler = nc.PercentileScaler(feature_range=feature_range, clip="soft").fit(X)
    Y, S = plain.transform(X), scaler.transform(X)
    lo, hi = feature_range
    expected = np.vectorize(lambda y: soft(y, lo, hi))(Y)
    np.testing.assert_allclose(S, expected, rtol=1e-13, atol=1e-14)
    inside = (lo <= Y) & (hi >= Y)
    np.testing.assert_array_equal(S[inside], Y[inside])
    assert 0.9 < inside.mean() < 1


def test_soft_clipping_is_smooth_and_in_order():
    scaler = nc.PercentileScaler((0, 100), clip="soft").fit([[-1.0], [1.0]])
    x = np.concatenate([np.linspace(-8, 8, 4001), [1 - 1e-9, 1 + 1e-9], 10.0 ** np.arange(300)])
    x.sort()
    y = scaler.transform(x[:, None])[:, 0]
    assert (np.diff(y) >= 0).all()
    assert np.isfinite(y).all()
    for end in (-1.0, 1.0):
        step = 1e-6
        around = scaler.transform(np.array([[end - step], [end], [end + step]]))[:, 0]
        slopes = np.diff(around) / step
        np.testing.assert_allclose(slopes, 1.0, atol=2e-6)
        assert around[1] == end


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=30),
    feature_range=st.sampled_from([(-1, 1), (0, 1), (-3, 0.5)]),
)
def test_soft_clipping_is_undone(values, feature_range):
    scaler = nc.PercentileScaler((0, 100), feature_range, clip="soft").fit([[-1.0], [1.0]])
    x = np.array(values)[:, None]
    back = scaler.inverse_transform(scaler.transform(x))
    # A logarithm of up to 28 magnifies the rounding of the result so much, in relative terms.
    np.testing.assert_allclose(back, x, rtol=64 * 2.0**-52, atol=16 * 2.0**-52)


def test_clip_takes_effect_at_once():
    X = heavy()
    scaler = nc.PercentileScaler().fit(X)
    for clip in ("soft", "hard", None):
        scaler.set_params(clip=clip)
        fresh = nc.PercentileScaler(clip=clip).fit(X)
        np.testing.assert_array_equal(scaler.transform(X), fresh.transform(X))
        np.testing.assert_array_equal(scaler.inverse_transform(X), fresh.inverse_transform(X))


@pytest.mark.parametrize("clip", [None, "hard", "soft"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64])
def test_masks_leave_elements_as_they_are(clip, dtype):
    X = np.random.default_rng(1).normal(50, 20, size=(400, 3)).astype(dtype)
    where = np.random.default_rng(2).random(X.shape) < 0.7
    scaler = nc.PercentileScaler(clip=clip).fit(X, where=where)
    Y = scaler.transform(X, where=where)
    np.testing.assert_array_equal(Y[~where], X[~where].astype(Y.dtype))
    np.testing.assert_array_equal(Y[where], scaler.transform(X)[where])
    if dtype == np.float64:
        X = np.where(where, X, np.inf)
        Y = scaler.transform(X, where=where)
        assert np.isfinite(Y[where]).all()
        assert np.isinf(Y[~where]).all()
        with pytest.raises(ValueError, match="infinity"):
            scaler.transform(X)


@pytest.mark.parametrize("clip", [None, "hard", "soft"])
@pytest.mark.parametrize("axis", [None, 1, (0, 2), -1])
def test_any_axes(clip, axis):
    X = np.random.default_rng(3).normal(size=(6, 4, 5))
    kept = range(3) if axis is None else np.atleast_1d(axis) % 3
    kept = () if axis is None else tuple(kept)
    rest = tuple(each for each in range(3) if each not in kept)
    scaler = nc.PercentileScaler((10, 90), clip=clip, axis=axis).fit(X)
    low, high = np.percentile(X, [10, 90], axis=rest, keepdims=True)
    expected = (X - low) / (high - low) * 2 - 1
    if clip == "hard":
        expected = np.clip(expected, -1, 1)
    elif clip == "soft":
        expected = np.vectorize(lambda y: soft(y, -1, 1))(expected)
    np.testing.assert_allclose(scaler.transform(X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("convert", [to_torch, to_strict])
@pytest.mark.parametrize("clip", [None, "hard", "soft"])
@pytest.mark.parametrize("spread", ["percentiles", "mad"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_of_other_libraries(convert, clip, spread, dtype):
    X = np.random.default_rng(4).standard_t(2, size=(300, 3)).astype(dtype)
    expected = nc.PercentileScaler(clip=clip, spread=spread).fit_transform(X)
    for backend in (None, "reference"):
        scaler = nc.PercentileScaler(clip=clip, spread=spread, backend=backend).fit(convert(X))
        Y = scaler.transform(convert(X))
        assert type(Y) is type(convert(X))
        np.testing.assert_allclose(
            np.asarray(Y), expected, rtol=1e-5 if dtype == np.float32 else 1e-12
        )


@pytest.mark.parametrize("clip", [None, "soft"])
def test_bits_do_not_depend_on_threads_or_rows(clip):
    X = heavy(rows=40_000)
    scaler = nc.PercentileScaler(clip=clip).fit(X)
    whole = scaler.transform(X)
    for threads in (1, 3):
        with nc.use_num_threads(threads):
            assert scaler.transform(X).tobytes() == whole.tobytes()
    assert scaler.transform(X[123:130]).tobytes() == whole[123:130].tobytes()


# -- constants, streams, files -------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.1, -1e7, 1e200, 1e-300])
def test_constants(value):
    X = np.full((50, 2), value)
    for clip in (None, "hard", "soft"):
        for spread, expected in (("percentiles", -1.0), ("mad", 0.0)):
            scaler = nc.PercentileScaler(clip=clip, spread=spread).fit(X)
            np.testing.assert_array_equal(scaler.scale_, 1.0)
            Y = scaler.transform(X)
            np.testing.assert_array_equal(Y, expected)
            np.testing.assert_array_equal(scaler.inverse_transform(Y), X)


@pytest.mark.parametrize("spread", ["percentiles", "mad"])
def test_a_sketch_streams_and_merges_within_its_error(spread):
    X = heavy(rows=60_000)
    params = {"spread": spread, "quantiles": "sketch", "quantile_error": 0.02}
    streamed, merged = (nc.PercentileScaler(**params) for _ in range(2))
    for part in np.array_split(X, 9):
        streamed.partial_fit(part)
        merged.merge(nc.PercentileScaler(**params).fit(part))
    for scaler in (streamed, merged):
        assert 0 < scaler.quantile_error_ <= 0.02
        if spread == "percentiles":
            for name, percentage in (("low_", 0.01), ("high_", 0.99)):
                rank = (getattr(scaler, name) > X).mean(axis=0)
                assert (np.abs(rank - percentage) <= scaler.quantile_error_ + 1e-4).all()
        else:
            rank = (scaler.median_ > X).mean(axis=0)
            assert (np.abs(rank - 0.5) <= scaler.quantile_error_ + 1e-4).all()
            rank = (np.abs(X - scaler.median_) < scaler.mad_).mean(axis=0)
            assert (np.abs(rank - 0.5) <= 2 * scaler.quantile_error_ + 1e-4).all()


@pytest.mark.parametrize("spread", ["percentiles", "mad"])
def test_small_data_is_exact_by_a_sketch(spread):
    X = heavy(rows=500)
    exact = nc.PercentileScaler(spread=spread).fit(X)
    sketched = nc.PercentileScaler(spread=spread, quantiles="sketch")
    for part in np.array_split(X, 4):
        sketched.partial_fit(part)
    assert sketched.quantile_error_ == 0
    np.testing.assert_array_equal(sketched.transform(X), exact.transform(X))


def test_an_exact_fit_says_that_it_cannot_go_on():
    X = heavy(rows=100)
    scaler = nc.PercentileScaler().fit(X)
    assert not hasattr(scaler, "partial_fit")
    with pytest.raises(ValueError, match="sketch"):
        scaler.merge(nc.PercentileScaler().fit(X))
    kept = nc.PercentileScaler(keep_sketch=True, spread="mad").fit(X)
    kept.merge(nc.PercentileScaler(keep_sketch=True, spread="mad").fit(X + 1))
    whole = nc.PercentileScaler(spread="mad").fit(np.concatenate([X, X + 1]))
    np.testing.assert_allclose(kept.mad_, whole.mad_, rtol=1e-12)


@pytest.mark.parametrize("quantiles", ["exact", "sketch"])
@pytest.mark.parametrize("spread", ["percentiles", "mad"])
def test_saved_files(tmp_path, quantiles, spread):
    X = heavy(rows=20_000)
    scaler = nc.PercentileScaler((5, 95), (0, 3), clip="soft", spread=spread, quantiles=quantiles)
    scaler.fit(X).save(tmp_path / "scaler.json")
    again = nc.load(tmp_path / "scaler.json")
    assert again.get_params() == scaler.get_params()
    np.testing.assert_array_equal(again.transform(X), scaler.transform(X))
    if quantiles == "sketch":
        np.testing.assert_array_equal(
            again.partial_fit(X[:50]).transform(X), scaler.partial_fit(X[:50]).transform(X)
        )


@pytest.mark.parametrize(
    ("deviation", "message"),
    [
        ([1.0], "has shape"),
        ([1.0, -1.0, 1.0, 1.0], "cannot be"),
        ([1.0, np.inf, 1.0, 1.0], "cannot be"),
    ],
)
def test_impossible_deviations_are_refused(deviation, message):
    saved = nc.PercentileScaler(spread="mad").fit(heavy(rows=20)).to_dict()
    saved["statistic"]["deviation"] = np.array(deviation)
    with pytest.raises(ValueError, match=message):
        nc.PercentileScaler.from_dict(saved)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"percentile_range": (99, 1)}, "percentile_range must hold two numbers from 0.0 to 100.0"),
        ({"percentile_range": (5, 5)}, "percentile_range must hold"),
        ({"percentile_range": (-1, 50)}, "percentile_range must hold"),
        ({"percentile_range": 5}, "percentile_range must be a pair, got 5"),
        ({"feature_range": (1, -1)}, "feature_range must hold two finite numbers"),
        ({"feature_range": (0, np.inf)}, "feature_range must hold two finite numbers"),
        ({"feature_range": (0, np.nan)}, "feature_range must hold two finite numbers"),
        ({"feature_range": ("a", 1)}, "feature_range must hold two finite numbers"),
        ({"spread": "std"}, "spread must be 'percentiles' or 'mad', got 'std'"),
        ({"clip": True}, "clip must be None, 'hard' or 'soft', got True"),
        ({"num_deviations": 0}, "num_deviations must be a positive number, got 0"),
        ({"num_deviations": np.nan}, "num_deviations must be a positive number"),
        ({"quantiles": "rough"}, "quantiles must be 'exact' or 'sketch', got 'rough'"),
        ({"copy": 1}, "copy must be True or False"),
    ],
)
def test_parameters_are_checked(params, message):
    scaler = nc.PercentileScaler().fit([[1.0], [2.0]])
    scaler.set_params(**params)
    before = scaler.low_.copy()
    with pytest.raises(ValueError, match=message):
        scaler.fit([[5.0], [7.0]])
    np.testing.assert_array_equal(scaler.low_, before)


def test_sparse_input_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="PercentileScaler does not support sparse input"):
        nc.PercentileScaler().fit(sparse.csr_array(np.eye(3)))


@pytest.mark.parametrize("quantiles", ["exact", "sketch"])
@pytest.mark.parametrize("spread", ["percentiles", "mad"])
@pytest.mark.parametrize("clip", [None, "hard", "soft"])
@pytest.mark.parametrize("rows", [5, 4000])
def test_ranges_beyond_the_largest_float64(rows, clip, spread, quantiles):
    """As of the same data, a quarter as large."""
    X = np.linspace(-1, 1, rows)[:, None] * [np.finfo(np.float64).max, 1.0]
    X[1, 0] *= 0.99
    options = {"spread": spread, "clip": clip, "quantiles": quantiles}
    scaler = nc.PercentileScaler((0, 100), (-3, 1), **options).fit(X)
    quarter = nc.PercentileScaler((0, 100), (-3, 1), **options).fit(X / 4)
    Y = scaler.transform(X)
    np.testing.assert_allclose(Y, quarter.transform(X / 4), rtol=1e-14, atol=1e-15)
    if clip != "hard":
        back = scaler.inverse_transform(Y)
        np.testing.assert_allclose(back / 4, X / 4, rtol=1e-14, atol=1e293)
    scale = np.array(scaler.scale_)
    scaler.scale_ = scale  # what it says is what it does
    np.testing.assert_array_equal(scaler.transform(X), Y)
