"""Bad input gets a clear error, and a failed call leaves the scaler as it was."""

from fractions import Fraction

import numpy as np
import pytest
from scalers import each_scaler

import normcore as nc


def good():
    return np.random.default_rng(3).normal(size=(20, 3))


def with_value(value, row=7, column=1, dtype=np.float64):
    X = good().astype(dtype)
    X[row, column] = value
    return X


BAD = {
    "infinity": (with_value(np.inf), ValueError, r"infinity: column 1, first at row 7"),
    "-infinity": (with_value(-np.inf, 19, 0), ValueError, r"infinity: column 0, first at row 19"),
    "float32": (with_value(np.inf, 3, 2, np.float32), ValueError, "column 2, first at row 3"),
    "zero rows": (np.empty((0, 3)), ValueError, r"0 sample\(s\) \(shape=\(0, 3\)\)"),
    "zero columns": (np.empty((5, 0)), ValueError, r"0 feature\(s\) \(shape=\(5, 0\)\)"),
    "1-D": (np.arange(5.0), ValueError, "Reshape your data"),
    "1-D list": ([1.0, 2.0], ValueError, "Reshape your data"),
    "scalar": (3.0, ValueError, "scalar array"),
    "3-D": (np.zeros((2, 3, 4)), ValueError, "dim 3"),
    "text": (np.array([["1", "2"], ["3", "4"]]), ValueError, "text"),
    "text in a list": ([["a", 1.0], ["b", 2.0]], ValueError, "text"),
    "complex": (good() + 1j, ValueError, "Complex data not supported"),
    "dates": (np.array([["2020-01-01"]], "datetime64[D]"), ValueError, "no numbers"),
    "objects": (with_value({}, 1, 2, object), TypeError, "column 2"),
    "text among objects": (with_value("1.5", 1, 2, object), ValueError, "column 2 of X holds text"),
}


@each_scaler
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "inverse_transform"])
@pytest.mark.parametrize("case", BAD)
def test_bad_X(cls, method, case):
    X, error, message = BAD[case]
    scaler = cls().fit(good())
    if not hasattr(scaler, method):
        return
    before = dict(vars(scaler))
    with pytest.raises(error, match=message):
        getattr(scaler, method)(X)
    assert vars(scaler) == before
    assert all(vars(scaler)[name] is value for name, value in before.items())


@each_scaler
def test_infinity_names_the_column_of_a_frame(cls):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(with_value(np.inf), columns=["height", "weight", "age"])
    with pytest.raises(ValueError, match=r"column 'weight' \(index 1\), first at row 7"):
        cls().fit(frame)
    scaler = cls().fit(frame.iloc[8:])
    with pytest.raises(ValueError, match=r"column 'weight' \(index 1\), first at row 7"):
        scaler.transform(frame)


@each_scaler
def test_infinity_far_into_the_data(cls):
    X = np.zeros((10_000, 2), np.float32) + np.arange(10_000, dtype=np.float32)[:, None]
    scaler = cls().fit(X)
    X[9_999, 1] = -np.inf
    for method in (cls().fit, scaler.transform):
        with pytest.raises(ValueError, match="column 1, first at row 9999"):
            method(X)


@each_scaler
def test_infinity_hidden_among_nan(cls):
    X = with_value(np.inf)
    X[:7] = np.nan
    with pytest.raises(ValueError, match="column 1, first at row 7"):
        cls().fit(X)


@each_scaler
@pytest.mark.parametrize("how", ["copy=False", "out=X"])
def test_in_place_transform_of_infinity_leaves_the_data(cls, how):
    X = with_value(np.inf, 19, 2)
    before = X.copy()
    scaler = cls(copy=how != "copy=False").fit(good())
    with pytest.raises(ValueError, match="column 2, first at row 19"):
        scaler.transform(X, **({} if how == "copy=False" else {"out": X}))
    np.testing.assert_array_equal(X, before)


@each_scaler
@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_wrong_number_of_features(cls, method):
    scaler = cls().fit(good())
    message = f"X has 2 features, but {cls.__name__} is expecting 3 features as input"
    with pytest.raises(ValueError, match=message):
        getattr(scaler, method)(good()[:, :2])


