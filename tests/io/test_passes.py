"""Passes over a table: what is kept between them, what changes, what fails and in which thread."""

import os
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import normcore as nc
from normcore.io import (
    ArrayBatch,
    Field,
    TableSource,
    TableWriter,
    fit_source,
    fit_transform_source,
    open_table,
    transform_source,
)
from normcore.io.streaming import spool

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

RNG = np.random.default_rng(0)
ROWS = 3000
X = RNG.normal([1e7, 0, 1e-6], [1, 1e5, 1e-9], (ROWS, 3))
X[RNG.random(X.shape) < 0.05] = np.nan
TABLE = pa.table(
    {
        "a": pa.array(X[:, 0], from_pandas=True),
        "text": [f"row {i}" for i in range(ROWS)],
        "b": X[:, 1],
        "c": X[:, 2],
        "whole": pa.array(range(ROWS), pa.int64()),
    }
)
NAMES = ["a", "b", "c"]
# Limits of memory with which nothing is kept there, or 100 kB, about three quarters of the table.
SMALL = 1 << 10
MIDDLE = 4 * (18 * (1 << 16) + 100_000)


def reader(batch_rows=256):
    return TABLE.to_reader(batch_rows)


def of_names(table):
    return np.column_stack([table[name].to_numpy(zero_copy_only=False) for name in NAMES])


