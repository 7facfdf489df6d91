"""How many threads: calls, the environment, processors, control groups, threadpoolctl."""

from __future__ import annotations

import contextvars
import os
import threading
from pathlib import Path

import pytest
from processes import printed

import normcore as nc
from normcore.threads import settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_num_threads", None)


def evaluate(code: str, **variables: str) -> str:
    """Return what a process prints, of whose threads no other variable than these says a word."""
    others = dict.fromkeys(name for name in os.environ if name.endswith("NUM_THREADS"))
    return printed(code, **others | variables)


def elsewhere() -> int:
    """Return what another thread sees."""
    seen = []
    other = threading.Thread(
        target=lambda: contextvars.Context().run(lambda: seen.append(nc.get_num_threads()))
    )
    other.start()
    other.join()
    return seen[0]


BAD = [0, -1, 1.5, True, "2", None, float("nan"), float("inf")]


@pytest.mark.parametrize("bad", BAD)
def test_number_of_threads_is_checked(bad: object) -> None:
    nc.set_num_threads(3)
    with pytest.raises(ValueError, match="at least 1"):
        nc.set_num_threads(bad)
    with pytest.raises(ValueError, match="at least 1"), nc.use_num_threads(bad):
        pass
    assert nc.get_num_threads() == 3


def test_the_plain_call_is_for_the_process() -> None:
    nc.set_num_threads(5)
    assert (nc.get_num_threads(), elsewhere()) == (5, 5)


def test_a_block_is_for_its_thread_and_restores() -> None:
    nc.set_num_threads(5)
    with nc.use_num_threads(3):
        assert (nc.get_num_threads(), elsewhere()) == (3, 5)
        with nc.use_num_threads(1):
            assert nc.get_num_threads() == 1
        assert nc.get_num_threads() == 3
        nc.set_num_threads(6)
        assert (nc.get_num_threads(), elsewhere()) == (3, 6)
    assert nc.get_num_threads() == 6
    with pytest.raises(KeyError), nc.use_num_threads(3):
        raise KeyError
    assert nc.get_num_threads() == 6


SHOW = "import normcore as nc; print(nc.get_num_threads())"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, "3"),
        ({"OMP_NUM_THREADS": "4,2"}, "4"),
        ({"OMP_NUM_THREADS": " 5 , 1"}, "5"),
        ({"NORMCORE_NUM_THREADS": "7"}, "7"),
        ({"NORMCORE_NUM_THREADS": " 7 "}, "7"),
        ({"NORMCORE_NUM_THREADS": "7", "OMP_NUM_THREADS": "3"}, "7"),
        ({"NORMCORE_NUM_THREADS": "", "OMP_NUM_THREADS": "3"}, "3"),
        ({"NORMCORE_NUM_THREADS": "7", "OMP_NUM_THREADS": "many"}, "7"),
    ],
)
def test_environment(variables: dict[str, str], expected: str) -> None:
    assert evaluate(SHOW, **variables) == expected


@pytest.mark.parametrize("text", ["", "many", "0", "-2", "2.5", ",", "²"])
def test_what_other_libraries_cannot_read_is_ignored(text: str) -> None:
    assert evaluate(SHOW, OMP_NUM_THREADS=text) == evaluate(SHOW)


