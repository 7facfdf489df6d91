"""What the three scalers learn and give back: values, dtypes, memory, descriptions."""

import copy
import io
import pickle

import numpy as np
import pytest
from scalers import each_scaler

import normcore as nc


def test_standard_attributes(X):
    scaler = nc.StandardScaler().fit(X)
    np.testing.assert_allclose(scaler.mean_, X.mean(0), rtol=1e-14)
    np.testing.assert_allclose(scaler.var_, X.var(0), rtol=1e-13)
    np.testing.assert_allclose(scaler.scale_, X.std(0), rtol=1e-13)
    assert scaler.n_samples_seen_ == 50
    assert scaler.n_features_in_ == 3
    assert not hasattr(scaler, "feature_names_in_")


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_standard_attributes_are_none_where_unused(X, with_mean, with_std):
    scaler = nc.StandardScaler(with_mean=with_mean, with_std=with_std).fit(X)
    assert (scaler.mean_ is None) == (not with_mean and not with_std)
    assert (scaler.var_ is None) == (scaler.scale_ is None) == (not with_std)
    expected = (X - with_mean * X.mean(0)) / (X.std(0) if with_std else 1.0)
    np.testing.assert_allclose(scaler.transform(X), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X, rtol=1e-13)


def test_minmax_attributes(X):
    scaler = nc.MinMaxScaler((-2, 5)).fit(X)
    np.testing.assert_array_equal(scaler.data_min_, X.min(0))
    np.testing.assert_array_equal(scaler.data_max_, X.max(0))
    np.testing.assert_array_equal(scaler.data_range_, X.max(0) - X.min(0))
    np.testing.assert_allclose(X * scaler.scale_ + scaler.min_, scaler.transform(X), rtol=1e-11)


def test_minmax_clips_new_data_only_where_asked(X):
    beyond = np.vstack([X.min(0) - 1, X.max(0) + 1, np.full(3, np.nan)])
    clipped = nc.MinMaxScaler((-1, 3), clip=True).fit(X).transform(beyond)
    np.testing.assert_array_equal(clipped[:2], [[-1.0] * 3, [3.0] * 3])
    assert np.isnan(clipped[2]).all()
    free = nc.MinMaxScaler((-1, 3)).fit(X).transform(beyond[:2])
    assert (free[0] < -1).all()
    assert (free[1] > 3).all()


def test_robust_attributes(X):
    scaler = nc.RobustScaler(quantile_range=(10, 80)).fit(X)
    low, middle, high = np.quantile(X, [0.1, 0.5, 0.8], axis=0)
    np.testing.assert_allclose(scaler.center_, middle, rtol=1e-15)
    np.testing.assert_allclose(scaler.scale_, high - low, rtol=1e-14)
    assert nc.RobustScaler(with_centering=False).fit(X).center_ is None
    assert nc.RobustScaler(with_scaling=False).fit(X).scale_ is None


def test_robust_unit_variance_of_normal_data():
    X = np.random.default_rng(1).normal(5, 7, size=(20_000, 1))
    assert nc.RobustScaler(unit_variance=True).fit_transform(X).std() == pytest.approx(1, rel=0.02)


def test_nan_is_skipped_and_kept(X):
    holes = X.copy()
    holes[:5, 1] = np.nan
    scaler = nc.StandardScaler().fit(holes)
    assert scaler.n_samples_seen_.tolist() == [50, 45, 50]
    np.testing.assert_allclose(scaler.mean_, np.nanmean(holes, axis=0), rtol=1e-14)
    np.testing.assert_array_equal(np.isnan(scaler.transform(holes)), np.isnan(holes))
    assert nc.MinMaxScaler().fit(holes).n_samples_seen_ == 50
    assert nc.RobustScaler().fit(holes).center_[1] == np.median(X[5:, 1])


@each_scaler
def test_column_of_nan_gives_nan_statistics_silently(cls, X):
    X[:, 1] = np.nan
    Y = cls().fit(X).transform(X)
    assert np.isnan(Y[:, 1]).all()
    assert np.isfinite(Y[:, [0, 2]]).all()


@each_scaler
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_keep_their_dtype(cls, X, dtype):
    X = X.astype(dtype)
    scaler = cls().fit(X)
    assert scaler.transform(X).dtype == dtype
    assert scaler.inverse_transform(X).dtype == dtype
    assert scaler.scale_.dtype == np.float64


