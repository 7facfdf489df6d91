"""Passes over a table that fail, change or end early; progress, and sinks that are objects."""

import os
import threading
from itertools import pairwise

import pytest
from table_passes import (
    NAMES,
    ROWS,
    SMALL,
    TABLE,
    Once,
    X,
    reader,
)

import normcore as nc
from normcore.io import (
    TableWriter,
    fit_source,
    fit_transform_source,
    open_table,
    transform_source,
)

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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