@pytest.mark.parametrize("cls", [nc.StandardScaler, nc.MinMaxScaler])
def test_partial_fit_and_merge_refuse_other_features(cls):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(good(), columns=["a", "b", "c"])
    scaler = cls().fit(frame)
    before = dict(vars(scaler))
    other = frame.rename(columns={"b": "z"})
    with pytest.raises(ValueError, match="unseen at fit time:\n- z"):
        scaler.partial_fit(other)
    with pytest.raises(ValueError, match="unseen at fit time:\n- z"):
        scaler.merge(cls().fit(other))
    with pytest.raises(ValueError, match="same order"):
        scaler.merge(cls().fit(frame[["c", "b", "a"]]))
    unnamed = cls().fit(good())
    with pytest.raises(ValueError, match="2 features"):
        unnamed.partial_fit(good()[:, :2])
    with pytest.raises(ValueError, match="2 features"):
        unnamed.merge(cls().fit(good()[:, :2]))
    assert vars(scaler) == before


def test_merge_refuses_other_parameters_classes_and_unfitted():
    scaler = nc.MinMaxScaler().fit(good())
    before = dict(vars(scaler))
    with pytest.raises(ValueError, match=r"feature_range=\(0, 1\) and \(0, 2\)"):
        scaler.merge(nc.MinMaxScaler((0, 2)).fit(good()))
    with pytest.raises(TypeError, match="StandardScaler"):
        scaler.merge(nc.StandardScaler().fit(good()))
    with pytest.raises(ValueError, match="not fitted"):
        scaler.merge(nc.MinMaxScaler())
    assert vars(scaler) == before


def test_robust_scaler_does_not_stream():
    scaler = nc.RobustScaler().fit(good())
    assert not hasattr(scaler, "partial_fit")
    before = dict(vars(scaler))
    with pytest.raises(ValueError, match="sketch"):
        scaler.merge(nc.RobustScaler().fit(good()))
    assert vars(scaler) == before


@each_scaler
def test_unfitted(cls):
    for call in (cls().transform, cls().inverse_transform):
        with pytest.raises(ValueError, match="not fitted yet") as caught:
            call(good())
        assert isinstance(caught.value, AttributeError)
    for call in (cls().get_feature_names_out, cls().to_dict):
        with pytest.raises(ValueError, match="not fitted yet"):
            call()


