"""where=: elements that do not count, left out of statistics and left as they are by maps."""

from __future__ import annotations

import warnings

import feature_arrays as fa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libraries import LIBRARIES, library

import normcore as nc
from normcore.testing.arguments import draw_mask
from normcore.testing.backend import laws

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")  # of little data
each_scaler = pytest.mark.parametrize("cls", fa.scalers(), ids=lambda cls: cls.__name__)


@st.composite
def problems(draw, **options):
    """Draw an array, axes of features and a mask that hides some of it, of fewer dimensions too."""
    x = draw(fa.arrays(**options))
    axis = draw(st.just("columns") if x.ndim == 2 and draw(st.booleans()) else fa.axes_of(x.ndim))
    mask = draw_mask(draw(st.data()), x.shape)
    while mask.ndim > 1 and mask.shape[0] == 1 and draw(st.booleans()):
        mask = mask[0]
    if not mask.any():
        mask = ~mask
    return x, axis, mask


def bits(x):
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


@laws
@given(problem=problems())
def test_statistics_are_those_of_what_is_shown(problem):
    x, axis, mask = problem
    others = (0,) if axis == "columns" else fa.others(axis, x.ndim)
    wide = np.where(mask, x, np.nan).astype(np.longdouble)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        mean = np.nanmean(wide, axis=others)
        var = np.nanmean((wide - np.expand_dims(mean, others)) ** 2, axis=others)
        least = np.nanmin(wide, axis=others)
        median = np.nanmedian(wide.astype(float), axis=others)
    scaler = nc.StandardScaler(axis=axis).fit(x, where=mask)
    eps = np.finfo(np.float64).eps
    np.testing.assert_allclose(scaler.mean_, mean.astype(float), rtol=2 * eps, atol=1e-17)
    np.testing.assert_allclose(scaler.var_, var.astype(float), rtol=8 * eps, atol=1e-30)
    count = np.sum(~np.isnan(wide), axis=others)
    np.testing.assert_array_equal(np.broadcast_to(scaler.n_samples_seen_, count.shape), count)
    extrema = nc.MinMaxScaler(axis=axis).fit(x, where=mask)
    np.testing.assert_array_equal(extrema.data_min_, least.astype(float))
    center = nc.RobustScaler(axis=axis).fit(x, where=mask).center_
    np.testing.assert_allclose(center, median, rtol=4 * eps)


@each_scaler
@laws
@given(problem=problems(), data=st.data())
def test_what_is_hidden_is_missing_and_stays(cls, problem, data):
    x, axis, mask = problem
    shown = np.broadcast_to(mask, x.shape)
    filled = np.where(shown, x, np.nan)
    if filled.dtype != x.dtype and x.dtype.kind == "f":
        filled = filled.astype(x.dtype)
    plain = cls(axis=axis).fit(filled)
    expected = plain.transform(filled)
    junk = x.copy(order="K")
    if x.dtype.kind == "f":
        strange = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-45, np.finfo(x.dtype).max])
        junk[~shown] = data.draw(st.sampled_from(list(strange.astype(x.dtype))))
    scaler = cls(axis=axis).fit(junk, where=mask)
    y = scaler.transform(junk, where=mask)
    assert (y.shape, y.dtype) == (x.shape, expected.dtype)
    tolerance = 64 * float(np.finfo(y.dtype).eps)
    np.testing.assert_allclose(y[shown], expected[shown], rtol=tolerance, atol=tolerance)
    hidden = junk.astype(y.dtype)[~shown]
    np.testing.assert_array_equal(bits(y[~shown]), bits(hidden))
    np.testing.assert_array_equal(y[shown], scaler.transform(filled)[shown])
    back = scaler.inverse_transform(y, where=mask)
    np.testing.assert_array_equal(bits(back[~shown]), bits(hidden))
    np.testing.assert_array_equal(back[shown], scaler.inverse_transform(y_shown(y, shown))[shown])
    together = cls(axis=axis).fit_transform(junk, where=mask)
    np.testing.assert_array_equal(bits(together), bits(y))
    if x.dtype.kind == "f":
        for target in (np.empty_like(x), junk.copy(order="K")):
            assert scaler.transform(junk, where=mask, out=target) is target
            np.testing.assert_array_equal(bits(target), bits(y))
        in_place = junk.copy(order="K")
        assert scaler.transform(in_place, where=mask, out=in_place) is in_place
        np.testing.assert_array_equal(bits(in_place), bits(y))
        scaler.copy = False
        scaler.transform(junk, where=mask)
        np.testing.assert_array_equal(bits(junk), bits(y))


def y_shown(y, shown):
    return np.where(shown, y, np.nan).astype(y.dtype)


