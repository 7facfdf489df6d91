"""The benchmarks of tables in files, on a few rows."""

import json

import numpy as np
import pytest
from benchmark_package import import_benchmarks
from paths import ROOT

pytest.importorskip("pyarrow")

import_benchmarks()
from benchmarks import storage, table_contestants, table_files, tables  # noqa: E402

FEW = 20_000


def test_every_contestant_is_known():
    names = {name for job in tables.JOBS for name in job.contestants}
    assert names == table_contestants.CONTESTANTS.keys()
    assert all(job.mark is None or job.mark[0] in job.contestants for job in tables.JOBS)
    assert len({(job.label, job.contestants[0]) for job in tables.JOBS}) == len(tables.JOBS)


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # Dask's own
@pytest.mark.parametrize("file", table_files.FILES)
def test_contestants_that_transform_agree(file, tmp_path):
    if file == "wide.csv":
        pytest.skip("no peer transforms it")
    data = table_files.make(file, tmp_path, FEW)
    outputs = {}
    for job in tables.JOBS:
        for name in job.contestants if job.file == file else ():
            if not table_contestants.available(name):
                continue
            output = tmp_path / f"out{len(outputs)}{job.suffix}" if job.suffix else None
            table_contestants.CONTESTANTS[name](data, output)
            if "transform" in name:
                outputs[name, job.suffix] = _first_column(output)
    for x in outputs.values():
        np.testing.assert_allclose(x, next(iter(outputs.values())), rtol=1e-9, atol=1e-12)
        assert abs(x.mean()) < 1e-12


def _first_column(path):
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    return (pc.read_csv if path.suffix == ".csv" else pq.read_table)(path)["x0"].to_numpy()


def test_a_job_is_measured_and_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = next(job for job in tables.JOBS if job.file == "rows.npy")
    measured = tables.measure(job, tmp_path, FEW, repeat=1)
    assert measured.failed == {}
    assert measured.ratio == measured.median("normcore fit") / measured.median("read")
    assert all(peak > 10e6 for peak in measured.peak_bytes.values())
    path = tmp_path / "run.jsonl"
    first = (ROOT / "docs" / "benchmarks.jsonl").read_text(encoding="utf-8").splitlines()[0]
    path.write_text(first + "\n" + json.dumps({"tables": [vars(measured)]}) + "\n")
    assert storage.load(path).tables[0]["job"] == measured.job
