"""What benchmarks/gpu does on a device, done on the emulated one: all of it runs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import unwrap
from cuda_host.fake_cupy import installed
from normcore_cupy import compiler, probe
from paths import ROOT
from processes import environment

import normcore as nc

pytestmark = build.needs_compiler

SCRIPTS = ROOT / "benchmarks" / "gpu"
NAMES = ("common", "report", "table", "small_shapes")
JOBS = {
    "copy", "moments", "extrema", "rescale", "fit", "fit range", "quartiles", "fit from the host",
    "forward", "backward",
}  # fmt: skip


@pytest.fixture
def with_fake(tmp_path):
    """An environment in which `python3` has the fake CuPy, and a compute-sanitizer is there."""
    programs = {
        "python": f'exec "{sys.executable}" -P -W ignore -m cuda_host.on_fake "$@"',
        # --tool name --error-exitcode 9 program...
        "compute-sanitizer": 'echo "$2"; [ "$2" = initcheck ] && exit 9; shift 4; exec "$@"',
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
        env=with_fake | more, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_command_measures(with_fake, tmp_path):
    done = run(with_fake, tmp_path / "results", STEPS="table")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "results" / "gpu.json").read_text())
    assert report["machine"]["device"] == "emulated"
    assert {row["job"] for row in report["rows"]} == JOBS
    measured = {(row["job"], row["library"]) for row in report["rows"]}
    assert measured >= {
        (job, "cupy") for job in ("moments", "extrema", "rescale", "quartiles", "forward")
    }
    assert all(row["milliseconds"] > 0 for row in report["rows"])
    assert [each["met"] for each in report["targets"]] == [None] * 6  # the arrays are too small
    assert report["launches"] == {
        "moments": 2, "extrema": 2, "rescale": 1, "forward": 4, "backward": 5, "quartiles": 3,
    }  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("everything that ran passed; results are in ")
    assert [line.split()[0] for line in lines[-8:-1]] == [
        "job", "moments", "extrema", "rescale", "forward", "backward", "quartiles",
    ]  # fmt: skip
    # The fake is not all of CuPy: scikit-learn, which looks closely, alone may fail on it.
    failed = [line for line in lines if "Error:" in line]
    assert all("scikit-learn: " in line for line in failed), failed
    assert not any("no further jobs" in line for line in lines)
    chart = next(line for line in lines if line.startswith("chart: "))
    if "not drawn" not in chart:
        assert (tmp_path / "results" / "gpu.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_looks_for_races_and_bad_accesses(with_fake, tmp_path):
    """One tool after another, also after one that finds something; and the exit tells of it."""
    done = run(with_fake, tmp_path / "results", STEPS="sanitize dance")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "there is no step dance" in done.stderr
    assert done.stdout.splitlines()[-1] == "FAILED: initcheck dance"
    for tool in ("memcheck", "racecheck", "synccheck"):
        log = (tmp_path / "results" / f"{tool}.log").read_text().split()
        assert log == [tool, "30", "cases"]


def test_the_command_tests(with_fake):
    """The suite is imported whole; what is run here is what no other test runs."""
    laws = "adopt_and_release or every_dtype or host_agree or (OnDevice and rescale_in_place)"
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", laws]
    options += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    path = os.pathsep.join([with_fake["PYTHONPATH"], str(SCRIPTS)])
    done = subprocess.run(
        [with_fake["PYTHON"], "-P", "-m", "pytest", *options, str(SCRIPTS)],
        env=with_fake | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
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
def table(monkeypatch):
    """The module, on the fake."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr(probe, "_loads", lambda name: object() if "cuda" in name else None)
    monkeypatch.setattr(compiler, "why_missing", lambda: "")
    with installed(monkeypatch):
        import table

        yield table
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def torch(table, monkeypatch):
    """PyTorch for the CPU in the place of PyTorch for CUDA; returns its current stream."""
    torch = pytest.importorskip("torch")
    stream = SimpleNamespace(cuda_stream=0)
    monkeypatch.setattr(
        table,
        "TORCH",
        SimpleNamespace(
            from_dlpack=lambda array: torch.from_numpy(unwrap(array)),
            ones=lambda size, device: torch.ones(size),
            zeros=lambda size, device: torch.zeros(size),
            nn=torch.nn,
            autograd=torch.autograd,
            backends=torch.backends,
            cuda=SimpleNamespace(current_stream=lambda: stream),
        ),
    )
    return stream


