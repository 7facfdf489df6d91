"""The benchmarks, on a few elements: what they time is right, and so is what they time it by."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from benchmark_package import import_benchmarks
from paths import ROOT

import_benchmarks()
from benchmarks import floors, jobs, machine, measure, report, storage  # noqa: E402
from benchmarks.cases import Arrays, Case  # noqa: E402
from benchmarks.peers import OURS, PEERS, Contestant  # noqa: E402

TABLE = [*jobs.all_jobs(), *jobs.quick_jobs()]
TINY = {job.tiny().label: job.tiny() for job in TABLE}
#: numbagg compiles it for longer than all other tests take; a run of the benchmarks checks it.
SLOW_TO_COMPILE = {"RobustScaler.fit": ["numbagg"]}


@pytest.mark.parametrize("label", TINY)
def test_every_contestant_computes_what_the_oracle_does(label):
    job = TINY[label]
    assert measure.check(job, without=SLOW_TO_COMPILE.get(job.name, ())) == {}
    assert next(iter(job.contestants(Arrays(job.case)))).name == OURS


def test_a_contestant_that_computes_something_else_is_found():
    def contestants(arrays):
        yield Contestant("right", lambda: (arrays.x * 2.0,))
        yield Contestant("wrong", lambda: (arrays.x * 2.001,))
        yield Contestant("other shape", lambda: (arrays.x[:1, None] * 2.0,))
        yield Contestant("fails", lambda: 1 / 0)

    job = jobs.Job("double", Case((5, 4)), "copy", contestants, lambda arrays: (arrays.x * 2.0,))
    wrong = measure.check(job)
    assert list(wrong) == ["wrong", "other shape", "fails"]
    assert "ZeroDivisionError" in wrong["fails"]
    measured = measure.measure(job, Arrays(job.case), 1, measure.Effort(repeat=2, budget=0.1))
    assert set(measured.seconds) == {"right", "read", "copy"}
    assert set(measured.failed) == set(wrong)


def test_labels_tell_jobs_apart():
    for table in (list(jobs.all_jobs()), list(jobs.quick_jobs())):
        assert len({job.label for job in table}) == len(table)


# -- the floors --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", "CF")
@pytest.mark.parametrize(("shape", "dtype"), [((7, 3), "float32"), ((40, 9), "float64")])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_floors_touch_every_byte(monkeypatch, layout, shape, dtype, threads):
    monkeypatch.setattr(floors, "ALONE", 0)
    arrays = Arrays(Case(shape, dtype, layout))
    x, out = arrays.x, arrays.out
    np.testing.assert_array_equal(floors.copy(x, out, threads)(), x)
    folded = floors.read(x, threads)()
    assert len(folded) == threads
    x.view("u4" if dtype == "float32" else "u8")[...] = 0
    for position in np.ndindex(shape):  # one bit anywhere shows
        x[position] = -0.0
        assert np.count_nonzero(floors.read(x, threads)()) == 1
        x[position] = 0.0
    fresh = floors.fresh_copy(x)()
    assert fresh.strides == x.strides
    assert not np.shares_memory(fresh, x)


# -- measuring ---------------------------------------------------------------------------


def test_memory_counts_numpy_and_malloc():
    size = 40 << 20
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

    def with_malloc():
        for _ in range(2):  # one after the other: the peak is that of one
            pointer = libc.malloc(ctypes.c_size_t(size))
            ctypes.memset(pointer, 1, size)
            libc.free(pointer)

    calls = (lambda: np.ones(size, np.uint8).sum(), with_malloc, lambda: None)
    peaks = [measure.extra_memory(call)[0] for call in calls]
    if peaks[-1] is None:
        pytest.skip("this system does not tell the peak of resident memory")
    assert [round(peak / size, 1) for peak in peaks] == [1.0, 1.0, 0.0]


STEPS_IN_REUSED_MEMORY = """
import resource
import sys

sys.path.append(sys.argv[1])
from benchmarks import jobs, modules
from benchmarks.cases import Arrays

case = jobs.nchw((44, 64, 56, 56))  # beyond what malloc ever keeps by itself
job = next(jobs.reusing_jobs(case))
calls = [each.call for each in job.contestants(Arrays(case))]
with modules.reused_memory(case.nbytes):
    for turn in range(10):
        if turn == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for call in calls:
            call()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults / (case.nbytes / resource.getpagesize()))
