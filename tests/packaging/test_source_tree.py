"""An import from the source tree: compiled modules that are missing, outdated or nobody's."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import normcore_cpu
import pytest
import setuptools
from paths import ROOT

import normcore

SUFFIX = EXTENSION_SUFFIXES[0]
INSTALLED = {
    "normcore": Path(normcore.__file__).parent,
    "backends/normcore_cpu": Path(normcore_cpu.__file__).parent,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a source tree without a build."""
    for package in INSTALLED:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "avx*"),
        )
    return tmp_path


@pytest.fixture
def built(tree: Path) -> Path:
    """Return a source tree that was built in place."""
    for package, installed in INSTALLED.items():
        for source in (tree / package).rglob("*.pyx"):
            name = source.relative_to(tree / package).with_suffix(SUFFIX)
            shutil.copyfile(installed / name, tree / package / name)
    utilities = f"package/cython_utilities{SUFFIX}"  # which compiled modules share
    shutil.copyfile(INSTALLED["normcore"] / utilities, tree / "normcore" / utilities)
    return tree


def evaluate(tree: Path, code: str) -> str:
    path = [str(tree), str(tree / "backends"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


FIT = "print(nc.use_backend('cpu') and nc.StandardScaler().fit(numpy.ones((10, 2))).mean_)"
IMPORTS = [
    "import normcore",
    "from normcore import StandardScaler",
    "import normcore.functional",
    "from normcore.io import fit_file",
]


@pytest.mark.parametrize("code", IMPORTS)
def test_without_a_build_it_says_what_to_run(tree: Path, code: str) -> None:
    printed = evaluate(tree, code).splitlines()
    assert printed[-1].startswith("ImportError: normcore is imported from its source tree")
    assert str(tree) in printed[-1]
    assert "not compiled: backends/normcore_cpu/" in printed[-1].replace(os.sep, "/")
    assert "more). Run `pip install .`" in printed[-1]
    assert " or with -P, " in printed[-1]


def test_a_tree_that_was_built_works(built: Path) -> None:
    printed = evaluate(built, f"import numpy, normcore as nc; print(nc.__file__); {FIT}")
    assert printed.splitlines() == [str(built / "normcore" / "__init__.py"), "[1. 1.]"]


@pytest.mark.parametrize("code", IMPORTS)
@pytest.mark.parametrize(
    "module", ["normcore/layout/numpy_views", "backends/normcore_cpu/processor"]
)  # of the core, of the backend
def test_a_build_that_lacks_a_module_is_refused(built: Path, module: str, code: str) -> None:
    lost = built / f"{module}{SUFFIX}"
    lost.rename(lost.with_name(lost.name.replace(SUFFIX, ".cpython-39-other.so")))
    printed = evaluate(built, code)
    assert f"(not compiled: {module}.pyx)" in printed
    assert "pip install ." in printed


@pytest.mark.parametrize("module", ["functional", "moved", "scaling/moved", "scaling", "gone/it"])
def test_what_an_older_build_left_is_refused(built: Path, module: str) -> None:
    """Of a module that has changed, was moved, is a package now, or went with its package."""
    stale = built / "normcore" / f"{module}{SUFFIX}"
    stale.parent.mkdir(exist_ok=True)
    shutil.copyfile(built / "normcore" / "layout" / f"numpy_views{SUFFIX}", stale)
    age(stale, 1e8)
    printed = evaluate(built, "import normcore")
    assert f"(outdated: normcore/{module}{SUFFIX})" in printed
    assert "pip install ." in printed


def test_a_source_that_changed_after_the_build_is_not_passed_over(built: Path) -> None:
    module = f"normcore/layout/numpy_views{SUFFIX}"
    age(built / module, 1e8)
    assert f"(outdated: {module})" in evaluate(built, "import normcore")


@pytest.mark.parametrize("name", ["rows.pxi", "tiling.pxd", "lanes.h"])
def test_so_is_what_the_kernels_include_and_cimport(built: Path, name: str) -> None:
    kernels = built / "backends" / "normcore_cpu" / "kernels"
    age(kernels / name, -1e8)
    modules = sorted(
        f"backends/normcore_cpu/kernels/{path.name}" for path in kernels.glob(f"*{SUFFIX}")
    )
    assert f"(outdated: {', '.join(modules[:3])} and {len(modules) - 3} more)" in evaluate(
        built, "import normcore"
    )


def test_a_rebuild_asks_for_the_same_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else a build would leave what an import refuses."""
    monkeypatch.chdir(tree)
    built = runpy.run_path(str(ROOT / "setup.py"))["kernels"]()
    kernels = tree / "backends" / "normcore_cpu" / "kernels"
    shared = {path for path in kernels.iterdir() if path.suffix in {".h", ".pxd", ".pxi"}}
    for extension in built:
        assert {tree / path for path in extension.depends} == shared


def test_builds_for_instruction_sets_are_those_of_the_kernels(built: Path) -> None:
    package = built / "backends" / "normcore_cpu"
    shutil.copytree(package / "kernels", package / "avx2", ignore=lambda folder, names: [
        name for name in names if not name.endswith((SUFFIX, "__init__.py"))
    ])  # fmt: skip
    assert evaluate(built, "import normcore") == ""
    (package / "avx2" / f"statistics{SUFFIX}").unlink()
    assert "(not compiled: backends/normcore_cpu/avx2/statistics.pyx)" in evaluate(
        built, "import normcore"
    )


def test_builds_for_other_pythons_do_not_matter(built: Path) -> None:
    (built / "normcore" / "moved.cpython-39-other.so").touch()
    assert evaluate(built, "import normcore") == ""


def test_an_installation_is_not_searched(built: Path) -> None:
    (built / "normcore" / "layout" / f"numpy_views{SUFFIX}").unlink()
    shutil.rmtree(built / "backends")
    assert evaluate(built, "import normcore; print('source_tree' in dir(normcore))") == "False\n"


@pytest.mark.parametrize(
    "code", ["import normcore; normcore.Affine", "from normcore import Affine"]
)
def test_import_errors_of_other_libraries_are_theirs(built: Path, code: str) -> None:
    source = built / "normcore" / "affine.py"
    source.write_text("import library_that_is_not_there\n")
    printed = evaluate(built, code)
    assert printed.endswith("ModuleNotFoundError: No module named 'library_that_is_not_there'\n")
    assert "pip install" not in printed


def test_a_build_removes_what_earlier_ones_left(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    monkeypatch.setattr(setuptools, "setup", lambda **options: None)
    remove_stale = runpy.run_path(str(ROOT / "setup.py"))["remove_stale"]
    wanted = [tree / "normcore" / "scaling" / f"{name}{SUFFIX}" for name in ("base", "new")]
    stale = [tree / "normcore" / f"{name}{SUFFIX}" for name in ("statistics", "io/moved")]
    other = tree / "normcore" / "statistics.cpython-39-other.so"
    for path in (wanted[0], *stale, other):
        path.touch()
    sources = sorted(tree.rglob("*.py*"))
    remove_stale([Path("normcore")], wanted)
    assert [path.exists() for path in (*wanted, *stale, other)] == [True, False, False, False, True]
    assert sorted(tree.rglob("*.py*")) == sources
