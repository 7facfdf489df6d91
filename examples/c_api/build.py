"""Build the examples: ``python build.py FOLDER [layer] [standardize] [features]``.

CC, CXX and CFLAGS are heeded. A project would name `normcore.get_include()` in its own build system
the same way: it is a folder for -I, and nothing is linked.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import normcore as nc

HERE = Path(__file__).parent
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
FLAGS = ["-O1", "-fPIC", "-shared", "-Wall", "-Wextra", *shlex.split(os.environ.get("CFLAGS", ""))]
INCLUDES = [f"-I{nc.get_include()}", f"-I{sysconfig.get_path('include')}"]
CC, CXX = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")


def run(*command: object) -> None:
    """Run a compiler."""
    subprocess.run([str(each) for each in command], check=True)


def layer(folder: Path) -> Path:
    """Build the library in C, which sees no Python."""
    target = folder / "liblayer.so"
    include = f"-I{nc.get_include()}"
    run(CC, *FLAGS, "-std=c99", "-pedantic", include, HERE / "layer.c", "-o", target)
    return target


def standardize(folder: Path) -> Path:
    """Build the module in Cython, which finds ``normcore.c_api`` as Python does."""
    source, target = folder / "standardize.c", folder / f"standardize{SUFFIX}"
    root = Path(nc.__file__).parent.parent
    run(sys.executable, "-m", "cython", "-I", root, HERE / "standardize.pyx", "-o", source)
    run(CC, *FLAGS, "-Wno-unused", *INCLUDES, source, "-o", target)
    return target


def features(folder: Path) -> Path:
    """Build the module in C++; nanobind brings its sources."""
    import nanobind

    target = folder / f"features{SUFFIX}"
    sources = Path(nanobind.source_dir())
    maps = sources.parent / "ext" / "robin_map" / "include"
    run(
        CXX, *FLAGS, "-std=c++17", "-fvisibility=hidden", "-fno-strict-aliasing", "-DNDEBUG",
        *INCLUDES, f"-isystem{nanobind.include_dir()}", f"-isystem{maps}",
        sources / "nb_combined.cpp", HERE / "features.cpp", "-o", target,
    )  # fmt: skip
    return target


if __name__ == "__main__":
    into, *names = sys.argv[1:]
    for build in (layer, standardize, features):
        if not names or build.__name__ in names:
            print(build(Path(into)))