@each_scaler
@laws
@given(problem=problems())
def test_pieces_merge(cls, problem):
    x, axis, mask = problem
    along = 0 if axis == "columns" else next(iter(fa.others(axis, x.ndim)), None)
    params = fa.streaming(cls)
    if along is None or x.shape[along] < 2 or params is None:
        return
    whole = cls(axis=axis, **params).fit(x, where=mask)
    full = np.broadcast_to(mask, x.shape)
    merged, streamed = cls(axis=axis, **params), cls(axis=axis, **params)
    for part, shown in zip(
        np.array_split(x, 2, along), np.array_split(full, 2, along), strict=True
    ):
        if shown.any():
            merged.merge(cls(axis=axis, **params).fit(part, where=shown))
            streamed.partial_fit(part, where=shown)
    y = whole.transform(x)
    tolerance = 64 * float(np.finfo(y.dtype).eps)
    for scaler in (merged, streamed):
        np.testing.assert_allclose(scaler.transform(x), y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LIBRARIES)
@each_scaler
@pytest.mark.parametrize("axis", ["columns", None, 1, (0, 2)])
def test_masks_of_every_library(cls, name, axis, monkeypatch):
    rng = np.random.default_rng(0)
    shape = (7, 3) if axis == "columns" else (4, 3, 5)
    x, mask = rng.standard_normal(shape).astype(np.float32), rng.random(shape) < 0.6
    expected = cls(axis=axis).fit(x, where=mask)
    y = expected.transform(x, where=mask)
    x[~mask] = np.inf
    y[~mask] = np.inf
    with library(name, monkeypatch) as lib:
        scaler = cls(axis=axis, backend=lib.backend).fit(lib.native(x), where=lib.native(mask))
        found = lib.call(scaler.transform, x, where=mask)
        np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[~mask], x[~mask])
        back = lib.call(scaler.inverse_transform, y, where=mask)
        np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
        if name != "cpu" and name != "reference":
            with pytest.raises(TypeError, match=r"where is a numpy\.ndarray, but X is a"):
                scaler.transform(lib.native(x), where=mask)


# -- masks that make no sense --------------------------------------------------------------------


@each_scaler
@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            np.ones((4, 3, 6), bool),
            ValueError,
            r"where has shape \(4, 3, 6\), which does not",
        ),
        (np.ones((1, 4, 3, 5), bool), ValueError, r"does not broadcast to that of X, \(4, 3, 5\)"),
        (np.ones((4, 3, 5)), TypeError, "where must be an array of bool, .* not float64"),
        (np.ones((4, 3, 5), np.uint8), TypeError, "not uint8"),
        (np.zeros((4, 3, 5), bool), ValueError, "where hides all of X"),
        (np.zeros(1, bool), ValueError, "where hides all of X"),
        (np.ma.masked_array(np.ones(5, bool)), TypeError, "where is a masked array"),
    ],
)
def test_masks_that_do_not_fit(cls, mask, error, message):
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    scaler = cls(axis=1).fit(x)
    before = scaler.transform(x)
    for attempt in (scaler.fit, scaler.transform, scaler.inverse_transform):
        with pytest.raises(error, match=message):
            attempt(x, where=mask)
    out = np.full_like(x, 7.0)
    with pytest.raises(error, match=message):
        scaler.transform(x, where=mask, out=out)
    assert (out == 7.0).all()
    np.testing.assert_array_equal(scaler.transform(x), before, "a failed fit left traces")


def test_a_mask_of_another_library():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"where is a torch\.Tensor, but X is a numpy\.ndarray"):
        nc.StandardScaler().fit(np.ones((3, 2)), where=torch.ones((3, 2), dtype=torch.bool))


@each_scaler
def test_infinity_that_is_shown_is_refused_where_it_is(cls):
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    scaler = cls(axis=1).fit(x)
    mask = np.ones(x.shape, bool)
    x[0, 0, 0] = x[2, 1, 3] = np.inf
    mask[0, 0, 0] = False
    for attempt in (scaler.fit, scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match=r"infinity, first at index \(2, 1, 3\)"):
            attempt(x, where=mask)
    before = x.copy()
    with pytest.raises(ValueError, match="infinity"):
        scaler.transform(x, where=mask, out=x)
    np.testing.assert_array_equal(x, before)
    table = cls().fit(x[1])
    broken, shown = x[2].copy(), mask[2]
    with pytest.raises(ValueError, match="column 3, first at row 1"):
        table.transform(broken, where=shown)