@pytest.mark.parametrize("text", ["0", "-1", "many", "2.5", "4,2", "²"])
def test_a_bad_variable_is_an_error_that_names_it(text: str) -> None:
    code = """if True:
    import numpy, normcore as nc
    def attempt(function):
        try:
            function()
        except ValueError as error:
            print(error)
    attempt(nc.get_num_threads)
    attempt(lambda: nc.functional.moments(numpy.ones((1_000_000, 2)), channel_axis=1))
    attempt(lambda: nc.StandardScaler().fit([[1.0], [2.0]]))
    attempt(lambda: nc.BatchNorm(2)(numpy.ones((3, 2))))
    attempt(lambda: nc.functional.layer_norm(numpy.ones((3, 2)), backend="cpu"))
    attempt(lambda: nc.get_backend("cpu"))
    assert "NORMCORE_NUM_THREADS" in nc.backends()["cpu"].reason
    nc.set_num_threads(2)
    print(nc.get_num_threads())
    """
    *errors, last = evaluate(code, NORMCORE_NUM_THREADS=text, PYTHONIOENCODING="utf-8").splitlines()
    assert len(errors) == 6
    assert all(f"NORMCORE_NUM_THREADS is {text!r}" in error for error in errors)
    assert last == "2"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_affinity_is_respected_and_may_change() -> None:
    code = """if True:
    import os, normcore as nc
    allowed = os.sched_getaffinity(0)
    before = nc.get_num_threads()
    os.sched_setaffinity(0, {min(allowed)})
    print(before <= len(allowed), nc.get_num_threads())
    os.sched_setaffinity(0, allowed)
    print(nc.get_num_threads() == before)
    """
    assert evaluate(code).split() == ["True", "1", "True"]


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        # Seen from the host; a group's limit binds the groups below.
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "100000 50000"}, 2.0),
        # Seen from a container, whose root is a group the process does not know of.
        ("0::/docker/1", {"cpu.max": "300000 100000"}, 3.0),
        (
            "3:cpu,cpuacct:/a\n0::/",
            {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        (
            "3:cpuacct,cpu:/docker/1\n2:cpuset:/",
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        (
            "3:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("0::/", {"cpu.max": "nonsense"}, None),
    ],
)
def test_control_groups_are_respected(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    files: dict[str, str],
    expected: float | None,
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    granted = settings._granted_processors(str(tmp_path))
    assert granted == (float("inf") if expected is None else expected)


@pytest.mark.parametrize(("granted", "expected"), [(0.5, 1), (2.5, 3), (4.0, 4), (99.0, 8)])
def test_part_of_a_processor_counts_as_one(
    monkeypatch: pytest.MonkeyPatch, granted: float, expected: int
) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setattr(settings, "_granted_processors", lambda: granted)
    assert settings._num_processors() == expected


def test_no_control_groups_is_no_limit(tmp_path: Path) -> None:
    assert settings._granted_processors(str(tmp_path)) == float("inf")


@pytest.mark.parametrize(
    "imports",
    ["normcore as nc, threadpoolctl", "threadpoolctl, normcore as nc",
     "normcore as nc, sklearn, threadpoolctl"],
)  # fmt: skip
def test_threadpoolctl_sees_and_limits_normcore(imports: str) -> None:
    for name in ("threadpoolctl", *(["sklearn"] if "sklearn" in imports else [])):
        pytest.importorskip(name)
    code = f"""if True:
    import {imports}
    nc.get_num_threads()
    def shown():
        found = [each for each in threadpoolctl.threadpool_info() if each["user_api"] == "normcore"]
        return [(each["num_threads"], each["version"] == nc.__version__) for each in found]
    print(shown())
    with threadpoolctl.threadpool_limits(1):
        print(shown(), nc.get_num_threads())
        with threadpoolctl.threadpool_limits(2, user_api="normcore"):
            print(nc.get_num_threads())
        with threadpoolctl.threadpool_limits(2, user_api="blas"):
            print(nc.get_num_threads())
    print(nc.get_num_threads())
    nc.set_num_threads(5)  # nothing is left behind that would hide it
    print(nc.get_num_threads())
    with nc.use_num_threads(4), threadpoolctl.threadpool_limits({{"normcore": 0}}):
        print(nc.get_num_threads())
    with nc.use_num_threads(4):
        with threadpoolctl.threadpool_limits(1):
            pass
        print(nc.get_num_threads())
    (info,) = [each for each in threadpoolctl.ThreadpoolController().info(debugging_info=True)
               if each["user_api"] == "normcore"]
    print(info["thread_limit_scope"], nc.get_num_threads())
    """
    assert evaluate(code, OMP_NUM_THREADS="3").splitlines() == [
        "[(3, True)]", "[(1, True)] 1", "2", "1", "3", "5", "1", "4", "current_thread 5",
    ]  # fmt: skip


KNOWN = 'print([each["user_api"] for each in threadpoolctl.threadpool_info()].count("normcore"))'


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"import threadpoolctl, normcore; {KNOWN}", "1"),
        (f"import normcore, threadpoolctl; {KNOWN}", "0"),
        (f"import normcore as nc, threadpoolctl; nc.get_num_threads(); {KNOWN}", "1"),
        (f"import normcore as nc, threadpoolctl; nc.set_num_threads(2); {KNOWN}", "1"),
        (f"import normcore as nc, threadpoolctl\nwith nc.use_num_threads(2): {KNOWN}", "1"),
        (
            "import numpy, normcore as nc, threadpoolctl\n"
            f"nc.StandardScaler().fit(numpy.ones((100_000, 8))); {KNOWN}",
            "1",
        ),
        (
            "import normcore as nc; nc.register_with_threadpoolctl()\n"
            "import threadpoolctl; nc.register_with_threadpoolctl(); nc.set_num_threads(2)\n"
            f"{KNOWN}",
            "1",
        ),
        (
            "import normcore as nc, threadpoolctl; nc.register_with_threadpoolctl()\n"
            "with threadpoolctl.threadpool_limits(1): print(nc.get_num_threads())",
            "1",
        ),
    ],
)
def test_threadpoolctl_is_told_once_and_not_before_it_is_loaded(code: str, expected: str) -> None:
    pytest.importorskip("threadpoolctl")
    assert evaluate(code, OMP_NUM_THREADS="3") == expected


def test_threads_that_meet_threadpoolctl_at_once_tell_it_once() -> None:
    pytest.importorskip("threadpoolctl")
    code = """if True:
    import threading, normcore as nc
    sys.setswitchinterval(1e-6)
    def meet():
        barrier.wait()
        import threadpoolctl
        nc.get_num_threads()
    barrier = threading.Barrier(8)
    others = [threading.Thread(target=meet) for _ in range(8)]
    [each.start() for each in others]
    [each.join() for each in others]
    import threadpoolctl
    """
    assert evaluate(f"{code}\n    {KNOWN}") == "1"


def test_normcore_does_not_load_threadpoolctl() -> None:
    code = """if True:
    import numpy, normcore as nc
    nc.set_num_threads(2)
    nc.StandardScaler().fit(numpy.ones((100_000, 8)))
    print("threadpoolctl" in sys.modules)
    """
    assert evaluate(code) == "False"


def test_another_module_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "threadpoolctl.py").write_text("answer = 42\n")
    for imports in ("normcore as nc, threadpoolctl as t", "threadpoolctl as t, normcore as nc"):
        code = f"sys.path.insert(0, {str(tmp_path)!r}); import {imports}; nc.get_num_threads()"
        assert evaluate(f"{code}; print(t.answer, dir(t)[-1])") == "42 answer"
    code = f"""if True:
    import normcore as nc
    sys.path.insert(0, {str(tmp_path)!r})
    try:
        nc.register_with_threadpoolctl()
    except ImportError as error:
        print(error)
    """
    assert "threadpoolctl>=3.2" in evaluate(code)


def test_without_threadpoolctl_registration_says_so() -> None:
    code = """if True:
    import normcore as nc
    sys.modules["threadpoolctl"] = None  # as if it was not there
    nc.get_num_threads()
    try:
        nc.register_with_threadpoolctl()
    except ModuleNotFoundError as error:
        print(error.name)
    """
    assert evaluate(code) == "threadpoolctl"
