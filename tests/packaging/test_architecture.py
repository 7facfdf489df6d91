"""docs/architecture.md is true: its folders have the modules it names, its walks real functions."""

import importlib
import re
from functools import reduce

import pytest
from paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SOURCE_ROOTS = (ROOT, ROOT / "backends", ROOT / "plugins")
KERNELS = ROOT / "backends" / "normcore_cpu" / "kernels"
CYTHON = (".pyx", ".pxi", ".pxd")


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(start):
    """Return the rows of a table of the page: the name in front, and the modules at the end."""
    rows = PAGE.split(f"| {start} |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[each.strip() for each in row.strip("|").split("|")] for row in rows]
    return {first.strip("`"): re.findall(r"`(\w+)`", last) for first, *_, last in cells}


def modules(folder):
    return {
        path.stem
        for path in folder.iterdir()
        if path.suffix in {".py", ".pyx"} and path.stem != "__init__"
    }


def walked():
    return sorted(set(re.findall(r"`(normcore\w*(?:\.\w+)+)`", section("Three walks"))))


def sources(name):
    """Return the files of the longest beginning of a dotted name that has any, and the rest."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        for root in SOURCE_ROOTS:
            path = root.joinpath(*parts[:length])
            found = [path.with_suffix(each) for each in (".py", *CYTHON)]
            found = [each for each in (*found, path / "__init__.py") if each.is_file()]
            if found:
                return found, parts[length:]
    return [], parts


def is_defined(attributes, text):
    """Whether Cython source defines a function or class, or the method of a class."""
    for depth, attribute in enumerate(attributes):
        lead = rf"^{' ' * 4 * depth}(?:cdef class|class|def|cpdef|cdef (?:\w[\w\[\], *]*[ *])?)"
        found = re.search(rf"{lead}\s*{attribute}\s*[(:].*\n", text, re.M)
        if not found:
            return False
        # What belongs to it is indented, and so are blank lines and brackets that close.
        text = re.split(r"^(?=[^\s)])", text[found.end() :], maxsplit=1, flags=re.M)[0]
    return True


@pytest.mark.parametrize("name", walked())
def test_functions_of_the_walks_exist(name):
    files, attributes = sources(name)
    assert files, f"{name} is in no source file"
    cython = [path for path in files if path.suffix in CYTHON]
    if cython:
        assert any(is_defined(attributes, path.read_text(encoding="utf-8")) for path in cython)
        return
    module = ".".join(name.split(".")[: -len(attributes) or None])
    reduce(getattr, attributes, importlib.import_module(module))


def test_walks_reach_the_kernels():
    names = walked()
    assert len(names) > 50
    kernels = {name for name in names if name.startswith("normcore_cpu.kernels.")}
    assert {name.split(".")[2] for name in kernels} >= {"moments", "rescale", "batchnorm", "tasks"}


def test_what_is_not_there_is_noticed():
    text = "cdef class Task:\n    cdef int begin(self):\n        pass\n\ndef run(\n    x\n):\n"
    assert is_defined(["Task", "begin"], text)
    assert is_defined(["run"], text)
    assert not is_defined(["Task", "run"], text)
    assert not is_defined(["begin"], text)


@pytest.mark.parametrize(("folder", "named"), table("folder").items())
def test_folders_have_the_modules_that_the_page_names(folder, named):
    assert sorted(named) == sorted(modules(ROOT / folder))


def test_every_folder_is_on_the_page():
    packages = [
        path.parent
        for root in (ROOT / "normcore", ROOT / "backends", ROOT / "plugins")
        for path in root.rglob("__init__.py")
        if path.parent not in (root, KERNELS) and not path.parent.name.startswith("avx")
    ]
    found = {f"{path.relative_to(ROOT).as_posix()}/" for path in packages}
    assert found == table("folder").keys()


def test_units_include_the_kernels_that_the_page_names():
    included = {
        path.stem: re.findall(r'^include "(\w+)\.pxi"', path.read_text(encoding="utf-8"), re.M)
        for path in KERNELS.glob("*.pyx")
    }
    assert included == table("unit")
    kernels = {kernel for named in included.values() for kernel in named}  # some are in two units
    assert sorted(kernels) == sorted(path.stem for path in KERNELS.glob("*.pxi"))
