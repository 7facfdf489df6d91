"""axis=: arrays of any number of dimensions, against the same values computed in NumPy."""

from __future__ import annotations

import pickle
import warnings

import feature_arrays as fa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libraries import LIBRARIES, library

import normcore as nc
from normcore.testing.backend import laws

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")  # of little data
SCALERS = fa.scalers()
each_scaler = pytest.mark.parametrize("cls", SCALERS, ids=lambda cls: cls.__name__)


@st.composite
def problems(draw, **options):
    x = draw(fa.arrays(**options))
    return x, draw(fa.axes_of(x.ndim))


def quietly(function, *arguments):
    """Call NumPy's, which warns where all of a feature is missing."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*arguments)


def test_every_scaler_of_the_package_takes_an_axis():
    assert {nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler, nc.MaxAbsScaler} <= set(SCALERS)


def test_one_statistic_for_everything():
    x = [[4, 4, 4], [-4, -4, -4]]
    scaler = nc.StandardScaler(axis=None).fit(x)
    assert (scaler.scale_, scaler.mean_, scaler.scale_.shape) == (4.0, 0.0, ())
    assert (scaler.n_features_in_, scaler.n_samples_seen_) == (1, 6)
    np.testing.assert_array_equal(scaler.transform(x), np.sign(x))


# -- against computations of another kind ----------------------------------------------------


@laws
@given(problem=problems())
def test_standard_scaler_is_what_long_double_says(problem):
    x, axis = problem
    scaler = nc.StandardScaler(axis=axis).fit(x)
    others = fa.others(axis, x.ndim)
    wide = x.astype(np.longdouble)
    mean = quietly(lambda: np.nanmean(wide, axis=others))
    var = quietly(lambda: np.nanmean((wide - np.expand_dims(mean, others)) ** 2, axis=others))
    eps = np.finfo(np.float64).eps
    assert scaler.mean_.shape == mean.shape
    np.testing.assert_allclose(scaler.mean_, mean.astype(float), rtol=2 * eps, atol=1e-17)
    np.testing.assert_allclose(scaler.var_, var.astype(float), rtol=8 * eps, atol=1e-30)
    mean_, scale_ = (fa.expanded(each, axis, x.ndim) for each in (scaler.mean_, scaler.scale_))
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    expected = ((x.astype(np.float64) - mean_) / scale_).astype(dtype)
    y = scaler.transform(x)
    np.testing.assert_array_equal(y, expected)
    back = (y.astype(np.float64) * scale_ + mean_).astype(dtype)
    np.testing.assert_array_equal(scaler.inverse_transform(y), back)
    count = np.sum(~np.isnan(wide), axis=others)
    np.testing.assert_array_equal(np.broadcast_to(scaler.n_samples_seen_, count.shape), count)


@laws
@given(problem=problems())
def test_extrema_and_quantiles_are_numpys(problem):
    x, axis = problem
    others = fa.others(axis, x.ndim)
    wide = x.astype(np.float64)
    minmax = nc.MinMaxScaler(axis=axis).fit(x)
    np.testing.assert_array_equal(minmax.data_min_, quietly(np.nanmin, wide, others))
    np.testing.assert_array_equal(minmax.data_max_, quietly(np.nanmax, wide, others))
    largest = quietly(np.nanmax, np.abs(wide), others)
    maxabs = nc.MaxAbsScaler(axis=axis).fit(x)
    np.testing.assert_array_equal(maxabs.max_abs_, largest)
    scale = fa.expanded(np.where(largest == 0, 1.0, largest), axis, x.ndim)
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    np.testing.assert_array_equal(maxabs.transform(x), (wide / scale).astype(dtype))
    robust = nc.RobustScaler(axis=axis).fit(x)
    low, median, high = quietly(np.nanquantile, wide, [0.25, 0.5, 0.75], others)
    np.testing.assert_array_equal(robust.center_, median)
    varies = high - low > 1e-14 * np.maximum(np.abs(low), np.abs(high))
    np.testing.assert_array_equal(robust.scale_[varies], (high - low)[varies])


# -- every scaler ----------------------------------------------------------------------------


def assert_close(result, expected, dtype):
    """Within what another order of summation costs."""
    tolerance = 64 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@each_scaler
@laws
@given(problem=problems())
def test_it_is_the_scaler_of_a_table(cls, problem):
    x, axis = problem
    table = fa.as_table(x, axis)
    scaler, plain = cls(axis=axis).fit(x), cls().fit(table)
    y = scaler.transform(x)
    expected = plain.transform(table)
    assert (y.shape, y.dtype) == (x.shape, expected.dtype)
    assert_close(y, fa.from_table(expected, x.shape, axis), expected.dtype)
    back = fa.from_table(plain.inverse_transform(expected), x.shape, axis)
    scale = np.nanmax(np.abs(np.append(back, 1.0).astype(float)))
    assert_close(scaler.inverse_transform(y) / scale, back / scale, expected.dtype)
    assert scaler.n_features_in_ == table.shape[1]
    shape = tuple(x.shape[each] for each in fa.kept(axis, x.ndim))
    for name, value in vars(plain).items():
        if name in cls.unshaped:
            continue
        if isinstance(value, np.ndarray) and value.shape == (table.shape[1],) and name[-1] == "_":
            assert getattr(scaler, name).shape == shape, name


@pytest.mark.filterwarnings("ignore:Some values .* of the inverse-transformed data:UserWarning")
@each_scaler
@laws
@given(problem=problems(dtypes=("float64", "float32")), data=st.data())
def test_out_and_copy_false(cls, problem, data):
    x, axis = problem
    scaler = cls(axis=axis).fit(x)
    for method, data_in in (
        (scaler.transform, x),
        (scaler.inverse_transform, scaler.transform(x)),
    ):
        expected = method(data_in)
        assert expected.flags.writeable
        out = np.empty_like(data_in)
        assert method(data_in, out=out) is out
        np.testing.assert_array_equal(out, expected)
        in_place = np.array(data_in, order="K")
        assert method(in_place, out=in_place) is in_place
        np.testing.assert_array_equal(in_place, expected)
    writable = np.array(x, order="K")
    result = cls(axis=axis, copy=False).fit(x).transform(writable)
    np.testing.assert_array_equal(result, scaler.transform(x))
    np.testing.assert_array_equal(writable, result)


@each_scaler
@laws
@given(problem=problems(), parts=st.integers(2, 3), data=st.data())
def test_pieces_merge(cls, problem, parts, data):
    """fit(A + B) is fit(A).merge(fit(B)) and fit(A).partial_fit(B)."""
    x, axis = problem
    others = fa.others(axis, x.ndim)
    params = fa.streaming(cls)
    if params is None or not others:
        return
    along = data.draw(st.sampled_from(others))
    pieces = [each for each in np.array_split(x, parts, along) if each.size]
    whole = cls(axis=axis, **params).fit(x)
    merged, streamed = cls(axis=axis, **params), cls(axis=axis, **params)
    for piece in pieces:
        merged.merge(cls(axis=axis, **params).fit(piece))
        streamed.partial_fit(piece)
    for scaler in (merged, streamed):
        y = whole.transform(x)
        assert_close(scaler.transform(x), y, y.dtype)
        np.testing.assert_array_equal(scaler.n_samples_seen_, whole.n_samples_seen_)


@each_scaler
@pytest.mark.parametrize("axis", [None, 1, -1, (0, 2), (1, -1)])
def test_saved_pickled_and_cloned(cls, axis, tmp_path):
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    scaler = cls(axis=axis).fit(x)
    scaler.save(tmp_path / "scaler.json")
    for restored in (nc.load(tmp_path / "scaler.json"), pickle.loads(pickle.dumps(scaler))):
        np.testing.assert_array_equal(restored.transform(x), scaler.transform(x))
        for name, value in vars(scaler).items():
            if name.endswith("_") and isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(restored, name), value)
                assert getattr(restored, name).shape == value.shape
        if axis is not None:
            with pytest.raises(ValueError, match="is expecting"):
                restored.transform(x[:2, :2, :2])
    clone = pytest.importorskip("sklearn.base").clone(scaler)
    assert clone.get_params()["axis"] == axis


@pytest.mark.parametrize("name", LIBRARIES)
@each_scaler
@pytest.mark.parametrize("axis", [None, 1, -1, (0, 2), (1, 2)])
def test_arrays_of_every_library(cls, name, axis, monkeypatch):
    x = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    expected = cls(axis=axis).fit(x)
    y = expected.transform(x)
    with library(name, monkeypatch) as lib:
        scaler = lib_fit(lib, cls(axis=axis, backend=lib.backend), x)
        for method, given, result in (
            ("transform", x, y), ("inverse_transform", y, expected.inverse_transform(y))
        ):  # fmt: skip
            found = lib.call(getattr(scaler, method), given)
            assert (found.shape, found.dtype) == (x.shape, x.dtype)
            assert_close(found, result, np.float32)
            out = np.zeros_like(x)
            if name != "strict":
                lib.call(getattr(scaler, method), given, out=out)
                np.testing.assert_array_equal(out, found)


def lib_fit(lib, scaler, x, **options):
    native = {key: lib.native(value) for key, value in options.items()}
    return scaler.fit(lib.native(x), **native)


# -- sizes and numbers of dimensions -----------------------------------------------------------


def test_other_axes_have_any_length_and_number():
    rng = np.random.default_rng(0)
    scaler = nc.StandardScaler(axis=-1).fit(rng.standard_normal((6, 4)))
    for shape in [(4,), (1, 4), (2, 3, 4), (2, 2, 2, 2, 4)]:
        x = rng.standard_normal(shape)
        np.testing.assert_array_equal(scaler.transform(x), (x - scaler.mean_) / scaler.scale_)
    scaler.partial_fit(rng.standard_normal((2, 5, 4)))
    assert scaler.n_samples_seen_ == 16
    channels = nc.StandardScaler(axis=1).fit(rng.standard_normal((6, 4)))
    assert channels.transform(rng.standard_normal((2, 4, 3, 3))).shape == (2, 4, 3, 3)


def test_axes_counted_from_both_ends_fix_the_number_of_dimensions():
    scaler = nc.StandardScaler(axis=(1, -1)).fit(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="4 dimensions, but StandardScaler was fitted to 3"):
        scaler.transform(np.ones((2, 3, 5, 4)))


def test_a_plugin_gets_it_with_no_line_of_its_own():
    class Halved(nc.AffineScaler):
        statistic = nc.Extrema

        def affine(self, extrema):
            self.largest_ = extrema.max
            return nc.Affine(scale=2.0 * extrema.max)

    class Cubed(nc.PointwiseScaler):
        statistic = nc.Extrema

        def prepare(self, extrema):
            self.largest_ = extrema.max

        def forward(self, xp, x):
            return (x / self.largest_) ** 3

        def inverse(self, xp, x):
            return xp.cbrt(x) * self.largest_

    x = np.random.default_rng(0).random((4, 3, 5)) + 1
    for order in ("C", "F"):
        x = np.asarray(x, order=order)
        for cls in (Halved, Cubed):
            for axis in (None, 0, 1, (0, 2), (1, 2), -1):
                scaler = cls(axis=axis).fit(x)
                largest = x.max(axis=fa.others(axis, 3))
                np.testing.assert_array_equal(scaler.largest_, largest)
                ratio = x / fa.expanded(largest, axis, 3)
                y = scaler.transform(x)
                np.testing.assert_allclose(y, ratio / 2 if cls is Halved else ratio**3, rtol=1e-15)
                np.testing.assert_allclose(scaler.inverse_transform(y), x, rtol=1e-14)


def test_a_plugin_that_does_not_list_axis():
    class Own(nc.AffineScaler):
        statistic = nc.Extrema

        def __init__(self, *, backend=None):
            self.backend = backend

        def affine(self, extrema):
            return nc.Affine(scale=extrema.max)

    assert "axis" not in Own().get_params()
    np.testing.assert_array_equal(Own().fit_transform([[2.0], [4.0]]), [[0.5], [1.0]])


def test_sample_weights_weigh_the_first_axis():
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((6, 3, 4)), rng.integers(0, 4, 6)
    for axis in (None, 1, 2, (1, 2), -1):
        for X in (x, np.asfortranarray(x), x[:, ::-1, ::2]):
            scaler = nc.StandardScaler(axis=axis).fit(X, sample_weight=weights)
            repeated = nc.StandardScaler(axis=axis).fit(np.repeat(X, weights, axis=0))
            np.testing.assert_allclose(scaler.mean_, repeated.mean_, rtol=1e-14, atol=1e-16)
            np.testing.assert_allclose(scaler.scale_, repeated.scale_, rtol=1e-14)
    with pytest.raises(ValueError, match="which has statistics of its own with axis=0"):
        nc.StandardScaler(axis=0).fit(x, sample_weight=weights)
    with pytest.raises(ValueError, match="sample_weight has 3 values, but X has 6 rows"):
        nc.StandardScaler(axis=1).fit(x, sample_weight=weights[:3])


@pytest.mark.parametrize("backend", [None, "reference"])
def test_wide_integers_keep_every_digit(backend):
    clock = 1_700_000_000_000_000_000 + np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    for axis in (None, 1, (0, 2)):
        y = nc.StandardScaler(axis=axis, backend=backend).fit_transform(clock)
        small = (clock - clock.min()).astype(np.float64)
        expected = nc.StandardScaler(axis=axis).fit_transform(small)
        np.testing.assert_allclose(y, expected, rtol=1e-15, atol=1e-16)
