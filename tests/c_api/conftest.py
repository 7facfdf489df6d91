from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest
from c_door_calls import Batch
from paths import ROOT
from processes import environment

EXAMPLES = ROOT / "examples" / "c_api"
CC, CXX = (os.environ.get(name, default) for name, default in (("CC", "cc"), ("CXX", "c++")))
CFLAGS = shlex.split(os.environ.get("CFLAGS", ""))


@pytest.fixture
def batch():
    """Return good arguments of every function."""
    return Batch()


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Return a function that builds an example, once, and returns the folder that it is in."""
    folder, done = tmp_path_factory.mktemp("c_api"), set()
    if shutil.which(CC) is None or shutil.which(CXX) is None:
        pytest.skip(f"there are no compilers {CC} and {CXX}")

    def build(name):
        if name not in done:
            found = subprocess.run(
                [sys.executable, str(EXAMPLES / "build.py"), str(folder), name],
                env=environment(), capture_output=True, text=True,
            )  # fmt: skip
            assert found.returncode == 0, found.stderr
            assert found.stderr == ""  # the compilers have nothing to say
            done.add(name)
        return folder

    return build


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Return a function that compiles C, or C++, with a folder of headers, into a library."""
    folder = tmp_path_factory.mktemp("clients")
    if shutil.which(CC) is None or shutil.which(CXX) is None:
        pytest.skip(f"there are no compilers {CC} and {CXX}")

    def build(name, source, *flags, cplusplus=False):
        path = folder / f"{name}.{'cpp' if cplusplus else 'c'}"
        path.write_text(source, encoding="utf-8")
        standard = ["-std=c++11"] if cplusplus else ["-std=c99"]
        command = [CXX if cplusplus else CC, *standard, "-pedantic", "-Wall", "-Wextra", "-Werror"]
        target = folder / f"{name}.so"
        found = subprocess.run(
            [*command, "-fPIC", "-shared", *CFLAGS, *map(str, flags), str(path), "-o", str(target)],
            env=environment(LD_PRELOAD=""), capture_output=True, text=True,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        return target

    return build