def threads_of_normcore():
    return [each for each in threading.enumerate() if each.name.startswith("normcore-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not threads_of_normcore()


@pytest.fixture(params=[".csv", ".parquet", ".arrow", ".orc"])
def data(request, tmp_path):
    path = tmp_path / f"data{request.param}"
    identity = nc.StandardScaler(with_mean=False, with_std=False)
    fit_transform_source(TABLE, path, identity, columns=["b"])
    return path


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


class Once(TableSource):
    """A table that counts how often it is read, and learns its types at its end."""

    format = "counted"

    def __init__(self, rows=1000, settled=True):
        self.name, self.num_rows, self.passes, self.rows = "once", None, 0, rows
        self.settled = settled
        self._set_fields([Field("x", np.dtype("f8")), Field("y", np.dtype("f8"))])

    def batches(self, numeric, *, others=True, batch_rows=None):
        self.passes += 1
        for row in range(0, self.rows, 100):
            block = np.arange(row, min(row + 100, self.rows), dtype=float)
            yield ArrayBatch(row, ["x", "y"], np.column_stack([block, -block]))
        self.settled = True

    def restore(self, first_row, data):
        assert self.settled
        return ArrayBatch(first_row, ["x", "y"], np.column_stack([c.to_numpy() for c in data]))


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


@pytest.mark.parametrize("source", [lambda: TABLE, reader])
def test_columns_that_do_not_fit_in_memory(source):
    scaler = nc.RobustScaler()
    with pytest.raises(ValueError, match=r"RobustScaler needs all values.*--memory-limit.*fewer"):
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


# -- what goes wrong ---------------------------------------------------------------------------


class Odd(Exception):
    """Of no library."""


class Failing(Once):
    """Raises in the thread that reads."""

    def batches(self, numeric, *, others=True, batch_rows=None):
        for index, batch in enumerate(super().batches(numeric)):
            if index == 5:
                raise Odd(threading.current_thread().name)
            yield batch


def test_errors_of_the_reading_thread_arrive_as_they_are(tmp_path):
    scaler = nc.MinMaxScaler()
    for run in (
        lambda: fit_source(Failing(), scaler),
        lambda: fit_transform_source(Failing(), tmp_path / "out.csv", scaler),
    ):
        with pytest.raises(Odd, match="normcore-read"):
            run()
    assert not hasattr(scaler, "scale_")
    assert os.listdir(tmp_path) == []


def test_errors_of_the_writing_thread_arrive_as_they_are(tmp_path):
    batches = []

    def take(batch):
        batches.append(batch.num_rows)
        if len(batches) == 3:
            raise Odd(threading.current_thread().name)

    with pytest.raises(Odd, match="normcore-write"):
        fit_transform_source(Once(), take, nc.MinMaxScaler())
    assert len(batches) == 3


@pytest.mark.parametrize("step", ["fit", "transform"])
def test_an_interrupt_leaves_nothing(step, data, tmp_path):
    def interrupt(state):
        if state.step == step and state.rows > 100:
            raise KeyboardInterrupt

    (tmp_path / "out.csv").write_text("precious")
    scaler = nc.StandardScaler()
    with pytest.raises(KeyboardInterrupt):
        fit_transform_source(
            data, tmp_path / "out.csv", scaler, columns=NAMES, batch_rows=50, progress=interrupt
        )
    assert not hasattr(scaler, "scale_")
    assert (tmp_path / "out.csv").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == sorted([data.name, "out.csv"])


def vanish(path):
    path.unlink()


def touch(path):
    os.utime(path, ns=(1, 1))


def replace(path):
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def grow(path):
    with open(path, "ab") as file:
        file.write(b"\n1,2,3,4,5\n")


@pytest.mark.parametrize("memory_limit", [SMALL, 512 << 20])
@pytest.mark.parametrize("change", [vanish, touch, replace, grow])
def test_a_file_that_changes_between_the_passes(change, memory_limit, data, tmp_path):
    changed = []

    def watch(state):
        if state.rows == ROWS and not changed:
            changed.append(change(data))

    scaler = nc.StandardScaler()
    with pytest.raises((ValueError, OSError), match=r"changed|vanished") as caught:
        fit_transform_source(
            data, tmp_path / "out.parquet", scaler, columns=NAMES, batch_rows=500, progress=watch,
            memory_limit=memory_limit,
        )  # fmt: skip
    assert str(data) in str(caught.value)
    assert changed
    assert not hasattr(scaler, "scale_")
    assert not (tmp_path / "out.parquet").exists()


class Shrinking(Once):
    """Has a row less in every pass."""

    kept_in = "nothing"

    def batches(self, numeric, *, others=True, batch_rows=None):
        yield from super().batches(numeric)
        self.rows -= 1


def test_passes_have_the_same_rows(tmp_path):
    with pytest.raises(ValueError, match="once: 999 rows were read, but the pass before had 1,000"):
        fit_transform_source(Shrinking(), tmp_path / "out.csv", nc.MinMaxScaler())
    assert os.listdir(tmp_path) == []


def test_a_writer_that_loses_rows():
    class Losing(TableWriter):
        num_rows = 0

        def write(self, batch):
            type(self).num_rows = 999

        def close(self):
            pass

    from normcore.io.streaming.write_behind import WriteBehind

    behind = WriteBehind(Losing(), 1 << 20)
    for batch in Once().batches(["x"]):
        behind.write(batch)
    with pytest.raises(ValueError, match="999 rows were written of 1,000"):
        behind.finish(1000)


def test_an_output_among_the_files_that_are_read(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(TABLE, folder / "part-0.parquet")
    for out in (folder / "part-0.parquet", folder / "out.parquet"):
        with pytest.raises(ValueError, match=r"the input too|would lie in"):
            fit_transform_source(folder, out, nc.MinMaxScaler(), columns=NAMES)
    with pytest.raises(ValueError, match="another output too"):
        fit_transform_source(
            folder, tmp_path / "out.csv", nc.MinMaxScaler(), save=tmp_path / "out.csv"
        )


# -- progress and sinks ------------------------------------------------------------------------


def test_progress_is_told_in_the_thread_of_the_caller(data, tmp_path):
    states, threads = [], set()

    def watch(state):
        states.append(state)
        threads.add(threading.current_thread())

    fit_transform_source(
        data, tmp_path / "out.arrow", nc.MinMaxScaler(), columns=NAMES, batch_rows=700,
        progress=watch,
    )  # fmt: skip
    assert threads == {threading.current_thread()}
    for step in ("fit", "transform"):
        mine = [state for state in states if state.step == step]
        assert mine[-1].rows == ROWS
        assert len(mine) >= 5
        for before, after in pairwise(mine):
            assert after.rows > before.rows
            assert before.bytes <= after.bytes <= after.total_bytes == data.stat().st_size
    assert states[-1].total_rows == ROWS


def test_progress_of_a_stream_has_no_totals():
    states = []
    fit_source(reader(), nc.MinMaxScaler(), columns=NAMES, progress=states.append)
    assert {(state.total_rows, state.total_bytes) for state in states} == {(None, None)}
    assert states[-1].rows == ROWS


def test_writers_of_pyarrow_stay_open(tmp_path):
    scaler = nc.MinMaxScaler()
    fit_source(TABLE, scaler, columns=["b"])
    with pa.ipc.new_file(str(tmp_path / "out.arrow"), TABLE.schema) as writer:
        transform_source(TABLE, writer, scaler)
        transform_source(TABLE, writer, scaler, inverse=True)
    with pa.ipc.open_file(tmp_path / "out.arrow") as file:
        assert file.read_all().num_rows == 2 * ROWS


def test_objects_that_are_no_sink_or_source():
    with pytest.raises(TypeError, match="cannot write a table to int"):
        transform_source(TABLE, 3, nc.MinMaxScaler().fit(X))
    with pytest.raises(TypeError, match="cannot read a table from int"):
        open_table(3)
