"""Two workers of a gibibyte each fit 6 GB: a minute or more, by ``tox -e large``."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from dask_workers import two_workers
from scalers import assert_same

import normcore as nc
from normcore.engines import fit_files

pytestmark = pytest.mark.skipif("NORMCORE_LARGE" not in os.environ, reason="tox -e large")

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS, COLUMNS = 75_000_000, 10
GROUP_ROWS = 1 << 20


@pytest.fixture
def client():
    with two_workers() as client:
        yield client


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "table.parquet"
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(COLUMNS)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, ROWS, GROUP_ROWS):
            rows = min(GROUP_ROWS, ROWS - start)
            table = pa.table({name: rng.normal(3.0, 2.0, rows) for name in names}, schema)
            writer.write_table(table, row_group_size=rows)
    assert path.stat().st_size > 6e9
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def here(path):
    nc.fit_source(path, scaler := nc.RobustScaler())
    return scaler


def measured(client, what, fit):
    def peak():
        with open("/proc/self/status") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmHWM"].split()[0]) << 10

    before = client.run(os.getpid)
    start = time.perf_counter()
    scaler = fit()
    seconds = time.perf_counter() - start
    peaks = client.run(peak)
    print(f"{what}: {seconds:.0f} s, {max(peaks.values()) / 2**20:.0f} MiB", flush=True)
    assert client.run(os.getpid) == before  # no worker has ended
    assert max(peaks.values()) < 1 << 30
    assert scaler.quantile_error_ == 0
    return scaler


def test_files_that_workers_open(client, path, here):
    from normcore.engines.dask import DaskEngine

    def fit():
        fit_files(path, scaler := nc.RobustScaler(), DaskEngine())
        return scaler

    assert_same(measured(client, "files", fit), here, 0)


def test_a_frame(client, path, here):
    scaler = measured(client, "frame", lambda: nc.RobustScaler().fit(dd.read_parquet(path)))
    assert_same(scaler, here, 0)


def test_an_array_that_is_drawn_when_it_is_observed(client):
    lazy = da.random.default_rng(0).normal(3.0, 2.0, size=(ROWS, COLUMNS), chunks=(500_000, 10))
    assert lazy.nbytes == 6e9
    scaler = measured(client, "array", lambda: nc.RobustScaler().fit(lazy))
    np.testing.assert_allclose(scaler.center_, 3.0, atol=3e-3)
    np.testing.assert_allclose(scaler.scale_, 2.698, atol=3e-3)