@pytest.mark.usefixtures("torch")
def test_pytorch_is_measured_on_the_same_memory(table):
    rows = list(table.measured((4, 3, 5, 5), "float32", table.image_jobs, True))
    assert [(row.job, row.library) for row in rows] == [
        ("copy", "cupy"), ("forward", "normcore"), ("forward", "cupy"), ("backward", "normcore"),
        ("forward", "torch cuDNN"), ("backward", "torch cuDNN"), ("forward", "torch native"),
        ("backward", "torch native"),
    ]  # fmt: skip


def test_pytorch_on_another_stream_is_not_measured(table, torch, capsys):
    """CuPy's events would be recorded before PyTorch's work begins, and show next to no time."""
    torch.cuda_stream = 7
    rows = list(table.measured((4, 3, 5, 5), "float32", table.image_jobs, False))
    assert {row.library for row in rows} == {"cupy", "normcore"}
    assert "no further jobs on this array: RuntimeError: PyTorch" in capsys.readouterr().out


def test_the_formula_is_that_of_batch_norm(table):
    import cupy

    x = cupy.random.standard_normal((4, 3, 5, 5))
    out, other = cupy.empty_like(x), cupy.empty_like(x)
    calls = {(job, library): call for job, library, call, _ in table.image_jobs(x, out)}
    calls["forward", "cupy"]()
    nc.functional.batch_norm(x, out=other, backend=table.common.backend())
    np.testing.assert_allclose(unwrap(out), unwrap(other), rtol=1e-9, atol=1e-12)


def test_scikit_learn_is_given_what_it_takes(table, monkeypatch):
    """With NumPy in the place of CuPy."""
    pytest.importorskip("sklearn")
    monkeypatch.setattr(table, "cupy", np)
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    config = __import__("sklearn").config_context
    monkeypatch.setattr("sklearn.config_context", lambda **_: config())
    jobs = list(table.sklearn_jobs(x, nc.StandardScaler().fit(x), float(x.nbytes)))
    assert [(job, library) for job, library, _, _ in jobs] == [
        ("fit", "scikit-learn"), ("fit range", "scikit-learn"), ("rescale", "scikit-learn"),
    ]  # fmt: skip
    for _, _, call, _ in jobs:
        call()


def test_targets_are_held_against_what_was_measured(table, capsys):
    def row(job, library, milliseconds, share, shape=(1000, 1000)):
        return table.Row(job, shape, "float32", library, milliseconds, 1.0, share)

    rows = [
        row("moments", "normcore", 1.0, 0.9),
        row("moments", "normcore", 1.0, 0.7, (10, 10)),  # too small to count
        row("extrema", "normcore", 1.0, 0.84),
        row("forward", "normcore", 2.0, 0.5),
        row("forward", "torch cuDNN", 3.0, 0.4),
        row("forward", "torch native", 1.5, 0.6),
        row("quartiles", "normcore", 1.0, 0.5),
        row("quartiles", "cupy", 12.0, 0.1),
    ]
    found = {each.job: each for each in table.targets(rows)}
    assert {job: each.met for job, each in found.items()} == {
        "moments": True, "extrema": False, "rescale": None, "forward": False, "backward": None,
        "quartiles": True,
    }  # fmt: skip
    assert (found["forward"].least, found["forward"].most) == (0.75, 1.5)
    assert found["forward"].comparisons == 2
    table.show_targets(list(found.values()), {"moments": 2})
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[2].split()) == "moments 85% of a copy's bandwidth 90% to 90% yes 2"
    assert "not measured" in lines[4]
    assert lines[5].endswith("0.75 to 1.50    no         -")


def test_no_chart_without_matplotlib(table, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not table.drawn({"rows": []}, tmp_path / "gpu.png")
    assert not (tmp_path / "gpu.png").exists()


def test_a_peer_that_fails_does_not_end_the_table(table, capsys):
    def jobs(x, out):
        yield "one", "peer", lambda: 1 / 0, 1.0
        yield "two", "peer", lambda: None, 1.0
        raise MemoryError("set-up")

    rows = list(table.measured((3, 2), "float32", jobs, False))
    assert [row.job for row in rows] == ["copy", "two"]
    assert math.isfinite(rows[1].milliseconds)
    printed = capsys.readouterr().out
    assert "one (3, 2) float32 peer: ZeroDivisionError" in printed
    assert "no further jobs on this array: MemoryError: set-up" in printed
