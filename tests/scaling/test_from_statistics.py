"""Scalers of statistics that are known: exact, savable, and open about what they do not know."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import normcore as nc

X = np.random.default_rng(5).normal([3.0, -20.0, 1e4], [1.0, 5.0, 1e3], (60, 3))
Z = np.random.default_rng(6).normal([3.0, -20.0, 1e4], [1.0, 5.0, 1e3], (7, 3))
NAMES = ["a", "b", "c"]


def standard(**more):
    return nc.StandardScaler.from_statistics(mean=X.mean(0), std=X.std(0), **more)


def minmax(**more):
    return nc.MinMaxScaler.from_statistics(min=X.min(0), max=X.max(0), **more)


def robust(**more):
    fitted = nc.RobustScaler().fit(X)
    return nc.RobustScaler.from_statistics(center=fitted.center_, scale=fitted.scale_, **more)


MAKERS = {nc.StandardScaler: standard, nc.MinMaxScaler: minmax, nc.RobustScaler: robust}


def same_map(one, other, digits=1e-13):
    for method in ("transform", "inverse_transform"):
        np.testing.assert_allclose(
            getattr(one, method)(Z), getattr(other, method)(Z), rtol=digits, atol=digits
        )


@pytest.mark.parametrize("cls", MAKERS)
def test_as_if_fitted(cls):
    scaler = MAKERS[cls]()
    assert type(scaler) is cls
    assert scaler.n_features_in_ == 3
    assert not hasattr(scaler, "n_samples_seen_")
    same_map(scaler, cls().fit(X))


@pytest.mark.parametrize("cls", MAKERS)
@pytest.mark.parametrize("count", [None, 60, [60, 60, 60]])
def test_saved_and_loaded(cls, count, tmp_path):
    scaler = MAKERS[cls](count=count, feature_names=NAMES)
    scaler.save(tmp_path / "s.json")
    loaded = nc.load(tmp_path / "s.json")
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(Z, columns=NAMES)
    assert np.array_equal(loaded.transform(frame), scaler.transform(frame))
    assert loaded.get_feature_names_out().tolist() == NAMES
    assert getattr(loaded, "n_samples_seen_", None) == (None if count is None else 60)
    if cls is not nc.RobustScaler:
        if count is None:
            for each in (scaler, loaded):
                with pytest.raises(ValueError, match=r"partial_fit.*without a count.*count="):
                    each.partial_fit(frame)
                with pytest.raises(ValueError, match=r"merge.*without a count"):
                    cls().fit(X).merge(each)
        else:
            for each in (scaler, loaded):
                assert np.array_equal(each.partial_fit(frame).n_samples_seen_, 67)


@pytest.mark.parametrize("cls", [nc.StandardScaler, nc.MinMaxScaler])
def test_goes_on_as_if_the_rest_had_been_observed(cls):
    whole = cls().fit(np.concatenate([X, Z]))
    same_map(MAKERS[cls](count=60).partial_fit(Z), whole)
    same_map(cls().fit(Z).merge(MAKERS[cls](count=60)), whole)


def test_parameters_of_the_constructor():
    scaler = minmax(feature_range=(-1, 3), clip=True)
    assert scaler.get_params()["feature_range"] == (-1, 3)
    same_map(scaler, nc.MinMaxScaler((-1, 3), clip=True).fit(X))
    assert scaler.transform(X).min() == -1.0
    with pytest.raises(ValueError, match="desired feature range"):
        minmax(feature_range=(1, 0))
    with pytest.raises(TypeError, match="no_such"):
        standard(no_such=1)


def test_what_is_not_used_may_be_left_out(tmp_path):
    centered = nc.StandardScaler.from_statistics(mean=[1.0, 2.0], with_std=False)
    assert centered.transform([[3.0, 3.0]]).tolist() == [[2.0, 1.0]]
    scaled = nc.StandardScaler.from_statistics(var=[4.0, 0.0], with_mean=False)
    assert scaled.transform([[3.0, 3.0]]).tolist() == [[1.5, 3.0]]
    assert nc.RobustScaler.from_statistics(center=1, with_scaling=False).transform([[3.0]]) == 2.0
    for each in (centered, scaled):
        each.save(tmp_path / "s.json")
        assert np.array_equal(
            nc.load(tmp_path / "s.json").transform([[7.0, 8.0]]), each.transform([[7.0, 8.0]])
        )
        with pytest.raises(ValueError, match="without a count"):
            each.partial_fit([[1.0, 2.0]])


def test_numbers_stand_for_all_features():
    scaler = nc.StandardScaler.from_statistics(mean=0.5, std=0.25, feature_names=["r", "g", "b"])
    assert scaler.mean_.tolist() == [0.5] * 3
    assert nc.StandardScaler.from_statistics(mean=0.5, std=0.25).n_features_in_ == 1
    assert nc.MinMaxScaler.from_statistics(min=0, max=[1, 2]).n_features_in_ == 2


def test_missing_numbers_are_features_without_values():
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    for mean, std in (
        ([1.0, pd.NA], [2.0, pd.NA]),
        (pa.array([1, None]), pa.array([2.0, None])),
        (pd.Series([1, None], dtype="Int64"), pd.Series([2.0, None], dtype="double[pyarrow]")),
    ):
        scaler = nc.StandardScaler.from_statistics(mean=mean, std=std, count=8)
        assert scaler.transform([[5.0, 5.0]])[0, 0] == 2.0
        assert np.isnan(scaler.transform([[5.0, 5.0]])[0, 1])
        assert scaler.n_samples_seen_.tolist() == [8, 0]
        assert scaler.partial_fit([[1.0, 3.0]]).mean_.tolist() == [1.0, 3.0]
    with pytest.raises(ValueError, match="std must be NaN where mean is"):
        nc.StandardScaler.from_statistics(mean=[1.0, np.nan], std=[1.0, 2.0])
    both = nc.MinMaxScaler.from_statistics(min=[0.0, pd.NA], max=[1.0, pd.NA], count=2)
    assert np.isnan(both.data_max_[1])


magnitudes = st.floats(1e-150, 1e150)


@settings(max_examples=300, deadline=None)
@given(
    mean=st.one_of(st.just(0.0), magnitudes, magnitudes.map(lambda value: -value)),
    std=magnitudes,
    count=st.one_of(st.none(), st.integers(1, 10**9), st.floats(0.01, 1e9)),
    by_variance=st.booleans(),
)
@example(mean=1e17, std=5.0, count=None, by_variance=False)
@example(mean=0.0, std=31.0, count=0.01, by_variance=False)
@example(mean=-3.0, std=1.0000000000000002, count=3, by_variance=False)
@example(mean=0.0, std=1e-150, count=49, by_variance=False)
def test_mean_and_scale_are_those_that_were_given(mean, std, count, by_variance):
    assume(std > 1e-30 * abs(mean))
    given_ = {"var": std * std} if by_variance else {"std": std}
    scaler = nc.StandardScaler.from_statistics(mean=[mean], count=count, **given_)
    expected = np.sqrt(std * std) if by_variance else std
    assert scaler.mean_[0] == mean
    digits = 0 if count is None else 2**-52
    assert scaler.scale_[0] == pytest.approx(expected, rel=digits, abs=0)
    loaded = nc.StandardScaler.from_dict(scaler.to_dict())
    assert (loaded.mean_[0], loaded.scale_[0]) == (mean, scaler.scale_[0])
    assert loaded.var_[0] == pytest.approx(expected * expected, rel=1e-15)


@pytest.mark.parametrize(
    ("mean", "std"),
    [(1e300, 1e299), (-1e-300, 1e-300), (0.0, 1e308), (0.0, 1e-310), (1e308, 0.0), (0.0, 0.0)],
)
def test_any_magnitude(mean, std):
    for count in (None, 3, 1000):
        scaler = nc.StandardScaler.from_statistics(mean=[mean], std=[std], count=count)
        assert scaler.mean_[0] == mean
        assert scaler.scale_[0] == (std or 1.0)
    assert scaler.partial_fit([[mean]]).mean_[0] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: standard(var=1.0), ValueError, "std or var, not both"),
        (lambda: nc.StandardScaler.from_statistics(std=[1.0]), ValueError, "mean is needed"),
        (lambda: nc.StandardScaler.from_statistics(mean=[1.0]), ValueError, "std or var is needed"),
        (
            lambda: nc.StandardScaler.from_statistics(mean=[1.0, 2.0], std=[1.0, -1.0]),
            ValueError,
            r"std must not be negative, but is -1\.0 for feature 1",
        ),
        (
            lambda: nc.StandardScaler.from_statistics(mean=[0.0], var=[-1.0], feature_names=["q"]),
            ValueError,
            r"var must not be negative, but is -1\.0 for feature 'q'",
        ),
        (
            lambda: nc.StandardScaler.from_statistics(mean=[1e300], std=[1e-300]),
            ValueError,
            "std is too small beside mean",
        ),
        (
            lambda: nc.StandardScaler.from_statistics(mean=[1.0, 2.0], std=[1.0]),
            ValueError,
            r"features differ in shape: \(2,\) of mean, \(1,\) of std",
        ),
        (
            lambda: standard(feature_names=["a"]),
            ValueError,
            r"differ in shape: .*\(1,\) of feature_names",
        ),
        (lambda: standard(feature_names="abc"), TypeError, "sequence of names"),
        (lambda: standard(feature_names=[1, 2, 3]), TypeError, "must be strings"),
        (lambda: standard(count=0), ValueError, "count must be positive"),
        (lambda: standard(count=[1, -1, 1]), ValueError, "count must be positive"),
        (lambda: standard(count=np.nan), ValueError, "count must be positive"),
        (lambda: standard(count=np.inf), ValueError, "count must be finite"),
        (lambda: standard(count="many"), TypeError, "count must hold real numbers"),
        (
            lambda: nc.StandardScaler.from_statistics(mean=[np.inf], std=[1.0]),
            ValueError,
            "mean must be finite",
        ),
        (
            lambda: nc.StandardScaler.from_statistics(mean=[[1.0]], std=[1.0]),
            ValueError,
            "mean must have one dimension",
        ),
        (lambda: nc.StandardScaler.from_statistics(mean=[], std=[]), ValueError, "is empty"),
        (
            lambda: nc.StandardScaler.from_statistics(mean=["1"], std=[1.0]),
            TypeError,
            "mean must hold real numbers",
        ),
        (
            lambda: nc.StandardScaler.from_statistics(std=[1.0], with_mean=False, count=3),
            ValueError,
            "count needs both",
        ),
        (
            lambda: nc.MinMaxScaler.from_statistics(min=[0.0, 2.0], max=[1.0, 1.0]),
            ValueError,
            r"max must not be below min, but is 1\.0 for feature 1",
        ),
        (lambda: nc.MinMaxScaler.from_statistics(min=[0.0], max=None), ValueError, "max is needed"),
        (
            lambda: nc.RobustScaler.from_statistics(center=[0.0], scale=[-1.0]),
            ValueError,
            "scale must not be negative",
        ),
        (lambda: nc.RobustScaler.from_statistics(scale=[1.0]), ValueError, "center is needed"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
