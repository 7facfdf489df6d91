"""Output appears whole or not at all."""

import os
import stat
import sys

import pytest

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
