"""Dask's worker processes, real ones on this machine: what they find, and what ends them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from scalers import assert_same

import normcore as nc
from normcore.engines.task import ObserveTask

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")
pytest.importorskip("distributed")
DaskEngine = pytest.importorskip("normcore.engines.dask").DaskEngine

SECONDS = 60  # for anything here to end by itself


@pytest.mark.parametrize(
    ("make", "ulp"),
    [
        (nc.StandardScaler, 4),
        (nc.MinMaxScaler, 0),
        (nc.MaxAbsScaler, 0),
        (nc.RobustScaler, 0),
        (lambda: nc.RobustScaler(quantile_range=(1, 90), keep_sketch=True), 0),
    ],
)
@pytest.mark.usefixtures("client")
def test_the_fit_is_that_of_memory(make, ulp, X):
    whole = make().fit(X)
    for chunks in ((7000, 5), (20_000, 2)):
        lazy = da.from_array(X, chunks=chunks)
        scaler = make().fit(lazy)
        assert_same(scaler, whole, ulp)
        np.testing.assert_array_equal(scaler.transform(lazy), scaler.transform(X))
    # In any tree of merging, as often as one likes: the same bits.
    again = make().fit(lazy)
    assert_same(again, scaler, 0)


@pytest.mark.usefixtures("client")
def test_weighted_quantiles_have_the_bits_of_memory(X):
    for weights in (np.arange(len(X)) % 4, np.random.default_rng(1).random(len(X))):
        expected = nc.RobustScaler().fit(X, sample_weight=weights)
        for chunks in ((7000, 5), (20_000, 2)):
            lazy = da.from_array(X, chunks=chunks)
            assert_same(nc.RobustScaler().fit(lazy, sample_weight=weights), expected, 0)


def test_futures_and_frames(client, X):
    futures = client.scatter(list(np.array_split(X, 5)))
    assert_same(nc.RobustScaler().fit(futures), nc.RobustScaler().fit(X), 0)
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcde")), npartitions=6)
    scaler = nc.MinMaxScaler().fit(frame)
    assert scaler.transform(frame).max().max().compute() <= 1


def test_a_worker_that_is_killed_changes_nothing(client, X, tmp_path):
    """Its pieces are observed again, by whoever is left or comes after."""
    begun = tmp_path / "begun"

    def slowly(block, block_id=None):
        import os
        import time

        if block_id is not None:
            with open(begun, "a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.1)
        return block

    lazy = da.from_array(X, chunks=(2000, 5)).map_blocks(slowly, dtype=X.dtype)
    killer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import os, signal, time
                path = {str(begun)!r}
                while not os.path.exists(path) or len(open(path).read().split()) < 8:
                    time.sleep(0.02)
                victim = int(open(path).read().split()[-1])
                os.kill(victim, signal.SIGKILL)
                print(victim)
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    scaler = nc.RobustScaler().fit(lazy)
    victim = int(killer.communicate(timeout=SECONDS)[0])
    assert victim in map(int, begun.read_text().split())
    assert_same(scaler, nc.RobustScaler().fit(X), 0)
    client.wait_for_workers(2, timeout=SECONDS)
    pids = client.run(os.getpid).values()
    assert victim not in pids


def test_a_chunk_that_raises_is_named(client, X):
    def spoil(block, block_id=None):
        if block_id == (3, 0):
            raise OSError("disk on fire")
        return block

    lazy = da.from_array(X, chunks=(4000, 5)).map_blocks(spoil, dtype=X.dtype)
    scaler = nc.StandardScaler().fit(X)
    before = dict(vars(scaler))
    with pytest.raises(RuntimeError, match=r"^chunk \(3, 0\) of X: OSError: disk on fire"):
        scaler.fit(lazy)
    assert vars(scaler) == before
    spoiled = X.copy()
    spoiled[9000, 1] = -np.inf
    with pytest.raises(ValueError, match=r"^chunk \(2, 0\) of X: .* column 1, first at row 1000"):
        nc.RobustScaler().fit(da.from_array(spoiled, chunks=(4000, 5)))
    wait_for_rest(client)


def test_a_worker_that_runs_out_of_memory(client):
    def greedy(block, block_id=None):
        import os
        import signal

        if block_id == (1, 0):
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does
        return block

    lazy = da.ones((40, 2), chunks=(10, 2)).map_blocks(greedy, dtype=float)

    def allow(number):
        client.run_on_scheduler(
            lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", number)
        )

    allow(0)
    with pytest.raises(MemoryError, match=r"chunk \(.*\) of X: the workers that took it ended"):
        nc.StandardScaler().fit(lazy)
    allow(3)
    client.wait_for_workers(2, timeout=SECONDS)


def test_interruption_releases_the_workers(client, tmp_path):
    begun = tmp_path / "begun"

    def slowly(block, block_id=None):
        import time

        if block_id is not None:
            begun.touch()
            time.sleep(0.5)
        return block

    lazy = da.ones((1000, 2), chunks=(10, 2)).map_blocks(slowly, dtype=float)
    killer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, signal, time\nwhile not os.path.exists({str(begun)!r}):\n"
            f"    time.sleep(0.02)\ntime.sleep(0.3)\nos.kill({os.getpid()}, signal.SIGINT)",
        ]
    )
    scaler = nc.StandardScaler()
    with pytest.raises(KeyboardInterrupt):
        scaler.fit(lazy)
    killer.wait(timeout=SECONDS)
    assert not hasattr(scaler, "mean_")
    wait_for_rest(client)


def num_tasks(client, *states):
    """Return how many tasks the scheduler has, of all states or of these."""

    def count(dask_scheduler):
        return sum(not states or each.state in states for each in dask_scheduler.tasks.values())

    return client.run_on_scheduler(count)


def wait_for_rest(client):
    """Wait until there is nothing left to do: a hundred chunks of half a second are not done."""
    stop = time.monotonic() + 15
    while num_tasks(client, "waiting", "processing", "queued", "no-worker"):
        assert time.monotonic() < stop
        time.sleep(0.1)


def test_states_are_forgotten_when_they_are_merged(client):
    before = num_tasks(client)
    lazy = da.random.default_rng(0).normal(size=(64_000, 4), chunks=(1000, 4))
    nc.RobustScaler().fit(lazy)
    stop = time.monotonic() + 15
    while num_tasks(client) > before:
        assert time.monotonic() < stop
        time.sleep(0.1)


def test_more_than_all_workers_hold(client):
    """Partitions are observed where they are made, and Arrow keeps nothing of them for itself."""
    pytest.importorskip("pyarrow")
    number, rows, columns = 14, 2_000_000, 10  # 160 MB each

    @dask.delayed
    def partition(number):
        import pyarrow as pa
        import pyarrow.compute as pc

        values = pa.array(np.linspace(0.0, 1.0, rows) + number)
        return pa.table({f"x{i}": pc.add(values, float(i)) for i in range(columns)}).to_pandas()

    def resident():
        import psutil

        return psutil.Process().memory_info().rss

    nc.MinMaxScaler().fit([partition(0), partition(1)])
    before = client.run(resident)
    scaler = nc.MinMaxScaler().fit([partition(i) for i in range(number)])
    assert number * rows * columns * 8 > 2 << 30
    np.testing.assert_array_equal(scaler.data_max_, np.arange(columns) + number)
    after = client.run(resident)
    assert after.keys() == before.keys()  # none has ended
    assert max(after.values()) < 700e6


def test_chunks_are_made_by_the_tasks_that_observe_them():
    engine, task = DaskEngine(), ObserveTask(nc.StandardScaler(), None, 2)
    lazy = da.random.default_rng(0).normal(size=(100, 2), chunks=(10, 2)) + 1
    items = [dask.delayed(np.add)(dask.delayed(np.ones)((3, 2)), 1.0) for _ in range(10)]
    for data in (lazy, items):
        assert len(engine.partial(task, data).graph) == 10 + 1  # and the task itself
    shared = dask.delayed(np.ones)((3, 2))
    data = [shared, shared, shared + 1, dask.delayed(np.negative)(shared)]
    assert shared.key in engine.partial(task, data).graph
    with dask.config.set(scheduler="synchronous"):
        (found,) = engine.run(task, data)
        assert found["rows"]["seen"] == 12
        assert nc.StandardScaler().fit(items).mean_.tolist() == [2.0, 2.0]


def test_progress_of_slow_pieces(client, tmp_path):
    """It grows while the workers work, and is not what is asked for when they have not begun."""
    engine, told = DaskEngine(), []
    engine.watch = told.append

    def slowly(block):
        import time

        time.sleep(0.25)
        return block

    lazy = da.ones((12, 2), chunks=(1, 2)).map_blocks(slowly, meta=np.empty((0, 2)))
    engine.run(ObserveTask(nc.StandardScaler(), None, 2), lazy)
    assert told == sorted(told)
    assert len(set(told)) > 2
    assert 0 < max(told) <= 12
