"""What is installed is whole: compiled modules, data files, metadata."""

from __future__ import annotations

import ast
import importlib.util
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zlib
from importlib import metadata
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from processes import run_python

import normcore
import normcore as nc
from normcore.registration import discovery

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IN_TREE = Path(normcore.__file__).resolve().is_relative_to(ROOT / "normcore")

EXTRAS = {
    "all", "cli", "cuda12", "cuda13", "dask", "hdf5", "jax", "keras", "mpi", "onnx", "report",
    "sklearn", "testing", "torch", "zarr",
}  # fmt: skip

installed_only = pytest.mark.skipif(
    IN_TREE, reason="normcore is imported from its source tree; tox tests the built wheel"
)


def test_tox_tests_what_is_installed():
    assert not (IN_TREE and "TOX_ENV_NAME" in os.environ)


def core_modules():
    """Return the modules of the core, not its packages, with the loader of each."""
    for each in pkgutil.walk_packages(normcore.__path__, "normcore."):
        if not each.ispkg:
            yield each.name, type(importlib.util.find_spec(each.name).loader)


def plain_calls(call):
    """Return the modules of normcore whose functions a call passes through uncompiled."""
    found = set()

    def note(frame, event, _):
        if event == "call":
            found.add(frame.f_globals["__name__"])

    for _ in range(3):  # what is loaded on first use is loaded
        call()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return {name for name in found if name.startswith("normcore.")}


def small_calls():
    """Yield calls on small arrays, which cost what Python costs."""
    table, images = np.arange(60.0).reshape(10, 6), np.arange(72.0).reshape(4, 2, 9)
    row, out = table[:1].copy(), np.empty((1, 6))
    for kind in (nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler):
        scaler = kind().fit(table)
        yield f"{kind.__name__}.transform", lambda each=scaler: each.transform(row)
        yield f"{kind.__name__}.transform(out=)", lambda each=scaler: each.transform(row, out=out)
        yield f"{kind.__name__}.inverse", lambda each=scaler: each.inverse_transform(row)
    layer, serving = nc.BatchNorm(6), nc.BatchNorm(6)
    serving(table)
    serving.eval()
    yield "BatchNorm", lambda: (layer(table), layer.backward(table))
    yield "BatchNorm.eval", lambda: serving(table)
    yield "functional.moments", lambda: nc.functional.moments(table, channel_axis=1)
    yield "functional.batch_norm", lambda: nc.functional.batch_norm(table)
    for name, array in (
        ("layer_norm", table), ("rms_norm", table), ("instance_norm", images)
    ):  # fmt: skip
        norm = getattr(nc.functional, name)
        yield f"functional.{name}", lambda norm=norm, array=array: norm(array)


# One frame each: a catalog that is known, a communicator that is not asked for, a dtype.
WELCOME = {
    "normcore.distributed.communicator",
    "normcore.registration.discovery",
    "normcore.statistics.wide_integers",
}


@installed_only
@pytest.mark.parametrize(("name", "call"), [*small_calls()])
def test_calls_on_small_arrays_are_compiled(name, call):
    assert plain_calls(call) <= WELCOME


@installed_only
def test_modules_that_setup_compiles_are_compiled():
    compiled = {name for name, loader in core_modules() if loader is ExtensionFileLoader}
    listed = {
        f"normcore.{module.replace('/', '.')}"
        for modules in setup_constant("COMPILED").values()
        for module in modules
    }
    sources = (path.relative_to(ROOT) for path in (ROOT / "normcore").rglob("*.pyx"))
    written = listed | {".".join(each.with_suffix("").parts) for each in sources}
    assert compiled == written | {setup_constant("SHARED")}