"""


def test_reused_memory_takes_no_pages(tmp_path):
    if not any(job.reuses for job in TABLE):
        pytest.skip("needs PyTorch and glibc")
    # In processes of their own, for malloc is not the same afterwards. The least of three: now and
    # then a thread that goes on for longer holds one array while the next is taken.
    command = [sys.executable, "-c", STEPS_IN_REUSED_MEMORY, ROOT]
    taken = []
    for _ in range(3):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        taken.append(float(done.stdout))
    assert min(taken) < 1.0, taken  # inputs' worth, of 10 that PyTorch's steps take freshly


def test_jobs_that_reuse_memory_are_last():
    for table in (list(jobs.all_jobs()), list(jobs.quick_jobs())):
        assert table == sorted(table, key=lambda job: job.reuses)


def test_rounds_interleave_and_share_the_budget():
    seen = []

    def spend(name, number):
        seen.append(name)
        for _ in range(number):
            pass

    contestants = [
        Contestant("long", lambda: spend("long", 300_000)),
        Contestant("short", lambda: spend("short", 10)),
    ]
    samples = measure.rounds(contestants, measure.Effort(repeat=6, budget=1e-9))
    assert {name: len(each) for name, each in samples.items()} == {"long": 1, "short": 1}
    seen.clear()
    samples = measure.rounds(contestants, measure.Effort(repeat=6, budget=60))
    assert {name: len(each) for name, each in samples.items()} == {"long": 6, "short": 6}
    assert all(seconds > 0 for each in samples.values() for seconds in each)
    turns = [name for i, name in enumerate(seen) if i == 0 or seen[i - 1] != name]
    assert len(turns) >= 7  # neither does all its rounds at a stretch


def test_uncompiled_core_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "COMPILED", ("registration.hookspecs",))  # plain in every build
    assert machine.uncompiled() == ["normcore.registration.hookspecs"]
    with pytest.raises(SystemExit, match=r"normcore.registration.hookspecs are not compiled"):
        machine.refuse_uncompiled(allowed=False)
    machine.refuse_uncompiled(allowed=True)


# -- reporting ---------------------------------------------------------------------------


def spread(seconds):
    return measure.Spread.of([seconds] * 3)


@pytest.fixture
def found():
    """A report of jobs that went well, were beaten, missed their target, and failed."""
    made = report.Report(machine.facts(2), "python -m benchmarks", measure.Effort())
    times = {
        "well": {OURS: 2.0, "read": 2.0, "scikit-learn": 6.0},
        "beaten": {OURS: 2.0, "read": 2.0, "scikit-learn": 6.0, "polars": 1.0},
        "missed": {OURS: 8.0, "read": 2.0, "PyTorch": 9.0},
        "failed": {"read": 2.0, "NumPy": 1.0},
    }
    for name, seconds in times.items():
        job = jobs.Job(name, Case((10, 3)), "read", lambda _: (), lambda _: (), 1.5, in_chart=True)
        measured = measure.Measured({key: spread(each) for key, each in seconds.items()})
        measured.extra_bytes = dict.fromkeys(seconds, 3_000_000)
        if name == "failed":
            measured.failed[OURS] = "ValueError: no"
        made.add(job, measured)
    return made


def test_report_lists_what_is_amiss_first(found):
    rows = {row.job: row for row in found.rows}
    assert [row.job for row in found.beaten] == ["beaten"]
    assert [row.job for row in found.missed] == ["failed", "missed"]
    assert (rows["well"].cost, rows["missed"].cost, rows["failed"].cost) == (1.0, 4.0, None)
    assert [row.met for row in found.rows] == [True, True, False, False]
    assert rows["beaten"].peers == {"scikit-learn": 3.0, "polars": 0.5}
    text = report.markdown(found)
    titles = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert [title.split(":")[0] for title in titles] == [
        "Jobs in which a peer is faster",
        "Targets missed",
        "All jobs",
        "Failures",
    ]
    assert re.search(r"\| beaten .*\| 1\.5 met \| 3\.0 \| 3x \| FASTER 0\.50x \|", text)
    assert "1.5 MISSED" in text
    assert "normcore fails at failed" in text


def test_report_survives_its_file(found, tmp_path):
    found.threads = [{"job": "read", "speedup": 1.9}]
    storage.save(found, tmp_path / "run.jsonl")
    assert storage.load(tmp_path / "run.jsonl") == found
    lines = (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = [kind for line in lines for kind in json.loads(line)]
    assert kinds == ["run", *["row"] * len(found.rows), "threads"]
    assert json.loads(lines[2])["row"]["derived"]["peers"]["polars"] == 0.5


def test_file_that_ends_anywhere_has_the_lines_before(found, tmp_path):
    path = tmp_path / "run.jsonl"
    storage.save(found, path)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        if end < first:
            with pytest.raises(ValueError, match=r"run\.jsonl has no line of a run"):
                storage.load(path)
        else:
            whole = content[:end].count(b"\n") - 1
            assert storage.load(path).rows == found.rows[:whole]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], "{", *lines[1:]],
        lambda lines: [*lines, lines[0]],
        lambda lines: lines[1:],
        lambda lines: [*lines, '{"rows": 1}'],
        lambda lines: [*lines, '{"row": {"job": "a"}}'],
        lambda lines: [*lines, '{"threads": [1]}', '{"threads": [1]}'],
        lambda lines: [*lines, "[]"],
        lambda lines: [*lines, ""],
    ],
)
def test_line_that_is_none_of_a_run_is_an_error(found, tmp_path, damage):
    path = tmp_path / "run.jsonl"
    storage.save(found, path)
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    with pytest.raises(ValueError, match=r"run\.jsonl, line \d+: "):
        storage.load(path)


def test_resumed_file_goes_on_after_its_last_whole_line(found, tmp_path):
    path = tmp_path / "run.jsonl"
    storage.save(found, path)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    again = storage.resume(report.Report(dict(found.machine), found.command, found.effort), path)
    assert again.rows == found.rows[:-1]
    storage.append(path, "row", found.rows[-1])
    assert path.read_bytes() == content


def test_another_run_is_not_resumed(found, tmp_path):
    path = tmp_path / "run.jsonl"
    storage.save(found, path)
    content = path.read_bytes()
    busy = {**found.machine, "load_average_at_start": 9.0}
    storage.resume(report.Report(busy, found.command, found.effort), path)
    for name, other in {
        "processor": report.Report({**busy, "processor": "Z80"}, found.command, found.effort),
        "command": report.Report(busy, "python -m benchmarks --quick", found.effort),
        "repeat": report.Report(busy, found.command, measure.Effort(repeat=2)),
    }.items():
        with pytest.raises(ValueError, match=rf"run\.jsonl is of another run: {name} was"):
            storage.resume(other, path)
    assert path.read_bytes() == content


def test_pages_are_those_of_the_run():
    path = ROOT / "docs" / "benchmarks.jsonl"
    if not path.exists():
        pytest.skip("the source distribution leaves the figures out")
    run = storage.load(path)
    assert report.markdown(run) == (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert report.chosen(run) in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert run.command in page
    assert f"In {len(run.beaten)} of the {len(run.rows)} jobs" in page


def command_line(folder, only, *options):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", only, "--allow-uncompiled"]
    return [*command, "--output", folder, *options]


def test_command_line(tmp_path):
    command = command_line(tmp_path, "transform 1x30 float64", "--markdown", tmp_path / "table.md")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stored = storage.load(tmp_path / "benchmarks.jsonl")
    assert len(stored.rows) == 3
    assert all(OURS in row.measured.seconds for row in stored.rows)
    assert set(stored.machine["versions"]) == {OURS, *PEERS}
    assert "StandardScaler.transform" in done.stdout
    assert "### All jobs: 3" in (tmp_path / "table.md").read_text(encoding="utf-8")
    drawn = importlib.util.find_spec("matplotlib") is not None
    assert (tmp_path / "benchmarks.png").exists() == drawn


def test_run_that_was_killed_is_resumed(tmp_path):
    command = command_line(tmp_path, "transform 1x30", "--budget", "0.2")
    path = tmp_path / "benchmarks.jsonl"
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        while run.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") > 1):
            time.sleep(0.01)
        run.kill()
    assert run.returncode not in (0, 1)  # it did not come to its end
    left = path.read_bytes()
    whole = left[: left.rindex(b"\n") + 1]
    done = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes().startswith(whole)
    wanted = [job.label for job in jobs.quick_jobs() if "transform 1x30" in job.label]
    assert [row.label for row in storage.load(path).rows] == wanted
    left_out = len(wanted) - (whole.count(b"\n") - 1)
    assert f"[1/{left_out}]" in done.stderr
