"""64-bit integers beyond 2**53, against exact rational arithmetic."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from normcore_maxabs import MaxAbsScaler

import normcore as nc
from normcore.statistics import wide_integers
from normcore.testing.exact import exact_moments, exact_sqrt, ulp_error

CLOCK = 1_700_000_000_000_000_000
RNG = np.random.default_rng(5)
BACKENDS = ("cpu", "reference")


def wide_values(dtype: str) -> st.SearchStrategy[int]:
    """Integers near each other, near the ends of the range, near 2**53, and anywhere."""
    info = np.iinfo(dtype)
    ends = [info.min, info.max, 2**53, 2**60, 2**62 + 1, max(info.min, -(2**62)), CLOCK]
    near = st.builds(lambda end, step: end + step, st.sampled_from(ends), st.integers(-300, 300))
    return st.one_of(near, st.integers(info.min, info.max)).map(
        lambda value: min(max(value, info.min), info.max)
    )


@st.composite
def wide_tables(draw: st.DrawFn) -> np.ndarray:
    dtype = draw(st.sampled_from(["int64", "uint64"]))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 3)))
    if draw(st.booleans()):
        return draw(hnp.arrays(dtype, shape, elements=wide_values(dtype)))
    info = np.iinfo(dtype)
    base = draw(wide_values(dtype))
    steps = draw(hnp.arrays("int64", shape, elements=st.integers(-1000, 1000)))
    clipped = [min(max(base + step, info.min), info.max) for step in steps.ravel().tolist()]
    return np.array(clipped, dtype).reshape(shape)


def assert_exact(moments: nc.Moments, x: np.ndarray, weights: np.ndarray | None = None) -> None:
    for c in range(x.shape[1]):
        exact = exact_moments(x[:, c], weights)
        if exact is None:
            continue
        assert ulp_error(moments.mean[c], exact.mean) <= 1, f"mean of column {c}"
        assert ulp_error(moments.var()[c], exact.var()) <= 4, f"variance of column {c}"


@pytest.mark.parametrize("backend", BACKENDS)
@given(x=wide_tables(), data=st.data())
def test_moments_are_exact_in_parts_merged_in_any_order(backend, x, data):
    def observe(part: np.ndarray, weights: np.ndarray | None = None) -> nc.Moments:
        return nc.functional.moments(part, channel_axis=1, weights=weights, backend=backend)

    assert_exact(observe(x), x)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=5)))
    parts = data.draw(st.permutations(np.split(x, cuts)))
    total = nc.Moments.empty(x.shape[1])
    for part in parts:
        total = total.merge(observe(part))
    assert_exact(total, x)
    assert total == total.from_state(total.to_state())


@pytest.mark.parametrize("backend", BACKENDS)
@given(x=wide_tables(), data=st.data())
def test_moments_are_exact_under_whole_weights(backend, x, data):
    weights = data.draw(hnp.arrays(np.float64, len(x), elements=st.integers(0, 5)))
    moments = nc.functional.moments(x, channel_axis=1, weights=weights, backend=backend)
    assert_exact(moments, x, weights)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("span", [2**12, 2**40, 2**54, 2**62])
def test_many_rows_of_many_blocks(dtype, span):
    rows = 50_000
    x = (RNG.integers(0, span, (rows, 3)) + (2**62 + 12345)).astype(dtype)
    if dtype == "int64":
        x[:, 1] = -x[:, 1]
    x[:, 2] = RNG.integers(0, 100, rows)  # narrow beside wide
    assert_exact(nc.functional.moments(x, channel_axis=1), x)
    weights = RNG.random(rows)
    assert_exact(nc.functional.moments(x, channel_axis=1, weights=weights), x, weights)
    scaler = nc.StandardScaler()
    for part in np.array_split(x, 7):
        scaler.partial_fit(part)
    assert_exact(scaler._statistic, x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "laid_out",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: np.ascontiguousarray(x[::-1])[::-1],
        lambda x: x.astype(x.dtype.newbyteorder()),
    ],
)
def test_strides_and_orders_of_memory(backend, laid_out):
    x = CLOCK + RNG.integers(0, 5000, (600, 4))
    moments = nc.functional.moments(laid_out(x), channel_axis=1, backend=backend)
    assert_exact(moments, x)
    scaler = nc.StandardScaler(backend=backend)
    np.testing.assert_allclose(
        scaler.fit_transform(laid_out(x)), scaler.fit_transform(x), rtol=1e-13, atol=1e-13
    )


def test_any_axis():
    x = CLOCK + RNG.integers(0, 5000, (6, 5, 4, 7))
    rows = np.moveaxis(x, 1, -1).reshape(-1, 5)
    assert_exact(nc.functional.moments(x, channel_axis=1), rows)
    assert_exact(
        nc.functional.moments(x[:, :, ::2], channel_axis=None), x[:, :, ::2].reshape(-1, 1)
    )


@pytest.mark.parametrize("kind", ["torch", "array_api_strict"])
def test_other_libraries(kind):
    library = pytest.importorskip(kind)
    x = CLOCK + RNG.integers(0, 5000, (50, 3))
    for backend in (None, "reference"):
        if kind == "array_api_strict" and backend is None:
            continue
        moments = nc.functional.moments(library.asarray(x), channel_axis=1, backend=backend)
        assert_exact(moments.to_host(), x)
        scaler = nc.StandardScaler(backend=backend)
        y = scaler.fit_transform(library.asarray(x))
        assert_standardized(np.asarray(y), x, x)


@given(
    x=hnp.arrays("int64", (20, 2), elements=st.integers(-(2**53), 2**53)), weighted=st.booleans()
)
def test_narrow_integers_keep_their_bits(x, weighted):
    weights = np.arange(20.0) if weighted else None
    as_floats = nc.functional.moments(x.astype(float), channel_axis=1, weights=weights)
    moments = nc.functional.moments(x, channel_axis=1, weights=weights)
    assert moments == as_floats
    assert moments.wide is None
    scaler = nc.StandardScaler().fit(x.astype(float))
    np.testing.assert_array_equal(scaler.transform(x), scaler.transform(x.astype(float)))


def assert_standardized(y: np.ndarray, x: np.ndarray, fitted: np.ndarray) -> None:
    for c in range(x.shape[1]):
        exact = exact_moments(fitted[:, c])
        std = exact_sqrt(exact.var()) or Fraction(1)
        # The mean is a pair of float64 where it is large, and rounded to one where it is not.
        mean_error = Fraction(1, 2**40)
        if abs(exact.mean) < wide_integers.LARGE or np.all(np.abs(fitted[:, c]) <= 2**53):
            mean_error += abs(exact.mean) / 2**53
        for value, result in zip(x[:, c].tolist(), y[:, c].tolist(), strict=True):
            want = (value - exact.mean) / std
            assert abs(Fraction(result) - want) <= abs(want) / 2**50 + mean_error / std


@pytest.mark.parametrize("backend", BACKENDS)
@given(x=wide_tables(), cut=st.integers(1, 40))
def test_standardized_integers_are_exact(backend, x, cut):
    scaler = nc.StandardScaler(backend=backend).fit(x[:cut])
    if cut < len(x):
        scaler.partial_fit(x[cut:])
    y = scaler.transform(x)
    assert_standardized(y, x, x)
    for again in (
        pickle.loads(pickle.dumps(scaler)),
        nc.StandardScaler.from_dict(scaler.to_dict()),
    ):
        np.testing.assert_array_equal(again.transform(x), y)
    out = np.empty(x.shape)
    assert scaler.transform(x, out=out) is out
    np.testing.assert_array_equal(out, y)
    one = np.concatenate([scaler.transform(row[None]) for row in x])
    np.testing.assert_array_equal(one, y)


def test_clock_saved_loaded_and_merged(tmp_path):
    x = CLOCK + 1000 * np.arange(20)[:, None]
    whole = nc.StandardScaler().fit(x)
    assert whole.scale_[0] == pytest.approx(1000 * np.arange(20).std(), rel=1e-15)
    whole.save(tmp_path / "clock.json")
    loaded = nc.load(tmp_path / "clock.json")
    merged = nc.StandardScaler().fit(x[:7]).merge(nc.StandardScaler().fit(x[7:]))
    want = (np.arange(20) - 9.5) / np.arange(20).std()
    for scaler in (whole, loaded, merged):
        np.testing.assert_allclose(scaler.transform(x)[:, 0], want, rtol=1e-14)
    assert np.abs(whole.inverse_transform(whole.transform(x)) - x).max() <= 256


def test_a_constant_clock_is_constant():
    x = np.full((9, 1), CLOCK + 1)
    for weights in (None, np.linspace(0.1, 0.7, 9)):
        scaler = nc.StandardScaler().fit(x, sample_weight=weights)
        assert scaler.scale_[0] == 1
        np.testing.assert_allclose(scaler.transform(x), 0, atol=1e-13)


LOSING = [
    lambda: nc.MinMaxScaler(),
    lambda: nc.MinMaxScaler(clip=True),
    lambda: nc.RobustScaler(),
    lambda: nc.RobustScaler(with_centering=False),
]


@pytest.mark.parametrize("make", LOSING)
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_scalers_refuse_integers_whose_digits_matter(make, dtype):
    x = np.column_stack([np.arange(30), CLOCK + 7 * np.arange(30)]).astype(dtype)
    scaler = make().fit(x[:, :1])
    before = scaler.to_dict()
    with pytest.raises(ValueError, match=r"column 1 holds integers beyond 2\*\*53.*offset"):
        scaler.fit(x)
    assert str(scaler.to_dict()) == str(before)
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="column 'clock'"):
        make().fit(pandas.DataFrame(x, columns=["n", "clock"]))
    fitted = make().fit(x.astype(np.float64) + 0 * x)  # floats are what they are
    if "with_centering" not in fitted.get_params() or fitted.with_centering:
        with pytest.raises(ValueError, match="column 1"):
            fitted.transform(x)


@pytest.mark.parametrize("make", [*LOSING, MaxAbsScaler])
def test_scalers_take_integers_that_lose_nothing_that_matters(make):
    on_grid = (CLOCK + 512 * np.arange(300))[:, None]  # values of float64
    apart = RNG.integers(-(2**62), 2**62, (300, 1))
    for x in (on_grid, apart):
        y = make().fit_transform(x)
        np.testing.assert_array_equal(y, make().fit_transform(x.astype(np.float64)))


def test_max_abs_keeps_every_digit_of_a_clock():
    x = (CLOCK + np.arange(30))[:, None]
    y = MaxAbsScaler().fit_transform(x)
    np.testing.assert_allclose(y[:, 0], [float(Fraction(int(v), int(x.max()))) for v in x[:, 0]])


def layers():
    x = CLOCK + 7 * np.arange(24).reshape(4, 6)
    batch = nc.BatchNorm(6)
    functional = nc.functional
    yield lambda: batch(x), "channel 0 of x"
    yield lambda: functional.batch_norm(x.T, axis=0), "channel 0 of x"
    yield lambda: functional.batch_norm(x[:, :, None].repeat(3, 2)[:, :, ::2]), "channel 0 of x"
    yield (
        lambda: functional.batch_norm_inference(x, np.full(6, float(CLOCK)), np.ones(6)),
        "channel 0 of x",
    )
    yield lambda: functional.layer_norm(x), "sample 0 of x"
    yield lambda: functional.group_norm(x, 2), "channel 1 of x"  # of one value, a float64, in 0


@pytest.mark.parametrize("call", range(6))
def test_layers_refuse_integers_whose_digits_matter(call):
    function, name = list(layers())[call]
    with pytest.raises(ValueError, match=name + " holds integers beyond"):
        function()


def test_backward_passes_refuse_them_too():
    x, dy = CLOCK + 7 * np.arange(24).reshape(4, 6), np.ones((4, 6))
    functional = nc.functional
    moments = functional.moments(x, channel_axis=1)
    with pytest.raises(ValueError, match="channel 0 of x holds"):
        functional.batch_norm_backward(dy, x, moments)
    moments = functional.moments(x, channel_axis=0)
    with pytest.raises(ValueError, match="sample 0 of x holds"):
        functional.layer_norm_backward(dy, x, moments)
    moments = functional.moments(x.reshape(8, 3), channel_axis=0)
    with pytest.raises(ValueError, match="channel 1 of x holds"):
        functional.group_norm_backward(dy, x, moments, 2)


def test_rms_norm_has_no_center_to_lose_digits_to():
    x = CLOCK + 7 * np.arange(24).reshape(4, 6)
    y, _ = nc.functional.rms_norm(x)
    np.testing.assert_allclose(y, nc.functional.rms_norm(x.astype(float))[0], rtol=1e-15)


def test_running_statistics_stay_after_a_refusal():
    batch = nc.BatchNorm(6)
    with pytest.raises(ValueError, match="beyond"):
        batch(CLOCK + np.arange(24).reshape(4, 6))
    assert batch.num_batches_tracked == 0
    np.testing.assert_array_equal(batch.running_mean, 0)


@given(x=wide_tables(), center=st.floats(-1e20, 1e20))
def test_differences_are_rounded_once(x, center):
    got = wide_integers.subtracted(x[:, :, None], np.full(x.shape[1], center), np.zeros(1))
    for value, difference in zip(x.ravel().tolist(), got.ravel().tolist(), strict=True):
        exact = value - Fraction(center)
        assert abs(Fraction(difference) - exact) <= abs(exact) / 2**52
        if abs(value) <= 2**53:
            assert difference == float(value) - center


# -- beside other columns, and constants ---------------------------------------------------------


def frames(library: str) -> list[object]:
    """Frames and arrays that hold clocks beside other numbers, so that all become float64."""
    clock, other = CLOCK + np.arange(6), np.arange(6) * 1.5
    if library == "numpy":
        table = np.empty((6, 2), dtype=object)
        table[:, 0], table[:, 1] = clock.tolist(), other.tolist()
        return [table, np.asfortranarray(table)]
    found = pytest.importorskip(library)
    if library == "pyarrow":
        return [found.table({"clock": clock, "other": other})]
    frame = found.DataFrame({"clock": clock, "other": other})
    if library == "polars":
        return [frame, frame.with_columns(found.col("clock").cast(found.UInt64))]
    missing = frame.astype({"clock": "Int64"})
    missing.iloc[2, 0] = None
    return [frame, frame.astype({"clock": "Int64"}), frame.astype({"clock": "UInt64"}), missing]


@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "pyarrow"])
@pytest.mark.parametrize(
    "make", [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler, MaxAbsScaler]
)
def test_clocks_beside_other_columns_are_refused_by_name(library: str, make: type) -> None:
    for table in frames(library):
        where = "column 0 of X" if library == "numpy" else "column 'clock' of X"
        with pytest.raises(ValueError, match=f"{where} holds integers beyond"):
            make().fit(table)


def test_wide_integers_far_apart_are_taken_beside_other_columns() -> None:
    pd = pytest.importorskip("pandas")
    keys = np.array([2**62 + 1, -(2**61) - 1, 2**60 + 3, 5])
    frame = pd.DataFrame({"key": keys, "other": [0.5, 1.5, 2.5, 3.0]})
    y = nc.StandardScaler().fit_transform(frame)
    expected = (keys.astype(float) - keys.astype(float).mean()) / keys.astype(float).std()
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-12)


def test_constant_wide_integers_map_to_zero_where_their_mean_is_exact() -> None:
    x = np.array([[2**60 + 1, i] for i in range(5)])
    scaler = nc.StandardScaler().fit(x)
    assert scaler.transform(x)[:, 0].tolist() == [0.0] * 5
    assert scaler.transform(x + 5)[:, 0].tolist() == [5.0] * 5


def test_moments_pickled_before_they_told_wide_channels_apart_go_on() -> None:
    moments = nc.functional.moments(RNG.normal(size=(5, 2)), channel_axis=1)
    old = nc.Moments.__new__(nc.Moments)
    old.__setstate__((None, {"parts": moments.parts}))
    assert old.wide is None
    assert old.merge(moments) == moments.merge(moments)
    assert pickle.loads(pickle.dumps(old)) == moments
