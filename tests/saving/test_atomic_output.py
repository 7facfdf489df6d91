"""Output appears whole or not at all."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

from normcore.saving.atomic_output import atomic_output, check_output, check_paths

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")


@pytest.mark.parametrize("existing", [None, "old"])
def test_success_replaces(existing, tmp_path):
    path = tmp_path / "out.csv"
    if existing:
        path.write_text(existing)
    with atomic_output(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert (path.read_text() if path.exists() else None) == existing
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("existing", [None, "old"])
def test_failure_changes_nothing(existing, error, tmp_path):
    path = tmp_path / "out"
    if existing:
        path.write_text(existing)

    def fail():
        with atomic_output(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert (path.read_text() if path.exists() else None) == existing
    assert os.listdir(tmp_path) == (["out"] if existing else [])


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(28, "No space left"), os.strerror(28)), (OSError("12 of 40 written"), "12 of 40")],
)
def test_an_error_while_writing_names_the_file(error, reason, tmp_path):
    path = tmp_path / "out.csv"
    with pytest.raises(OSError, match=reason) as caught, atomic_output(path):
        raise error
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_the_temporary_file_fits_where_the_output_fits(tmp_path):
    path = tmp_path / ("漢" * 80 + ".csv")
    with atomic_output(path) as temporary:
        assert temporary.name.startswith(".")
        assert temporary.name.endswith(".tmp.csv")
    assert path.exists()


@posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664])
def test_permissions_of_an_existing_file_stay(mode, tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(mode)
    with atomic_output(path) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_new_file_follows_the_umask(tmp_path):
    with atomic_output(tmp_path / "out"):
        pass
    (tmp_path / "plain").touch()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@posix
def test_a_link_stays_and_its_target_changes(tmp_path):
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "target"
    target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(target)
    with atomic_output(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory"):
        check_output(tmp_path / "missing" / "out")


def test_a_directory_in_the_way(tmp_path):
    with pytest.raises(IsADirectoryError):
        check_output(tmp_path)


@posix
def test_a_device_is_not_replaced():
    with pytest.raises(OSError, match="not a regular file"):
        check_output(os.devnull)
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            check_output(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_a_directory_that_takes_no_files(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied", args[0])

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match="cannot write: Permission denied") as caught:
        check_output(tmp_path / "out")
    assert caught.value.filename == str(tmp_path / "out")


def test_check_leaves_nothing(tmp_path):
    check_output(tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_paths_must_differ(tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("a\n1\n")
    check_paths(data, tmp_path / "x", None, tmp_path / "y")
    with pytest.raises(ValueError, match="is the input too"):
        check_paths(data, tmp_path / "." / "data.csv")
    with pytest.raises(ValueError, match="is another output too"):
        check_paths(data, tmp_path / "x", tmp_path / "x")
    if hasattr(os, "link"):
        os.link(data, tmp_path / "same.csv")
        with pytest.raises(ValueError, match="is the input too"):
            check_paths(data, tmp_path / "same.csv")
    with pytest.raises(FileNotFoundError):
        check_paths(tmp_path / "none.csv", tmp_path / "x")


@pytest.mark.parametrize("output", ["in/x.csv", "in/deep/x.csv", "link/x.csv"])
def test_an_output_in_the_directory_that_is_read(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("in/deep")
    if sys.platform != "win32":
        os.symlink("in", "link")
    elif output.startswith("link"):
        pytest.skip("links take rights there")
    with pytest.raises(ValueError, match=r"x.csv is part of the input too"):
        check_paths("in", output)
    check_paths("in", "x.csv")


@pytest.mark.parametrize(
    ("pattern", "output", "part"),
    [
        ("*.csv", "new.csv", True),
        ("*.csv", "new.parquet", False),
        ("*.csv", "deep/new.csv", False),
        ("./*.csv", "deep/../new.csv", True),
        ("[a-c]*.csv", "new.csv", False),
        ("**/*.csv", "new.csv", True),
        ("**/*.csv", "deep/new.csv", True),
        ("**/*.csv", "deep/er/new.csv", True),
        ("**/*.csv", "deep/er/new.txt", False),
        ("deep/**/*.csv", "new.csv", False),
        ("deep/**/*.csv", "deep/new.csv", True),
        ("deep/*/*.csv", "deep/new.csv", False),
    ],
)
def test_an_output_that_a_pattern_would_read(pattern, output, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("deep/er")
    for path in ("a.csv", "deep/a.csv", "deep/er/a.csv"):
        (tmp_path / path).write_text("a\n1\n")
    if part:
        with pytest.raises(ValueError, match="is part of the input too"):
            check_paths(pattern, output)
    else:
        check_paths(pattern, output)
    with pytest.raises(ValueError, match="is the input too"):
        check_paths(pattern, "deep/er/a.csv" if "*/*" in pattern else "a.csv")
    with pytest.raises(FileNotFoundError):
        check_paths("none*.csv", "x")


def test_a_name_that_looks_like_a_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[a].csv").write_text("a\n1\n")
    check_paths("[a].csv", "a.csv")
    with pytest.raises(ValueError, match="is the input too"):
        check_paths("[a].csv", "[a].csv")


def test_several_inputs(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a\n1\n")
    both = (tmp_path / "a.csv", tmp_path / "b.csv")
    check_paths(both, tmp_path / "c.csv")
    check_paths((), tmp_path / "c.csv")
    for path in both:
        with pytest.raises(ValueError, match="is the input too"):
            check_paths(both, tmp_path / "c.csv", path)


def test_standard_input_and_output(tmp_path):
    check_paths("-", "-", tmp_path / "x")
    with pytest.raises(ValueError, match="- is another output too"):
        check_paths("-", "-", "-")


@posix
def test_two_outputs_that_links_make_one(tmp_path):
    for name in ("data.csv", "out"):
        (tmp_path / name).write_text("a\n1\n")
    os.link(tmp_path / "out", tmp_path / "hard")
    os.symlink("out", tmp_path / "soft")
    for other in ("hard", "soft"):
        with pytest.raises(ValueError, match="is another output too"):
            check_paths(tmp_path / "data.csv", tmp_path / "out", tmp_path / other)


# -- what a killed run leaves ------------------------------------------------------------------

WRITING = """
import sys, time
from normcore.saving.atomic_output import atomic_output
with atomic_output(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(60)
"""


def written(tmp_path, name):
    """Return a process that writes a file and does not finish, and the path of what it writes."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, tmp_path / name],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_run_left_is_removed_and_no_file_in_work(tmp_path):
    (tmp_path / ".mine.tmp.csv").write_text("not of normcore")
    dead, half = written(tmp_path, "dead.csv")
    alive, other_half = written(tmp_path, "alive.csv")
    try:
        half.with_name(half.name + ".rest").write_text("what a writer put beside it")
        other_half.unlink()  # what it writes may be another file than the one it was given
        other_half.write_text("replaced")
        with atomic_output(tmp_path / "first"):
            assert half.exists()
        dead.kill()
        dead.wait(timeout=30)
        assert half.exists()
        with atomic_output(tmp_path / "second"):
            assert not half.exists()
        assert other_half.read_text() == "replaced"
        (lock,) = tmp_path.glob(".normcore-*.lock")
        left = {".mine.tmp.csv", other_half.name, lock.name, "first", "second"}
        assert set(os.listdir(tmp_path)) == left
    finally:
        for process in (dead, alive):
            process.kill()
            process.wait()
            process.stdout.close()


def test_files_whose_lock_is_gone_are_removed(tmp_path):
    (tmp_path / ".out.normcore-0123456789abcdef.tmp.csv").write_text("half")
    (tmp_path / ".normcore-0123456789abcdef.tmp").write_text("")
    with atomic_output(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == ["out"]


def test_what_belongs_to_a_failed_output_goes_with_it(tmp_path):
    def fail():
        with atomic_output(tmp_path / "out.arrow") as temporary:
            temporary.with_name(temporary.name + ".rest").write_text("beside")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail()
    assert os.listdir(tmp_path) == []


@posix
def test_a_lock_that_was_taken_for_abandoned_is_made_again(tmp_path, monkeypatch):
    import fcntl

    lock, taken = fcntl.flock, []

    def removing(descriptor, operation):
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        return lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removing)
    with atomic_output(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "out").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


@posix
def test_a_file_system_without_locks(tmp_path, monkeypatch):
    import fcntl

    def refuse(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    names = {".out.normcore-0123456789abcdef.tmp.csv", ".normcore-0123456789abcdef.lock"}
    for name in names:
        (tmp_path / name).write_text("half")
    with atomic_output(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "out").read_text() == "new"
    assert set(os.listdir(tmp_path)) == names | {"out"}


def test_where_open_files_are_not_removed(tmp_path, monkeypatch):
    """As on Windows, but for the refusal itself."""
    from normcore.saving import locked_temporary

    monkeypatch.setattr(locked_temporary, "fcntl", None)
    for name in (".out.normcore-0123456789abcdef.tmp.csv", ".normcore-0123456789abcdef.lock"):
        (tmp_path / name).write_text("half")
    with atomic_output(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "out").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]