@each_scaler
def test_a_feature_that_is_hidden_is_one_of_nan(cls):
    x = np.random.default_rng(0).standard_normal((6, 3))
    mask = np.array([True, False, True])
    holes = x.copy()
    holes[:, 1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hidden, missing = cls().fit(x, where=mask), cls().fit(holes)
        np.testing.assert_array_equal(hidden.transform(x), missing.transform(x))
        np.testing.assert_array_equal(hidden.transform(x, where=mask)[:, 1], x[:, 1])


# -- integers, weights, frames ---------------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("axis", ["columns", None, 0])
def test_wide_integers_keep_every_digit(backend, axis):
    rng = np.random.default_rng(0)
    clock = 1_700_000_000_000_000_000 + rng.integers(0, 1000, (50, 3))
    mask = rng.random(clock.shape) < 0.7
    near = np.where(mask, clock - 1_700_000_000_000_000_000, 0)
    clock[~mask] = rng.choice([-(2**62), 2**62, 3], (~mask).sum())
    scaler = nc.StandardScaler(axis=axis, backend=backend).fit(clock, where=mask)
    expected = nc.StandardScaler(axis=axis).fit(near, where=mask)
    np.testing.assert_allclose(scaler.scale_, expected.scale_, rtol=1e-15)
    y = scaler.transform(clock, where=mask)
    exact = expected.transform(near, where=mask)
    np.testing.assert_allclose(y[mask], exact[mask], rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(y[~mask], clock[~mask].astype(float))


def test_weights_of_samples_beside_a_mask():
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((6, 3, 4)), rng.integers(0, 4, 6)
    mask = rng.random(x.shape) < 0.6
    for axis in (None, 1, (1, 2)):
        scaler = nc.StandardScaler(axis=axis).fit(x, sample_weight=weights, where=mask)
        repeated = nc.StandardScaler(axis=axis).fit(
            np.repeat(x, weights, axis=0), where=np.repeat(mask, weights, axis=0)
        )
        np.testing.assert_allclose(scaler.mean_, repeated.mean_, rtol=1e-13, atol=1e-16)
        np.testing.assert_allclose(scaler.scale_, repeated.scale_, rtol=1e-13)
    integers = (1e17 + 64 * rng.integers(0, 9, (6, 3))).astype(np.int64)
    shown = rng.random(integers.shape) < 0.6
    scaler = nc.StandardScaler().fit(integers, sample_weight=weights, where=shown)
    repeated = nc.StandardScaler().fit(
        np.repeat(integers, weights, axis=0), where=np.repeat(shown, weights, axis=0)
    )
    np.testing.assert_allclose(scaler.scale_, repeated.scale_, rtol=1e-14)


def test_frames_and_lists():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2.0, 9.0], "b": [4.0, 8.0, 6.0]})
    mask = frame < 9
    scaler = nc.MinMaxScaler().set_output(transform="pandas")
    result = scaler.fit_transform(frame, where=mask)
    assert list(result.columns) == ["a", "b"]
    np.testing.assert_array_equal(result, [[0.0, 0.0], [1.0, 1.0], [9.0, 0.5]])
    lists = nc.MinMaxScaler().fit_transform(frame.to_numpy().tolist(), where=mask.values.tolist())
    np.testing.assert_array_equal(lists, result)


def test_a_volume_in_several_threads():
    """Long rows: nothing depends on how work is cut, and nothing beside the mask is touched."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x = rng.standard_normal((64, 70, 130)).astype(dtype)
        mask = rng.random(x.shape) < 0.5
        for axis in (None, 0, 1, 2, (1, 2)):
            for X in (x, np.asfortranarray(x), x[:, :, 1:-1], x[:, 1:-1], x[::2, ::-1]):
                shown = mask[: X.shape[0], : X.shape[1], : X.shape[2]]
                scaler = nc.StandardScaler(axis=axis).fit(X, where=shown)
                y = scaler.transform(X, where=shown)
                expected = np.where(shown, scaler.transform(X), X)
                np.testing.assert_array_equal(y, expected)


def test_rows_are_normalized_by_what_is_shown():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 5))
    mask = rng.random(x.shape) < 0.6
    x[~mask] = np.inf
    shown = np.where(mask, x, 0.0)
    for norm, order in (("l1", 1), ("l2", 2), ("max", np.inf)):
        norms = np.linalg.norm(shown, order, axis=1, keepdims=True)
        y = nc.Normalizer(norm).fit_transform(x, where=mask)
        np.testing.assert_allclose(y[mask], (x / np.where(norms, norms, 1))[mask], rtol=1e-15)
        np.testing.assert_array_equal(y[~mask], x[~mask])
    with pytest.raises(ValueError, match="infinity"):
        nc.Normalizer().transform(x, where=~mask)
