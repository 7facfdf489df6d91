"""The base of pointwise scalers: maps in blocks, in threads, in place."""

import tracemalloc

import numpy as np
import pytest
from libraries import library

import normcore as nc

ROWS = 50_021


class Cube(nc.PointwiseScaler):
    """Odd, increasing, of one sign, so that the root is its inverse."""

    def forward(self, xp, x):
        return x * x * x

    def inverse(self, xp, x):
        return xp.cbrt(x)

    def check_domain(self, xp, x, inverse):
        if not inverse and bool(xp.any(x > 100)):
            raise ValueError("too large")


def table(dtype, layout="C"):
    X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(dtype)
    if layout == "sliced":
        parent = np.zeros((2 * ROWS, 4), dtype)
        parent[::2, :3] = X
        return parent[::2, :3]
    return np.asarray(X, order=layout)


@pytest.mark.parametrize("layout", ["C", "F", "sliced"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i8"])
def test_blocks_are_the_whole_and_threads_do_not_matter(dtype, layout):
    X = (table("f8", layout) * 5).astype(dtype)
    values = X.astype(np.float64)
    expected = values * values * values
    if X.dtype.kind == "f":
        expected = expected.astype(X.dtype.newbyteorder("="))
    scaler = Cube().fit(X)
    for number in (1, 2, 5):
        with nc.use_num_threads(number):
            result = scaler.transform(X)
            assert result.dtype == expected.dtype
            np.testing.assert_array_equal(result, expected)
            out = np.empty_like(expected)
            assert scaler.transform(X, out=out) is out
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_in_place(dtype):
    X = table(dtype, "sliced")
    expected = Cube().fit(X).transform(X)
    scaler = Cube(copy=False).fit(X)
    assert scaler.transform(X) is X
    np.testing.assert_array_equal(X, expected)
    back = scaler.inverse_transform(X)
    assert back is X
    np.testing.assert_allclose(X, table(dtype), rtol=1e-6)


@pytest.mark.parametrize(("bad", "message"), [(np.inf, "infinity: column 2, first at row 50000"),
                                              (101.0, "too large")])  # fmt: skip
def test_what_is_refused_leaves_the_data_as_they_were(bad, message):
    scaler = Cube(copy=False).fit(table("f8"))
    X = table("f8")
    X[50_000, 2] = bad
    before = X.copy()
    with pytest.raises(ValueError, match=message):
        scaler.transform(X)
    np.testing.assert_array_equal(X, before)


def test_an_out_that_overlaps_in_part_is_refused():
    parent = np.zeros((ROWS + 1, 3))
    scaler = Cube().fit(parent)
    with pytest.raises(ValueError, match="overlaps the input in part"):
        scaler.transform(parent[1:], out=parent[:-1])


@pytest.mark.parametrize("case", ["plain", "F", "int64", "in place", "where", "axis"])
def test_temporaries_stay_small(case):
    X = np.zeros((1_000_000, 4), np.int64 if case == "int64" else np.float32)
    scaler, options = Cube(), {}
    if case == "F":
        X = np.asfortranarray(X)
    elif case == "where":
        options["where"] = np.random.default_rng(0).random(X.shape) < 0.5
    elif case == "axis":
        scaler, X = Cube(axis=1), X.reshape(10_000, 4, 100)
    out = X if case == "in place" else np.empty_like(X, dtype=np.result_type(X, np.float32))
    scaler.fit(X)
    tracemalloc.start()
    try:
        scaler.transform(X, out=out, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (10 << 20 if case == "axis" else 4 << 20)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8"])
@pytest.mark.parametrize("place", ["fresh", "out", "in place"])
def test_what_a_mask_hides_stays_bit_for_bit(dtype, place):
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(ROWS, 3)) * 5).astype(dtype)
    hidden = rng.random(X.shape) < 0.3
    if dtype != "i8":
        bits = X.view(f"u{X.itemsize}")
        bits[hidden] = rng.integers(0, 2 ** (8 * X.itemsize - 1), hidden.sum(), np.uint64)
    before = X.copy()
    expected = Cube().fit(np.where(hidden, 1, X)).transform(np.where(hidden, 1, X))
    expected = np.where(hidden, X, expected)
    scaler = Cube().fit(X, where=~hidden)
    if place == "fresh":
        result = scaler.transform(X, where=~hidden)
    else:
        out = X if place == "in place" and dtype != "i8" else np.empty_like(expected)
        result = scaler.transform(X, where=~hidden, out=out)
    assert result.dtype == expected.dtype
    assert result.tobytes() == expected.tobytes()
    if place != "in place":
        assert X.tobytes() == before.tobytes()


def test_the_callers_errstate_holds_in_every_thread():
    class Log(nc.PointwiseScaler):
        def forward(self, xp, x):
            return xp.log(x)

        def inverse(self, xp, x):
            return xp.exp(x)

    X = np.zeros((ROWS, 3))
    scaler = Log().fit(X)
    with np.errstate(divide="ignore"), nc.use_num_threads(4):
        assert np.isneginf(scaler.transform(X)).all()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        scaler.transform(X)


def test_a_map_cannot_write_into_the_users_data():
    class Careless(Cube):
        def forward(self, xp, x):
            x *= 2.0
            return x

    X = table("f8")
    scaler = Careless().fit(X)
    with pytest.raises(ValueError, match="read-only"):
        scaler.transform(X)


@pytest.mark.parametrize(
    "scaler",
    [Cube(), nc.QuantileTransformer(n_quantiles=4), nc.PowerTransformer()],
    ids=lambda scaler: type(scaler).__name__,
)
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_that_float64_cannot_tell_apart_are_refused(scaler, dtype):
    wide = np.array([0, 100, 200, 300]) + 1_700_000_000_000_000_000
    X = np.column_stack([np.arange(4), wide]).astype(dtype)
    for table in (X, np.asfortranarray(X), X[::-1]):
        with pytest.raises(ValueError, match=r"column 1 holds integers beyond 2\*\*53"):
            scaler.fit(table)
    spread = np.array([0, 1, 2, 3]) * 10**17  # whose last digits do not matter
    scaler.fit((X + np.column_stack([np.zeros(4), spread]).astype(dtype)).astype(dtype))


class Exponential(nc.PointwiseScaler):
    """Says of finite values too that they are infinite, where the map of them is."""

    def forward(self, xp, x):
        if bool(xp.any(x > 700)):
            raise nc.InfiniteInput
        return xp.exp(x)

    def inverse(self, xp, x):
        return xp.log(x)


@pytest.mark.parametrize("rows", [2, 40_000])
@pytest.mark.parametrize("name", ["reference", "strict", "torch"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_a_value_too_large_for_the_map_is_named(name, rows, dtype, monkeypatch):
    values = np.ones((rows, 3), dtype)
    values[rows - 1] = 1, 800, 900
    with library(name, monkeypatch) as known:
        x = known.native(values)
        scaler = Exponential(backend=known.backend).fit(x)
        message = rf"Exponential\.forward takes .*800\.0 in column 1, first at row {rows - 1}$"
        with pytest.raises(nc.InfiniteInput, match=message):
            scaler.transform(x)


def test_a_value_too_large_is_named_in_frames_and_in_place():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 800.0]})
    scaler = Exponential().fit(frame)
    with pytest.raises(nc.InfiniteInput, match=r"in column 'b' \(index 1\), first at row 1$"):
        scaler.transform(frame)
    values = frame.to_numpy(copy=True)
    for options in ({"out": values}, {"where": values > 1}):  # by whose map alone
        with pytest.raises(nc.InfiniteInput, match=r"Exponential\.forward takes no value"):
            Exponential().fit(values).transform(values, **options)
    values[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity: column 0, first at row 0"):
        Exponential().fit([[1.0, 2.0]]).transform(values)