WEIGHTS = {
    "negative": (np.r_[np.ones(19), -1.0], ValueError, "not negative"),
    "NaN": (np.r_[np.ones(19), np.nan], ValueError, "finite"),
    "infinite": (np.r_[np.ones(19), np.inf], ValueError, "finite"),
    "too long": (np.ones(21), ValueError, "21 values, but X has 20 rows"),
    "two-dimensional": (np.ones((20, 1)), ValueError, "1D"),
    "all zero": (np.zeros(20), ValueError, "non-zero"),
    "text": (["a"] * 20, TypeError, "real numbers"),
    "complex": (np.ones(20) + 1j, TypeError, "real numbers"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", WEIGHTS)
def test_bad_weights(method, case):
    weights, error, message = WEIGHTS[case]
    scaler = nc.StandardScaler().fit(good())
    before = dict(vars(scaler))
    with pytest.raises(error, match=message):
        getattr(scaler, method)(good(), sample_weight=weights)
    assert vars(scaler) == before


@pytest.mark.parametrize(
    "feature_range", [(1, 0), (1, 1), (0, np.inf), (np.nan, 1), (0,), "ab", 3, (-1e308, 1e308)]
)
def test_bad_feature_range(feature_range):
    scaler = nc.MinMaxScaler().fit(good()).set_params(feature_range=feature_range)
    before = dict(vars(scaler))
    for method in (scaler.fit, scaler.partial_fit):
        with pytest.raises(ValueError, match=r"feature.range"):
            method(good())
    assert vars(scaler) == before


@pytest.mark.parametrize("quantile_range", [(-1, 50), (25, 101), (75, 25), (np.nan, 75), 50, "ab"])
def test_bad_quantile_range(quantile_range):
    with pytest.raises(ValueError, match=r"quantile.range"):
        nc.RobustScaler(quantile_range=quantile_range).fit(good())


@pytest.mark.parametrize("quantile_range", [(0, 50), (25, 100), (40, 40)])
def test_unit_variance_needs_inner_quantiles(quantile_range):
    scaler = nc.RobustScaler(quantile_range=quantile_range)
    assert np.isfinite(scaler.fit_transform(good())).all()
    with pytest.raises(ValueError, match="unit_variance"):
        scaler.set_params(unit_variance=True).fit(good())


def test_scale_beyond_float64():
    class Doubled(nc.AffineScaler):
        statistic = nc.Extrema

        def affine(self, extrema):
            with np.errstate(over="ignore"):
                return nc.Affine(scale=2 * extrema.max)

    scaler = Doubled()
    with pytest.raises(ValueError, match="column 1 of X spans more"):
        scaler.fit([[0.0, 1.7e308], [1.0, 1.7e308]])
    assert not scaler.__sklearn_is_fitted__()


def test_failing_affine_leaves_the_scaler_as_it_was():
    class Moody(nc.AffineScaler):
        statistic = nc.Extrema

        def affine(self, extrema):
            self.low_ = extrema.min
            if extrema.max[0] > 100:
                raise ValueError("too large")
            return nc.Affine(center=self.low_)

    scaler = Moody().fit(good())
    before = dict(vars(scaler))
    for method in (scaler.fit, scaler.partial_fit):
        with pytest.raises(ValueError, match="too large"):
            method(good() + 1000)
    assert vars(scaler) == before
    Y = scaler.transform(good())
    np.testing.assert_array_equal(Y, good() - good().min(0))


def test_inverse_of_gamma_zero_is_refused():
    class Flat(nc.AffineScaler):
        statistic = nc.Extrema

        def affine(self, extrema):
            return nc.Affine(gamma=0.0)

    with pytest.raises(ValueError, match="gamma is 0"):
        Flat().fit(good()).inverse_transform(good())


def test_set_params_refuses_an_unknown_name_and_sets_nothing():
    scaler = nc.StandardScaler()
    with pytest.raises(ValueError, match="Invalid parameter 'with_median'"):
        scaler.set_params(with_mean=False, with_median=True)
    assert scaler.with_mean is True
    with pytest.raises(ValueError, match="Invalid parameter 'copy__deep'"):
        scaler.set_params(copy__deep=True)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (nc.StandardScaler, "with_mean"),
        (nc.StandardScaler, "with_std"),
        (nc.MinMaxScaler, "clip"),
        (nc.RobustScaler, "unit_variance"),
        (nc.RobustScaler, "copy"),
    ],
)
def test_flags_are_true_or_false(cls, name):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got 'no'"):
        cls(**{name: "no"}).fit(good())
    cls(**{name: np.bool_(False)}).fit(good())


def test_integers_beyond_float64():
    with pytest.raises(ValueError, match="beyond the largest float64"):
        nc.StandardScaler().fit(np.array([[10**400], [1]], dtype=object))


def test_feature_names_of_mixed_kinds():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(good(), columns=["a", "b", 3])
    with pytest.raises(TypeError, match="Feature names are only supported"):
        nc.StandardScaler().fit(frame)
    frame.columns = [1, 2, 3]
    assert not hasattr(nc.StandardScaler().fit(frame), "feature_names_in_")


@pytest.mark.parametrize(
    ("column", "error"), [(["x", "y"], ValueError), ([1j, 2j], ValueError), ([{}, []], TypeError)]
)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_column_that_is_not_numeric_is_named(library, column, error):
    library = pytest.importorskip(library)
    if isinstance(column[0], complex | dict) and library.__name__ == "polars":
        return
    frame = library.DataFrame({"age": [1.0, 2.0], "city": column})
    with pytest.raises(error, match="column 'city'"):
        nc.StandardScaler().fit(frame)