def setup_constant(name):
    """Return a literal of setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (value,) = (
        each.value
        for each in tree.body
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == name
    )
    return ast.literal_eval(value)


def test_the_door_is_plain_python():
    """Pluggy passes over hooks that are compiled."""
    loaders = dict(core_modules())
    plain = {name for name, loader in loaders.items() if loader is SourceFileLoader}
    assert {"normcore.registration.hookspecs", "normcore.registration.builtin"} <= plain


def test_kernels_are_compiled():
    import normcore_cpu
    from normcore_cpu.instruction_sets import INSTRUCTION_SETS, UNITS, available

    sources = {path.stem for path in (ROOT / "backends/normcore_cpu/kernels").glob("*.pyx")}
    assert set(UNITS) <= sources
    assert len(sources) <= 6  # of which each is compiled for every instruction set
    for package in (INSTRUCTION_SETS[name] for name in available()):
        for name in sources:
            spec = importlib.util.find_spec(f"{package}.{name}")
            assert isinstance(spec.loader, ExtensionFileLoader)
            assert Path(spec.origin).parent.parent == Path(normcore_cpu.__file__).parent


SOURCES = {".py", ".pyi", ".pxd", ".pyx", ".h", ".cuh", ".typed", ".j2", ".css", ".js"}


def packaged_files():
    """Return what the packages of the tree consist of, by the place where it is installed."""
    for root in (ROOT, ROOT / "backends", ROOT / "plugins"):
        for package in sorted(root.glob("normcore*/__init__.py")):
            for path in package.parent.rglob("*"):
                if path.suffix in SOURCES:
                    yield path.relative_to(root).as_posix(), path


@installed_only
def test_every_file_of_the_packages_is_installed():
    expected = {name: path for name, path in packaged_files() if path.suffix != ".pyx"}
    assert {"normcore/statistics/double_double.pxd", "normcore_cpu/kernels/half.h"} <= set(expected)
    installed = {file.as_posix(): file for file in metadata.files("normcore-arrays")}
    assert sorted(set(expected) - set(installed)) == []
    for name, path in expected.items():
        assert installed[name].locate().read_bytes() == path.read_bytes(), name
    assert [name for name in installed if name.endswith((".c", ".o", ".pxi", ".pyx"))] == []
    packages = {name.split("/")[0] for name in installed if not name.startswith(".")}
    assert {name for name in packages if "." not in name} == {
        name.split("/")[0] for name in expected
    }


@installed_only
def test_installation_is_small():
    """About as a wheel packs it."""
    files = [each.locate() for each in metadata.files("normcore-arrays")]
    packed = [len(zlib.compress(path.read_bytes())) for path in files if path.suffix != ".pyc"]
    assert sum(packed) < 5_000_000


def test_every_package_is_typed_and_every_kernel_has_a_stub():
    files = {name for name, _ in packaged_files()}
    for name in files:
        if name.count("/") == 1 and name.endswith("/__init__.py"):
            assert name.replace("__init__.py", "py.typed") in files
        if name.endswith(".pyx"):
            assert name.replace(".pyx", ".pyi") in files


@installed_only
def test_third_party_can_cimport_the_statistics(tmp_path):
    pytest.importorskip("Cython")
    (tmp_path / "embedding.pyx").write_text(
        "# cython: language_level=3\n"
        "from normcore.statistics.double_double cimport dd, dd_add\n"
        "from normcore.statistics cimport dd_sub, load_moments, merged, moments_t\n"
        "\n"
        "def mean_of_both(const double[:, ::1] a, const double[:, ::1] b):\n"
        "    cdef moments_t both = merged(load_moments(&a[0, 0], a.shape[1]),\n"
        "                                 load_moments(&b[0, 0], b.shape[1]))\n"
        "    return both.sum.hi / both.count.hi\n"
    )
    subprocess.run(
        [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "--quiet", "embedding.pyx"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert list(tmp_path.glob(f"embedding*{sysconfig.get_config_var('EXT_SUFFIX')}"))
    done = run_python(
        "-c",
        "import embedding, normcore as nc, numpy as np\n"
        "parts = (nc.functional.moments(np.array([x]), channel_axis=1).parts\n"
        "         for x in ([1.0], [4.0]))\n"
        "print(embedding.mean_of_both(*parts))",
        site=tmp_path,
    )
    assert done.stdout == "2.5\n"


# -- the source distribution ------------------------------------------------------------


def test_source_distribution_has_all_that_a_build_and_the_tests_need(tmp_path):
    ours = {".ci", ".github", ".clang-format", ".pre-commit-config.yaml", "changelog.d"}
    ignored = shutil.ignore_patterns(
        *(path.name for path in ROOT.glob(".*") if path.name not in ours),
        *("*.egg-info", "__pycache__", "*.so", "build", "dist"),
    )
    tree = shutil.copytree(ROOT, tmp_path / "tree", ignore=ignored)
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    done = run_python("-c", code, cwd=tree)
    with tarfile.open(tmp_path / done.stdout.splitlines()[-1]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        path.relative_to(tree).as_posix()
        for folder in ("normcore", "backends", "plugins", "tests", "examples", *ours)
        for path in (tree / folder, *(tree / folder).rglob("*"))
        if path.is_file()
    }
    wanted |= {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py", "tox.ini"}
    assert sorted(wanted - packed) == []
    assert [name for name in packed if name.endswith((".c", ".so"))] == ["examples/c_api/layer.c"]
    # The figures of a run are large, and the pages made of them are there.
    assert {name for name in packed if name.startswith("docs/bench")} == {
        "docs/benchmarks.md",
        "docs/benchmarks.png",
    }


# -- metadata ---------------------------------------------------------------------------


def requirements(extra):
    """Return the names that an extra, or none, requires."""
    found = set()
    for requirement in metadata.requires("normcore-arrays"):
        wanted, _, marker = requirement.partition(";")
        given = re.search(r"extra == ['\"](.*?)['\"]", marker)
        if (given.group(1) if given else None) == extra:
            found.add(wanted.strip())
    return found


@installed_only
def test_runtime_requirements_are_numpy_and_pluggy():
    names = {re.split(r"[^\w-]", each)[0] for each in requirements(None)}
    assert names == {"numpy", "pluggy"}
    assert "numpy>=2" in requirements(None)


@installed_only
def test_extras():
    declared = metadata.metadata("normcore-arrays").get_all("Provides-Extra")
    assert set(declared) == EXTRAS
    (combined,) = requirements("all")
    included = re.fullmatch(r"normcore-arrays\[(.*)\]", combined).group(1)
    apart = {"all", "cuda12", "cuda13", "jax", "keras", "mpi", "torch"}
    assert set(included.split(",")) == EXTRAS - apart


@installed_only
def test_licence_and_python():
    about = metadata.metadata("normcore-arrays")
    assert about["License-Expression"] == "BSD-3-Clause"
    assert about.get_all("License-File") == ["LICENSE"]
    assert about["Requires-Python"] == ">=3.11"
    assert about["Description-Content-Type"] == "text/markdown"


@installed_only
def test_entry_points():
    """The command, and a plugin entry for every first-party package that has a hook."""
    points = metadata.distribution("normcore-arrays").entry_points
    assert {each.value for each in points if each.group == "console_scripts"} == {
        "normcore.cli:main"
    }
    hooks = {
        f"{path.parent.name}.plugin"
        for root in ("backends", "plugins")
        for path in (ROOT / root).glob("*/plugin.py")
    }
    assert {each.value for each in points if each.group == "normcore"} == hooks
    for each in points:
        assert each.load() is not None


@installed_only
def test_command_is_installed():
    pytest.importorskip("click")
    command = shutil.which("normcore", path=str(Path(sys.executable).parent))
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"normcore, version {normcore.__version__}"


def test_changelog_begins_with_this_version():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.*?)\](.*)$", changes, re.MULTILINE)
    assert normcore.__version__ in re.findall(r"[\w.]+", newest.group())


def test_hints_to_install_name_this_distribution_and_its_extras():
    """The name on PyPI without a suffix is another project's, which has the same import name."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    hint = re.compile(r"pip install [^\n&]*?\b(normcore[\w.-]*)(?:\[([\w,]*)\])?")
    hints = [
        (path.name, *each)
        for path in [*pages, *(path for _, path in packaged_files())]
        for each in hint.findall(path.read_text(encoding="utf-8"))
    ]
    assert {"README.md", "gpu.md", "mpi.py", "probe.py"} <= {file for file, _, _ in hints}
    for file, name, extras in hints:
        assert name == PROJECT["name"] == discovery.DISTRIBUTION, file
        assert set(filter(None, extras.split(","))) <= set(PROJECT["optional-dependencies"]), file
