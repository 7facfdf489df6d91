"""The floors of the house, where import-linter does not look: Cython files, and imports of them."""

import re
import tomllib

import pytest
from paths import ROOT

CYTHON = (".pyx", ".pxd", ".pxi")
STATEMENT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(.+)|c?import\s+([\w., ]+))")


def contracts():
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["tool"]["importlinter"]["contracts"]


def floors():
    """Return each folder and module of the core with its height, the roof's the largest."""
    (layers,) = (each["layers"] for each in contracts() if each["type"] == "layers")
    return {name: height for height, name in enumerate(reversed(layers))}


def imported(path, package):
    """Yield the dotted names that a Cython file imports, relative ones made absolute."""
    text = re.sub(r"\(([^()]*)\)", lambda found: " ".join(found[1].split()), path.read_text())
    for line in text.splitlines():
        found = STATEMENT.match(line)
        if not found:
            continue
        module, names, alone = found.groups()
        if alone:
            yield from (each.split()[0] for each in alone.split(",") if each.strip())
            continue
        if module.startswith("."):
            level = len(module) - len(module.lstrip("."))
            base = package[: len(package) - level + 1]
            module = ".".join([*base, *filter(None, [module.lstrip(".")])])
        yield module
        if module == "normcore":
            yield from (f"normcore.{each.split()[0]}" for each in names.split(",") if each.strip())


def sources(root, package, *suffixes):
    return [path for path in sorted((ROOT / root / package).rglob("*")) if path.suffix in suffixes]


def test_there_are_cython_files_to_read():
    names = {path.stem for path in sources(".", "normcore", *CYTHON)}
    assert {"moments", "pool", "numpy_views", "double_double"} <= names


@pytest.mark.parametrize(
    "path",
    sources(".", "normcore", ".py", *CYTHON),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_imports_go_down(path):
    heights = floors()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    own = package[1] if len(package) > 1 else path.stem
    if own == "__init__":  # the roof
        return
    for name in imported(path, package):
        parts = name.split(".")
        if parts[0].startswith("normcore_"):
            pytest.fail(f"{path}: the core imports {name}, a backend or plugin")
        if parts[0] != "normcore" or len(parts) == 1 or parts[1] not in heights:
            continue  # another library, or a public name of the package
        assert parts[1] == own or heights[parts[1]] < heights[own], f"{path} imports {name}"


@pytest.mark.parametrize(
    "path",
    sources("backends", "normcore_cpu", *CYTHON),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_kernels_import_only_the_core_and_themselves(path):
    package = path.relative_to(ROOT / "backends").with_suffix("").parts[:-1]
    for name in imported(path, package):
        top = name.partition(".")[0]
        assert not top.startswith("normcore_") or top == "normcore_cpu", f"{path} imports {name}"
        if top == "normcore_cpu":
            assert name.startswith(".".join(package)), f"{path}: {name} is of one instruction set"


def test_every_entry_of_the_core_has_a_floor():
    entries = {
        path.name.partition(".")[0]
        for path in (ROOT / "normcore").iterdir()
        if path.name not in {"__init__.py", "__init__.pyi", "__pycache__", "py.typed"}
        and not path.name.endswith(".so")
    }
    assert entries == floors().keys()


def test_the_picture_of_the_floors_is_the_contract():
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = page[page.index("```mermaid") :].split("```")[1]
    drawn = re.findall(r"^\s*(\w+)\[", picture, re.M)
    (layers,) = (each["layers"] for each in contracts() if each["type"] == "layers")
    assert drawn == layers


def test_the_core_is_small_enough_to_read_from_its_list():
    hosts = {"torch", "keras", "jax", "mpi.py"}  # thin faces of host libraries
    entries = {
        path.name
        for path in (ROOT / "normcore").iterdir()
        if path.name not in hosts | {"__pycache__"} and not path.name.endswith(".so")
    }
    assert len(entries) <= 24, sorted(entries)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (
            "from normcore import (\n    scaling,\n    io as tables,\n)",
            ["normcore.scaling", "normcore.io"],
        ),
        ("import numpy, normcore.scaling as s", ["numpy", "normcore.scaling"]),
        ("from normcore.threads.pool cimport Work", ["normcore.threads.pool"]),
        ("from .tiling cimport (\n    plan_t,\n)", ["normcore.layout.tiling"]),
    ],
)
def test_no_form_of_import_is_overlooked(line, names, tmp_path):
    path = tmp_path / "module.pyx"
    path.write_text(line + "\n")
    assert set(names) <= set(imported(path, ("normcore", "layout")))