@each_scaler
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint16", "bool", ">f8", ">i4"])
def test_other_dtypes_give_float64(cls, dtype):
    X = np.random.default_rng(2).integers(0, 2, size=(40, 2)).astype(dtype)
    expected = cls().fit_transform(X.astype(np.float64))
    result = cls().fit_transform(X)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, expected)


@each_scaler
@pytest.mark.parametrize("order", ["C", "F"])
def test_fresh_result_keeps_the_memory_order(cls, X, order):
    X = np.asarray(X, order=order)
    result = cls().fit_transform(X)
    assert result.flags[f"{order}_CONTIGUOUS"]
    assert not np.may_share_memory(result, X)


@each_scaler
def test_strided_and_read_only_input_equals_contiguous(cls, X):
    wide = np.empty((100, 7))
    wide[::2, 1:6:2] = X
    view = wide[::2, 1:6:2]
    view.flags.writeable = False
    before = wide.copy()
    np.testing.assert_array_equal(cls(copy=False).fit_transform(view), cls().fit_transform(X))
    np.testing.assert_array_equal(view, before[::2, 1:6:2])


@each_scaler
def test_input_is_not_modified_by_default(cls, X):
    before = X.copy()
    scaler = cls().fit(X)
    scaler.transform(X)
    scaler.inverse_transform(X)
    np.testing.assert_array_equal(X, before)


@each_scaler
def test_copy_false_writes_into_float_input(cls, X):
    expected = cls().fit_transform(X)
    scaler = cls(copy=False).fit(X)
    assert scaler.transform(X) is X
    np.testing.assert_array_equal(X, expected)
    assert scaler.inverse_transform(X) is X
    integers = np.arange(12).reshape(4, 3)
    assert scaler.transform(integers).dtype == np.float64
    np.testing.assert_array_equal(integers, np.arange(12).reshape(4, 3))


def test_copy_argument_overrides_the_parameter(X):
    scaler = nc.StandardScaler().fit(X)
    before = X.copy()
    assert scaler.transform(X, copy=False) is X
    assert scaler.inverse_transform(X, copy=True) is not X
    np.testing.assert_allclose(scaler.inverse_transform(X, copy=False), before, rtol=1e-13)


@each_scaler
def test_out_is_written_and_returned(cls, X):
    scaler = cls().fit(X)
    expected, back = scaler.transform(X), scaler.inverse_transform(X)
    out = np.full((60, 3), 7.0)[5:55]
    assert scaler.transform(X, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert scaler.inverse_transform(X, out=out) is out
    np.testing.assert_array_equal(out, back)
    assert scaler.transform(X, out=X) is X
    np.testing.assert_array_equal(X, expected)


@each_scaler
def test_out_of_another_shape_or_dtype_is_refused(cls, X):
    scaler = cls().fit(X)
    with pytest.raises(ValueError, match="shape"):
        scaler.transform(X, out=np.empty((50, 4)))
    with pytest.raises(TypeError, match="float32"):
        scaler.transform(X, out=np.empty((50, 3), np.float32))
    read_only = np.empty((50, 3))
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        scaler.transform(X, out=read_only)


@each_scaler
def test_backend_by_name(cls, X):
    expected = cls().fit_transform(X)
    result = cls(backend="reference").fit_transform(X)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="nonesuch"):
        cls(backend="nonesuch").fit(X)


@each_scaler
def test_pickle_and_deepcopy(cls, X):
    scaler = cls().fit(X)
    assert cls.__module__ == "normcore"
    for twin in (pickle.loads(pickle.dumps(scaler)), copy.deepcopy(scaler)):
        np.testing.assert_array_equal(twin.transform(X), scaler.transform(X))
        assert twin.get_params() == scaler.get_params()
    stream = io.BytesIO()
    pickle.Pickler(stream, protocol=5).dump(cls())
    stream.seek(0)
    assert not pickle.load(stream).__sklearn_is_fitted__()


@each_scaler
def test_dict_round_trip_is_exact(cls, X):
    X[:7, 0] = np.nan
    pd = pytest.importorskip("pandas")
    scaler = cls(copy=np.False_).fit(pd.DataFrame(X, columns=list("abc")))
    saved = scaler.to_dict()
    twin = cls.from_dict(saved)
    assert saved["scaler"] == cls.__name__.removesuffix("Scaler").lower()
    assert twin.get_params() == scaler.get_params()
    assert type(twin.get_params()["copy"]) is np.bool_
    assert twin.feature_names_in_.tolist() == ["a", "b", "c"]
    for name, value in vars(scaler).items():
        if name.endswith("_"):
            np.testing.assert_array_equal(getattr(twin, name), value)
    frame = pd.DataFrame(X, columns=list("abc"))
    np.testing.assert_array_equal(twin.transform(frame), scaler.transform(frame))