def test_dates_in_a_frame_are_refused():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"age": [1.0, 2.0], "when": pd.to_datetime(["2020-01-01", "2021-01-01"])})
    with pytest.raises(ValueError, match="column 'when'"):
        nc.StandardScaler().fit(frame)


@pytest.mark.parametrize("kind", ["Date", "Duration"])
def test_times_beside_numbers_in_a_polars_frame_are_refused(kind):
    pl = pytest.importorskip("polars")
    when = pl.Series([1, 2]).cast(getattr(pl, kind))
    with pytest.raises(ValueError, match="column 'when'"):
        nc.StandardScaler().fit(pl.DataFrame({"age": [1.0, 2.0], "when": when}))


def test_names_known_on_one_side_only_warn():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(good(), columns=["a", "b", "c"])
    with pytest.warns(UserWarning, match="X does not have valid feature names, but StandardScaler"):
        nc.StandardScaler().fit(frame).transform(good())
    with pytest.warns(UserWarning, match="X has feature names, but StandardScaler was fitted"):
        nc.StandardScaler().fit(good()).transform(frame)


def test_bad_input_features():
    scaler = nc.StandardScaler().fit(good())
    with pytest.raises(ValueError, match="length equal"):
        scaler.get_feature_names_out(["a"])
    assert scaler.get_feature_names_out(["a", "b", "c"]).tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("huge", [10**400, -(10**400), Fraction(10**400)])
@pytest.mark.parametrize(
    ("name", "make", "weight"),
    [
        ("feature_range", lambda huge: nc.MinMaxScaler((0, huge)), None),
        ("feature_range", lambda huge: nc.MinMaxScaler((huge, 1)), None),
        ("quantile range", lambda huge: nc.RobustScaler(quantile_range=(0, huge)), None),
        ("quantile range", lambda huge: nc.RobustScaler(quantile_range=[huge, 100]), None),
        ("sample_weight", lambda huge: nc.StandardScaler(), lambda huge: [huge, 1]),
        ("sample_weight", lambda huge: nc.StandardScaler(), lambda huge: [1, huge]),
        ("sample_weight", lambda huge: nc.StandardScaler(), lambda huge: huge),
    ],
)
def test_numbers_beyond_float64_are_refused_by_name(name, make, weight, huge):
    scaler = make(huge)
    options = {} if weight is None else {"sample_weight": weight(huge)}
    with pytest.raises(ValueError, match=name):
        scaler.fit([[1.0], [2.0]], **options)
    assert not scaler.__sklearn_is_fitted__()


def test_large_integers_within_float64_are_taken():
    x = [[1.0], [2.0], [4.0]]
    assert nc.MinMaxScaler((0, 10**300)).fit_transform(x)[2, 0] == 1e300
    weighted = nc.StandardScaler().fit(x, sample_weight=[2**70, 2**70, 0])
    assert weighted.mean_[0] == 1.5


@pytest.mark.parametrize(
    ("X", "weights", "message"),
    [
        ([[1.0], [2.0], [4.0]], [1e308] * 3, "so large that its sum"),
        ([[1e300], [2e300], [-4e300]], [1e300] * 3, "so large that its sum"),
        ([[1.0], [2.0], [4.0]], [5e-324] * 3, "multiply the weights by a constant"),
    ],
)
def test_weights_beyond_what_float64_sums(X, weights, message):
    scaler = nc.StandardScaler().fit(good())
    before = scaler.mean_
    with pytest.raises(ValueError, match=message):
        scaler.fit(X, sample_weight=weights)
    assert scaler.mean_ is before


@pytest.mark.parametrize("missing", ["NA", "None", "Arrow"])
def test_weights_that_are_missing(missing):
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    weights = {"NA": [1, pd.NA, 2], "None": [1, None, 2], "Arrow": pa.array([1, None, 2])}[missing]
    with pytest.raises(ValueError, match="weight 1 is nan"):
        nc.StandardScaler().fit([[1.0], [2.0], [4.0]], sample_weight=weights)
