"""Files that Dask's workers open, in Python and on the command line, which ends its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from processes import environment, run_python
from scalers import assert_same

import normcore as nc
from normcore.engines import fit_files

dask = pytest.importorskip("dask")
pd = pytest.importorskip("pandas")
pytest.importorskip("distributed")
DaskEngine = pytest.importorskip("normcore.engines.dask").DaskEngine

SECONDS = 60  # for anything here to end by itself


@pytest.fixture(scope="module")
def folder(X, tmp_path_factory):
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("tables")
    for number, part in enumerate(np.array_split(X, 3)):
        frame = pd.DataFrame(part, columns=list("abcde")).assign(label="text")
        frame.to_parquet(folder / f"part-{number}.parquet", row_group_size=5000)
    return folder


def command(*words, timeout=SECONDS, **options):
    pytest.importorskip("click")
    return run_python("-m", "normcore", *words, check=False, timeout=timeout, **options)


@pytest.mark.parametrize("name", ["standard", "robust", "maxabs"])
def test_workers_open_files_themselves(client, folder, name, tmp_path):
    address = client.scheduler.address
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    plain = command("fit", folder, "--scaler", name, "--save", here)
    done = command(
        "fit", folder, "--scaler", name, "--save", there, "--engine", "dask", "--scheduler", address
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout.replace("here.json", "there.json")
    assert_same(nc.load(there), nc.load(here), 4 if name == "standard" else 0)
    assert np.max(nc.load(there).n_samples_seen_) == 60_000


def test_workers_that_the_command_line_starts(folder, tmp_path):
    saved = tmp_path / "scaler.json"
    done = command("fit", folder, "--scaler", "minmax", "--save", saved, "--engine", "dask")
    assert done.returncode == 0, done.stderr
    assert nc.load(saved).n_samples_seen_ == 60_000


@pytest.mark.parametrize("make", [nc.StandardScaler, nc.RobustScaler])
@pytest.mark.parametrize("workers", [True, False])
def test_progress_counts_pieces_in_each_pass(make, workers, folder, request):
    """By workers it is asked for now and then, so that a short pass is seen to begin and end."""
    scheduler = {} if workers else {"scheduler": "synchronous"}
    if workers:
        request.getfixturevalue("client")
    told = []
    with dask.config.set(scheduler):
        fit_files(folder, scaler := make(), DaskEngine(), progress=told.append)
        fit_files(folder, silent := make(), DaskEngine())
    assert_same(scaler, silent, 0)
    assert {each.step for each in told} == {"fit"}
    whole = [(each.rows, each.bytes) for each in told if each.rows == each.total_rows]
    total = sum(path.stat().st_size for path in folder.iterdir())
    passes = 1 if make is nc.StandardScaler else 2
    assert [each.rows for each in told].count(0) == passes
    assert set(whole) == {(60_000, total)}
    if not workers:
        assert [each.rows for each in told] == [0, 20_000, 40_000, 60_000, 60_000] * passes


def test_a_limit_of_memory(tmp_path):
    """It bounds the states, and changes no bit."""
    path, sizes = tmp_path / "wide.npy", []
    np.save(path, X := np.random.default_rng(0).normal(size=(20_000, 40)))

    class Measured(DaskEngine):
        def finalize(self, task, merged):
            states = super().finalize(task, merged)
            sizes.append(
                sum(array.nbytes for each in states[0].values() for array in each.values())
            )
            return states

    with dask.config.set(scheduler="synchronous"):
        fit_files(path, whole := nc.RobustScaler(), Measured())
        most = max(sizes)
        sizes.clear()
        fit_files(path, scaler := nc.RobustScaler(), Measured(), memory_limit=1 << 20)
        assert max(sizes) < 0.6 * most
        with pytest.raises(ValueError, match="memory_limit must be positive, not 0"):
            fit_files(path, nc.RobustScaler(), DaskEngine(), memory_limit=0)
    assert_same(scaler, whole, 0)
    assert_same(scaler, nc.RobustScaler().fit(X), 0)


@pytest.mark.parametrize("make", [nc.StandardScaler, nc.RobustScaler])
def test_files_without_row_groups(make, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    schema = pa.schema({"a": pa.float64()})
    pq.ParquetWriter(tmp_path / "0.parquet", schema).close()
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(ValueError, match="has columns but no rows; there is nothing to fit to"),
    ):
        fit_files(tmp_path / "0.parquet", make(), DaskEngine())
    pq.write_table(pa.table({"a": [1.0, 2.0, 6.0]}, schema), tmp_path / "1.parquet")
    with dask.config.set(scheduler="synchronous"):
        fit_files(tmp_path, scaler := make(), DaskEngine())
    assert_same(scaler, make().fit(pd.DataFrame({"a": [1.0, 2.0, 6.0]})))


def test_a_scheduler_that_cannot_be_reached(folder, tmp_path):
    saved = tmp_path / "scaler.json"
    start = time.monotonic()
    done = command(
        "fit", folder, "--scaler", "minmax", "--save", saved,
        "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9",
    )  # fmt: skip
    assert time.monotonic() - start < 40
    assert done.returncode == 1
    assert "no scheduler of Dask answers at tcp://127.0.0.1:9 within 10 seconds" in done.stderr
    assert "Traceback" not in done.stderr
    assert not saved.exists()


def test_ctrl_c_ends_the_workers(folder, tmp_path):
    pytest.importorskip("click")
    code = textwrap.dedent(
        f"""
        import sys, time
        if __name__ == "__main__":
            from normcore.engines import dask_runs
            def told(*args):
                print("begun", flush=True)
                time.sleep(60)
            dask_runs.computed = told
            from normcore.cli import main
            sys.argv = ["normcore", "fit", {str(folder)!r}, "--scaler", "minmax", "--save",
                        {str(tmp_path / "s.json")!r}, "--engine", "dask"]
            main()
        """
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, script],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "normcore: error: interrupted"
    stop = time.monotonic() + SECONDS
    while is_alive(process.pid):  # somebody of its group
        assert time.monotonic() < stop
        time.sleep(0.1)


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