def test_restored_scaler_goes_on_as_the_original_would(X):
    scaler = nc.StandardScaler().fit(X[:20])
    twin = nc.StandardScaler.from_dict(scaler.to_dict())
    np.testing.assert_array_equal(twin.partial_fit(X[20:]).var_, scaler.partial_fit(X[20:]).var_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statistic": None}, "statistic"),
        ({"params": {"frobnicate": 1}}, "frobnicate"),
        ({"n_features_in": 4}, "4"),
        ({"feature_names_in": ["a"]}, "1 names"),
        ({"params": {"feature_range": [1, 0]}}, "feature range"),
    ],
)
def test_damaged_description_is_refused(X, change, message):
    saved = nc.MinMaxScaler().fit(X).to_dict() | change
    with pytest.raises(ValueError, match=message):
        nc.MinMaxScaler.from_dict(saved)
    del saved["params"]
    with pytest.raises(ValueError, match="params"):
        nc.MinMaxScaler.from_dict(saved)


def test_unsaveable_scaler_says_why(X):
    class Own(nc.MinMaxScaler):
        pass

    with pytest.raises(ValueError, match="not registered"):
        Own().fit(X).to_dict()
    with pytest.raises(TypeError, match="copy"):
        nc.MinMaxScaler().fit(X).set_params(copy=object()).to_dict()


def test_affine_scaler_of_few_lines(X):
    class MaxAbs(nc.AffineScaler):
        statistic = nc.Extrema

        def affine(self, extrema):
            self.max_abs_ = np.maximum(-extrema.min, extrema.max)
            return nc.Affine(scale=self.max_abs_)

    X[:, 2] = 0.0
    scaler = MaxAbs().partial_fit(X[:20]).merge(MaxAbs().fit(X[20:]))
    np.testing.assert_array_equal(scaler.scale_, [*np.abs(X[:, :2]).max(0), 1.0])
    np.testing.assert_array_equal(scaler.transform(X), X / scaler.scale_)
    assert scaler.n_samples_seen_ == 50
    assert repr(scaler) == "MaxAbs()"


def test_pointwise_scaler():
    class Log1p(nc.PointwiseScaler):
        def __init__(self, *, copy=True):
            self.copy = copy

        def forward(self, xp, x):
            return xp.log1p(x)

        def inverse(self, xp, x):
            return xp.expm1(x)

    X = np.array([[0, 1], [3, 7]], dtype=np.float32)
    scaler = Log1p(copy=False).fit(X)
    expected = np.log1p(X.astype(np.float64)).astype(np.float32)
    assert scaler.transform(X) is X
    np.testing.assert_array_equal(X, expected)
    np.testing.assert_allclose(scaler.inverse_transform(X.copy()), [[0, 1], [3, 7]], rtol=1e-6)
    assert scaler.partial_fit(X).n_samples_seen_ == 4
    with pytest.raises(ValueError, match=r"infinity: column 1, first at row 0"):
        scaler.transform([[0.0, np.inf]])


def test_pointwise_scaler_with_a_statistic(X):
    class Shift(nc.PointwiseScaler):
        statistic = nc.Extrema

        def prepare(self, extrema):
            self.offset_ = extrema.min

        def forward(self, xp, x):
            return xp.sqrt(x - xp.asarray(self.offset_))

        def inverse(self, xp, x):
            return x * x + xp.asarray(self.offset_)

    scaler = Shift().partial_fit(X[:9]).partial_fit(X[9:])
    np.testing.assert_array_equal(scaler.offset_, X.min(0))
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X, rtol=1e-12)


def test_repr_shows_what_differs_from_the_default():
    assert repr(nc.MinMaxScaler()) == "MinMaxScaler()"
    scaler = nc.MinMaxScaler((0, 2), clip=True)
    assert repr(scaler) == "MinMaxScaler(feature_range=(0, 2), clip=True)"
    assert "feature_range=(0, 2)" in scaler._repr_html_()
