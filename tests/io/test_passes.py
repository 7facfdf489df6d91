"""Passes over a table: what is kept between them, what scalers learn, and limits of memory."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_passes import (
    MIDDLE,
    NAMES,
    RNG,
    ROWS,
    SMALL,
    TABLE,
    Once,
    X,
    of_names,
    reader,
)

import normcore as nc
from normcore.io import (
    fit_source,
    fit_transform_source,
    transform_source,
)
from normcore.io.streaming import spool

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


# -- one decoding ------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_limit", [1, SMALL, MIDDLE, 512 << 20])
@pytest.mark.parametrize("make", [nc.StandardScaler, nc.MinMaxScaler])
def test_what_can_be_read_once_is_fitted_and_transformed(make, memory_limit, tmp_path):
    out = tmp_path / "out.parquet"
    scaler = make()
    report = fit_transform_source(
        reader(), out, scaler, columns=NAMES, memory_limit=memory_limit, batch_rows=100
    )
    result = pq.read_table(out)
    assert report.before.num_rows == report.after.num_rows == result.num_rows == ROWS
    expected = make().fit(X)
    np.testing.assert_array_max_ulp(scaler.scale_, expected.scale_, 4)
    frame = pytest.importorskip("pandas").DataFrame(X, columns=NAMES)
    assert np.array_equal(of_names(result), scaler.transform(frame), equal_nan=True)
    assert result["a"].null_count == TABLE["a"].null_count
    assert result.select(["text", "whole"]).equals(TABLE.select(["text", "whole"]))
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_nothing_but_what_memory_does_not_hold_goes_to_disk(tmp_path, monkeypatch):
    written = []

    class Counting(spool._File):
        def write(self, batch):
            written.append(batch.first_row)
            super().write(batch)

    monkeypatch.setattr(spool, "_File", Counting)
    for memory_limit in (512 << 20, MIDDLE, SMALL):
        fit_transform_source(
            reader(100), tmp_path / "out.parquet", nc.MinMaxScaler(), columns=NAMES,
            memory_limit=memory_limit,
        )  # fmt: skip
        written.append(None)
    whole, some, all_ = ("".join("x" if w is not None else " " for w in written)).split(" ")[:3]
    assert (len(whole), len(all_)) == (0, 30)
    assert 0 < len(some) < 30


def test_the_temporary_file_is_gone_after_an_error(tmp_path):
    def fail(state):
        if state.step == "transform":
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit_transform_source(
            reader(), tmp_path / "out.csv", nc.MinMaxScaler(), memory_limit=SMALL, progress=fail
        )
    assert os.listdir(tmp_path) == []


def test_a_disk_without_room(tmp_path, monkeypatch):
    class Full(spool._File):
        def write(self, batch):
            self._sink.close()
            self._sink = pa.OSFile("/dev/full", "wb")
            for _ in range(100):
                super().write(batch)

    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is full")
    monkeypatch.setattr(spool, "_File", Full)
    with pytest.raises(OSError, match=r"temporary file of the table.*No space left") as caught:
        fit_transform_source(reader(), tmp_path / "out.csv", nc.MinMaxScaler(), memory_limit=SMALL)
    assert caught.value.filename == str(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("memory_limit", [SMALL, 512 << 20])
def test_slow_sources_are_read_once(memory_limit, tmp_path):
    source = Once()
    out = tmp_path / "out.npy"
    fit_transform_source(source, out, nc.MinMaxScaler(), memory_limit=memory_limit)
    assert source.passes == 1
    assert np.array_equal(np.load(out)[:, 0], np.arange(1000) / 999)


@pytest.mark.parametrize("memory_limit", [SMALL, 512 << 20])
def test_types_that_are_known_at_the_end_are_waited_for(memory_limit, tmp_path):
    source, steps = Once(settled=False), []
    scaler = nc.MinMaxScaler().fit(np.array([[0.0, -999.0], [999.0, 0.0]]))
    out = tmp_path / "out.npy"
    transform_source(
        source, out, scaler, memory_limit=memory_limit, progress=lambda s: steps.append(s.step)
    )
    assert source.passes == 1
    assert sorted(set(steps)) == ["read", "transform"]
    assert np.array_equal(np.load(out)[:, 0], np.arange(1000) / 999)


# -- equal to a fit in memory ------------------------------------------------------------------

NUMBERS = st.one_of(
    st.floats(-1e6, 1e6), st.just(np.nan), st.floats(allow_infinity=False, width=32)
)


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    columns=st.lists(st.lists(NUMBERS, min_size=30, max_size=30), min_size=1, max_size=4),
    batch_rows=st.integers(1, 40),
    memory_limit=st.sampled_from([1, 5000, 512 << 20]),
    make=st.sampled_from([nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler]),
    once=st.booleans(),
)
def test_files_teach_what_arrays_teach(data, columns, batch_rows, memory_limit, make, once):
    x = np.array(columns).T
    names = [f"x{i}" for i in range(x.shape[1])]
    order = data.draw(st.permutations(names))
    table = pa.table({name: x[:, names.index(name)] for name in order})
    if make is nc.RobustScaler:
        memory_limit = 512 << 20
    taken = []
    scaler = make()
    report = fit_transform_source(
        table.to_reader(7) if once else table, taken.append, scaler,
        columns=names, batch_rows=batch_rows, memory_limit=memory_limit,
    )  # fmt: skip
    whole = make().fit(x)
    if make is nc.StandardScaler:
        np.testing.assert_array_max_ulp(scaler.mean_, whole.mean_, 1)
        np.testing.assert_array_max_ulp(scaler.scale_, whole.scale_, 4)
    else:
        for name in ("scale_", "data_min_", "data_max_", "center_"):
            if hasattr(whole, name):
                assert np.array_equal(getattr(scaler, name), getattr(whole, name), equal_nan=True)
    assert np.array_equal(report.before.count, (~np.isnan(x)).sum(0))
    assert np.array_equal(report.before.extrema.max, np.fmax.reduce(x), equal_nan=True)
    result = pa.Table.from_batches(taken)
    assert result.column_names == list(order)
    y = np.column_stack([result[name].to_numpy() for name in names])
    frame = pytest.importorskip("pandas").DataFrame(x, columns=names)
    assert np.array_equal(y, scaler.transform(frame), equal_nan=True)


def test_a_long_batch_is_observed_column_by_column():
    x = RNG.normal(1000, 100, (100_000, 5)).astype("f2").astype("f8")
    x[:, 3] = x[:, 3].round()
    x[::7, 4] = np.nan
    table = pa.table(
        {
            "a": x[:, 0],
            "b": x[:, 1].astype("f4"),
            "c": x[:, 2].astype("f2"),
            "d": x[:, 3].astype("i4"),
            "e": pa.array(x[:, 4], from_pandas=True),
        }
    )
    scaler = nc.StandardScaler()
    report = fit_source(table, scaler, batch_rows=50_000)
    whole = nc.StandardScaler().fit(x)
    np.testing.assert_array_max_ulp(scaler.mean_, whole.mean_, 1)
    np.testing.assert_array_max_ulp(scaler.scale_, whole.scale_, 4)
    assert np.array_equal(report.before.extrema.min, np.nanmin(x, 0))
    assert report.before.num_missing.tolist() == [0, 0, 0, 0, len(x[::7])]


@pytest.mark.parametrize("rows", [100, 50_000])
def test_the_first_infinity_is_named(rows):
    x = np.zeros((rows, 3))
    x[90:, 1], x[80, 2] = np.inf, -np.inf
    message = "pyarrow Table: column 'c' holds -infinity, first in row 81 of the data"
    with pytest.raises(ValueError, match=message):
        fit_source(pa.table(dict(zip("abc", x.T, strict=True))), nc.MinMaxScaler())


def test_scalers_with_a_fit_of_their_own_see_the_values(tmp_path):
    class Logarithmic(nc.StandardScaler):
        def partial_fit(self, X, y=None, sample_weight=None):
            return super().partial_fit(np.log(X.to_numpy()))

        def fit(self, X, y=None, sample_weight=None):
            return super().fit(np.log(X.to_numpy()))

    x = RNG.uniform(1, 10, (5000, 1))
    scaler = Logarithmic()
    fit_source(pa.table({"x": x[:, 0]}), scaler, batch_rows=100)
    np.testing.assert_array_max_ulp(scaler.mean_, nc.StandardScaler().fit(np.log(x)).mean_, 1)


def test_a_scaler_whose_streaming_is_not_exact_sees_everything_at_once():
    seen = []

    class Whole(nc.StandardScaler):
        exact_streaming = False

        def fit(self, X, y=None, sample_weight=None):
            seen.append(X.shape)
            return super().fit(X)

    fit_source(reader(), Whole(), columns=NAMES)
    assert seen == [(ROWS, 3)]


# -- limits of memory --------------------------------------------------------------------------


class AllAtOnce(nc.StandardScaler):
    exact_streaming = False


@pytest.mark.parametrize(
    ("source", "scaler"),
    [(reader, nc.RobustScaler()), (reader, AllAtOnce()), (lambda: TABLE, AllAtOnce())],
)
def test_columns_that_do_not_fit_in_memory(source, scaler):
    with pytest.raises(ValueError, match=r"needs all values.*--memory-limit.*fewer"):
        fit_source(source(), scaler, memory_limit=50_000)
    assert not hasattr(scaler, "scale_")


def test_columns_come_before_batches_that_are_kept(tmp_path):
    """Both do not fit, and the batches can wait on disk."""
    scaler = nc.RobustScaler()
    fit_transform_source(
        reader(100), tmp_path / "out.parquet", scaler, columns=NAMES, memory_limit=MIDDLE
    )
    assert np.array_equal(scaler.center_, nc.RobustScaler().fit(X).center_)
    result = pq.read_table(tmp_path / "out.parquet")
    assert result["text"].equals(TABLE["text"])


@pytest.mark.parametrize("memory_limit", [0, -1])
def test_limits_that_make_no_sense(memory_limit):
    with pytest.raises(ValueError, match="memory_limit must be positive"):
        fit_source(TABLE, nc.MinMaxScaler(), memory_limit=memory_limit)
