"""Refuses an import from a source tree whose compiled modules are not those of its sources.

Python prefers a compiled module to its source, whatever their ages. An installation is whole by
itself, and does not load this module.
"""

import os
from importlib.machinery import EXTENSION_SUFFIXES

__all__ = ["check_build"]

_PACKAGES = ("normcore", os.path.join("backends", "normcore_cpu"), "plugins")
# What the .pyx files of a folder include and cimport; setup.py builds all of them again for it.
_SHARED = (".h", ".pxd", ".pxi")
_GENERATED = "cython_utilities"  # by Cython, which has no source of it
_SHOWN = 3


def check_build(root: str) -> None:
    """Compare the compiled modules of a source tree with its sources.

    Raises
    ------
    ImportError
        If a module is not compiled for this Python, is older than its source or than what that may
        include, or has no source.
    """
    missing: list[str] = []
    outdated: list[str] = []
    for package in _PACKAGES:
        for folder, _, _ in os.walk(os.path.join(root, package)):
            _compare(folder, missing, outdated)
    faults = [
        f"{fault}: {', '.join(sorted(names)[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for fault, names in (("not compiled", missing), ("outdated", outdated))
        for names in [[os.path.relpath(each, root) for each in names]]
        if names
    ]
    if faults:
        raise ImportError(
            f"normcore is imported from its source tree, {root}, whose compiled modules are not "
            f"those of its sources ({'; '.join(faults)}). Run `pip install .` there and Python in "
            "another folder or with -P, or `python setup.py build_ext --inplace` there",
            name="normcore",
            path=root,
        )


def _compare(folder: str, missing: list[str], outdated: list[str]) -> None:
    built = _built(folder)
    origin = folder
    if built and not _sources(folder):  # kernels, built once more for an instruction set
        origin = os.path.join(os.path.dirname(folder), "kernels")
    sources = _sources(origin)
    units = {stem for stem, each in sources.items() if each.name.endswith(".pyx")}
    missing += [os.path.join(folder, f"{stem}.pyx") for stem in units - set(built)]
    shared = max((_time(each) for each in _files(origin) if each.name.endswith(_SHARED)), default=0)
    for stem, each in built.items():
        if stem == _GENERATED:
            continue
        source = sources.get(stem)
        if source is None or _time(each) < max(_time(source), shared if stem in units else 0):
            outdated.append(each.path)


def _built(folder: str) -> "dict[str, os.DirEntry[str]]":
    """Return the modules of a folder that this Python would load, by name."""
    return {
        stem: each
        for each in _files(folder)
        for stem, _, suffix in [each.name.partition(".")]
        if f".{suffix}" in EXTENSION_SUFFIXES
    }


def _sources(folder: str) -> "dict[str, os.DirEntry[str]]":
    return {
        stem: each
        for each in _files(folder)
        for stem, suffix in [os.path.splitext(each.name)]
        if suffix in (".py", ".pyx") and stem != "__init__"
    }


def _files(folder: str) -> "list[os.DirEntry[str]]":
    return list(os.scandir(folder)) if os.path.isdir(folder) else []


def _time(file: "os.DirEntry[str]") -> int:
    return file.stat().st_mtime_ns
