"""What benchmarks/gpu does on a device, done on the emulated one: all of it runs."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import unwrap
from normcore_cupy import compiler, device, probe
from paths import ROOT
from processes import environment

pytestmark = build.needs_compiler

DEFINES = {"NC_T": "float", "NC_OUT": "float"}
JOBS = {
    "copy", "moments", "extrema", "rescale", "fit", "fit range", "quartiles", "fit from the host",
    "forward", "backward", "layer norm", "layer norm backward",
}  # fmt: skip


@pytest.fixture
def with_fake(tmp_path):
    """An environment in which `python3` has the fake CuPy, and a compute-sanitizer is there."""
    programs = {
        "python": f'exec "{sys.executable}" -P -W ignore -m cuda_host.on_fake "$@"',
        # --tool name --error-exitcode 9 program...
        "compute-sanitizer": 'echo "$2"; [ "$2" = memcheck ] && exit 9; shift 4; exec "$@"',
    }
    for name, line in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    # INSTALLED: the normcore that this process has, whether of the tree or installed.
    return environment(
        INSTALLED="1",
        PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        PYTHON=str(tmp_path / "bin" / "python"),
        QUICK="1",
    )


def run(with_fake, results, **more):
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), str(results)],
        env=with_fake | more, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_the_command_measures(with_fake, tmp_path):
    results = tmp_path / "results"
    done = run(with_fake, results, STEPS="table profile")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((results / "quick.json").read_text())
    assert report["machine"]["device"] == "emulated"
    assert {row["job"] for row in report["rows"]} == JOBS
    measured = {(row["job"], row["library"]) for row in report["rows"]}
    assert measured >= {
        (job, "cupy") for job in ("moments", "extrema", "rescale", "quartiles", "forward")
    }
    assert not {each["met"] for each in report["targets"]} & {True, False}  # all is too small
    assert set(report["launches"]) == {
        "moments", "extrema", "rescale", "forward", "backward", "quartiles",
    }  # fmt: skip
    # The fake is not all of CuPy: scikit-learn, which looks closely, alone may fail on it.
    good = [row for row in report["rows"] if row["error"] is None]
    assert all(row["milliseconds"] > 0 for row in good)
    assert {row["library"] for row in report["rows"] if row not in good} <= {"scikit-learn"}
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("everything that ran passed; results are in ")
    chart = next(line for line in lines if line.startswith("chart: "))
    if "not drawn" not in chart:
        assert (results / "quick.png").read_bytes()[:4] == b"\x89PNG"
    kernels = (results / "kernels.txt").read_text()
    assert "forward, normcore, 4x3x8x8 float32:\n" in kernels
    assert " us  rescale" in kernels
    assert len(list(results.iterdir())) <= 8


def test_the_command_looks_for_races_and_bad_accesses(with_fake, tmp_path):
    """One tool after another, also after one that finds something; and the exit tells of it."""
    done = run(with_fake, tmp_path / "results", STEPS="sanitize dance", SANITIZE_SECONDS="280")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "there is no step dance" in done.stderr
    assert done.stdout.splitlines()[-1] == "FAILED: memcheck dance"
    log = (tmp_path / "results" / "gpu.log").read_text()
    assert "racecheck\n35 cases\n" in log


@pytest.mark.parametrize(("limit", "end"), [("100", "FAILED: tests"), ("1", "OUT OF TIME: tests")])
def test_the_command_tests(with_fake, tmp_path, limit, end):
    """The suite is imported whole; what is run here is what no other test runs."""
    laws = "adopt_and_release or every_dtype or host_agree or (OnDevice and rescale_in_place)"
    done = run(with_fake, tmp_path, STEPS="tests", TESTS=laws, TESTS_SECONDS=limit)
    if limit == "1":
        assert end in done.stdout
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        assert "failed" not in done.stdout


def test_without_a_device_the_command_says_so(with_fake, tmp_path):
    if probe._loads("libcuda.so.1"):
        pytest.skip("there is a driver")
    done = run(with_fake, tmp_path / "results", PYTHON=sys.executable)
    assert done.returncode == 1
    assert "the backend 'cupy' is not ready: " in done.stdout


# -- part by part --------------------------------------------------------------------------


@pytest.fixture
def torch(gpu, monkeypatch):
    """PyTorch for the CPU in the place of PyTorch for CUDA."""
    torch = pytest.importorskip("torch")

    class OnCpu:
        def __getattr__(self, name):
            return getattr(torch, name)

        def from_dlpack(self, array):
            return torch.from_numpy(unwrap(array))

    monkeypatch.setattr(gpu.common, "cuda_torch", OnCpu)
    for module in (gpu.images, gpu.layers, gpu.modules):
        monkeypatch.setattr(module, "DEVICE", "cpu")


def measured(gpu, case, jobs=None):
    deadline = time.monotonic() + 100
    parent = SimpleNamespace(send=lambda key: None)
    return list(gpu.table.measured(gpu.lane, case, jobs or list(case.jobs[1:]), deadline, parent))


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("number", [0, 4, 6])
def test_pytorch_is_measured_on_the_same_memory(gpu, number):
    """Statistics, batch norm with channels last, and layer norm."""
    case = gpu.cases.cases(quick=True)[number]
    rows = measured(gpu, case)
    assert [row.error for row in rows] == [None] * len(rows)
    assert [(row.job, row.library) for row in rows] == [each[:2] for each in case.jobs]
    libraries = {row.library for row in rows}
    assert libraries >= {"normcore", "torch eager"}
    assert ("normcore.torch" in libraries) == (number > 0)
    buffers = gpu.cases.Buffers(case)
    for tensor, array in zip(buffers.tensors, buffers.x, strict=True):
        assert tensor.numpy().strides == array.strides


@pytest.mark.usefixtures("torch")
def test_modules_of_both_libraries_compute_the_same(gpu):
    case = next(each for each in gpu.cases.cases(quick=True) if each.jobs[1].job == "forward")
    buffers = gpu.cases.Buffers(case)
    results = {each[:2]: each.prepare(buffers)(1) for each in case.jobs}
    for job in ("forward", "backward"):
        theirs, ours = (results[job, library] for library in ("torch eager", "normcore.torch"))
        for one, other in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(
                one.detach().numpy(), other.detach().numpy(), rtol=1e-4, atol=1e-5
            )


def test_buffers_rotate_and_hold_more_than_a_cache(gpu):
    """Large cases have several arrays; none of them works on one alone."""
    for case in gpu.cases.cases(quick=False):
        buffers = gpu.cases.Buffers(case)
        enough = buffers.number * 2 * buffers.num_bytes >= 1 << 28
        assert enough or buffers.number == gpu.cases.MOST_BUFFERS
    seen = []
    timing = gpu.lane.measure(seen.append, 3)
    assert set(seen) == {0, 1, 2}
    assert timing.calls > 3
    assert timing.milliseconds > 0


def test_values_hardly_repeat(gpu):
    """Quantiles of arrays with few values are another job."""
    x = gpu.cases.Buffers(gpu.cases.Case((300_000, 8), "float32", False, ())).x
    values = unwrap(x[0])
    assert len(np.unique(values)) > 0.9 * values.size
    np.testing.assert_allclose([values.mean(), values.std()], [3.0, 1.0], atol=0.01)


def test_the_formula_is_that_of_batch_norm(gpu):
    case = next(each for each in gpu.cases.cases(quick=True) if each.jobs[1].job == "forward")
    buffers = gpu.cases.Buffers(case)
    formula, ours = (
        next(each for each in case.jobs if each[:2] == ("forward", library)).prepare(buffers)
        for library in ("cupy", "normcore")
    )
    expected = unwrap(formula(0)).copy()
    ours(0)
    np.testing.assert_allclose(unwrap(buffers.out[0]), expected, rtol=1e-4, atol=1e-5)


def test_a_job_that_fails_or_takes_its_process_down_does_not_end_the_table(
    gpu, monkeypatch, tmp_path, capfd
):
    Job = gpu.jobs.Job

    def endless(i):
        time.sleep(100)

    jobs = (
        gpu.jobs.COPY,
        Job("one", "peer", 1, lambda buffers: lambda i: 1 / 0),
        Job("two", "peer", 1, lambda buffers: lambda i: os._exit(7)),
        Job("three", "normcore", 1, lambda buffers: 1 / 0),
        Job("four", "peer", 1, lambda buffers: endless),
        Job("five", "peer", 1, lambda buffers: lambda i: None),
    )
    case = gpu.cases.Case((3, 2), "float32", False, jobs)
    monkeypatch.setattr(gpu.table, "cases", lambda quick: [case])
    monkeypatch.setattr(gpu.table, "STALL", 5.0)
    assert gpu.table.main(tmp_path, quick=False, seconds=100.0) == 1  # normcore's own failed
    rows, rest = gpu.rows.read(tmp_path / "gpu.jsonl")
    errors = {row.job: row.error for row in rows}
    assert list(errors) == ["copy", "one", "two", "three", "four", "five"]
    assert errors["copy"] is None
    assert errors["one"] == errors["three"] == "ZeroDivisionError: division by zero"
    assert errors["two"] == "the process ended, exit status 7"
    assert errors["four"].startswith("nothing for 5 s")
    assert errors["five"] is None
    assert math.isfinite(rows[-1].share_of_copy)
    assert set(rest) == {"machine", "launches"}
    assert "1 of normcore's jobs failed, of 6 rows" in capfd.readouterr().out


def test_a_table_out_of_time_keeps_its_rows_and_the_next_run_goes_on(
    gpu, monkeypatch, tmp_path, capfd
):
    def sleeper(i):
        time.sleep(0.3)

    jobs = [gpu.jobs.Job(f"job {i}", "peer", 1, lambda buffers: sleeper) for i in range(3)]
    case = gpu.cases.Case((3, 2), "float32", False, (gpu.jobs.COPY, *jobs))
    monkeypatch.setattr(gpu.table, "cases", lambda quick: [case])
    gpu.common.optional("torch")  # importing it takes of the time
    seen = []
    while not seen or "out of time" in seen[-1]:
        assert gpu.table.main(tmp_path, quick=False, seconds=1.5) == 0
        seen.append(capfd.readouterr().out)
    assert len(seen) > 1
    rows, rest = gpu.rows.read(tmp_path / "gpu.jsonl")
    assert [row.job for row in rows] == ["copy", "job 0", "job 1", "job 2"]
    lines = (tmp_path / "gpu.jsonl").read_text()
    assert [lines.count(f"job {i}") for i in range(3)] == [1, 1, 1]
    assert set(rest) == {"machine", "launches"}


def test_scikit_learn_is_given_what_it_takes(gpu, monkeypatch):
    """With NumPy in the place of CuPy."""
    sklearn = pytest.importorskip("sklearn")
    config = sklearn.config_context
    monkeypatch.setattr("sklearn.config_context", lambda **_: config())
    tables = importlib.import_module("benchmarks.gpu.tables")
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    jobs = [job for job in tables.scalers() if job.library == "scikit-learn"]
    if importlib.util.find_spec("array_api_compat"):
        assert [job.job for job in jobs] == ["fit", "fit range"]
    for job in jobs:
        fitted = job.prepare(SimpleNamespace(x=[x]))(0)
        assert fitted.n_features_in_ == 4


def test_machine_code_made_elsewhere_is_found(gpu, monkeypatch):
    """Whatever NVRTC of its major version the device has."""
    from cupy.cuda import nvrtc

    paths = []
    for version in ((13, 0), (13, 5), (12, 9)):
        monkeypatch.setattr(nvrtc, "getVersion", lambda version=version: version)
        paths.append(compiler.machine_code(device.source("extrema"), "90", DEFINES))
    assert paths[0] == paths[1] != paths[2]
    # Also where nothing can be written beside it.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert compiler.machine_code(device.source("extrema"), "90", DEFINES) == paths[2]
    other = compiler.machine_code(device.source("moments"), "90", DEFINES)
    assert other.parent != paths[2].parent


def test_what_is_prebuilt_is_what_calls_ask_for(with_fake):
    """Recorded in a process that has not imported CuPy before."""
    script = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "from benchmarks.gpu import prebuild\n"
        "wanted = prebuild.recorded(['float32'])\n"
        "print(all('extern \"C\"' in text for text, _ in wanted))\n"
        "print(sorted({tuple(sorted(defines.items())) for _, defines in wanted}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=with_fake, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, whole, defines = done.stdout.splitlines()
    assert whole == "True"
    assert "('NC_OUT', 'float'), ('NC_T', 'float')" in defines
