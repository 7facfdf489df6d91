"""From the tree to a tested wheel, as those do who publish it: `tox -e wheels`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from paths import ROOT
from processes import run_python

pytest.importorskip("twine", reason="tox -e wheels builds wheels")

LARGEST = 5_000_000  # bytes
OURS = ("tests/test_affine.py", "tests/test_result_hashes.py", "tests/layout")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The source distribution of the tree."""
    ignored = shutil.ignore_patterns(
        ".*", "*.egg-info", "__pycache__", "*.so", "*.pyd", "build", "dist"
    )
    folder = tmp_path_factory.mktemp("source")
    tree = shutil.copytree(ROOT, folder / "tree", ignore=ignored)
    run_python("-m", "build", "--sdist", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """The wheel that pip builds of the source distribution, without any index."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-build-isolation", "--no-index", "--no-deps"]
    run_python(
        *("-m", "pip", "wheel", *offline, "--wheel-dir", folder, source), cwd=folder, timeout=3600
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def portable(wheel, tmp_path_factory):
    """The wheel as other Linux machines take it; on other systems the wheel itself."""
    if sys.platform != "linux":
        return wheel
    folder = tmp_path_factory.mktemp("portable")
    tag = f"manylinux_2_28_{wheel.stem.rpartition('linux_')[2]}"
    run_python("-m", "auditwheel", "repair", "--plat", tag, "--wheel-dir", folder, wheel)
    (path,) = folder.glob("*.whl")
    assert tag in path.name
    return path


def test_both_can_be_published(source, portable):
    run_python("-m", "twine", "check", "--strict", source, portable)


def test_wheel_is_small(portable):
    assert portable.stat().st_size < LARGEST


def test_wheel_brings_no_library_along(portable):
    with zipfile.ZipFile(portable) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert "normcore_arrays.libs" not in tops


def test_wheel_passes_its_tests_in_an_environment_of_its_own(portable, tmp_path):
    """With what the wheel itself asks for, from an index."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=True)
    scripts = Path(sysconfig.get_path("scripts", "venv", {"base": folder, "platbase": folder}))
    python = scripts / Path(sys.executable).name
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = ["-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-p", "no:cacheprovider", "-q"]
    for command in (
        ["-m", "pip", "install", "--quiet", f"{portable}[testing]"],
        ["-m", "pip", "check"],
        ["-P", "-m", "pytest", *options, *(ROOT / each for each in OURS)],
    ):
        done = subprocess.run(
            [python, *command], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    where = subprocess.run(
        [python, "-P", "-c", "import normcore; print(normcore.__file__)"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(folder)


def test_another_platform_is_refused_in_one_line(portable, tmp_path):
    """By pip, which names the wheel; nothing is installed."""
    stem, _, _ = portable.stem.rpartition("-")
    other = shutil.copy(portable, tmp_path / f"{stem}-win_arm64.whl")
    done = run_python(
        *("-m", "pip", "install", "--no-deps", "--target", tmp_path / "site", other), check=False
    )
    assert done.returncode != 0
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("ERROR")]
    assert Path(other).name in line
    assert "not a supported wheel on this platform" in line
