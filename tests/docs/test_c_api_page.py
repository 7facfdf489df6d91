"""docs/c-api.md: what it shows compiles, what it lists is what the header has."""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sysconfig

import pytest
from paths import ROOT

import normcore as nc

PAGE = (ROOT / "docs" / "c-api.md").read_text(encoding="utf-8")
HEADER = (ROOT / "normcore" / "c_api" / "normcore.h").read_text(encoding="utf-8")


def test_the_python_examples_are_true():
    failed, attempted = doctest.testfile(str(ROOT / "docs" / "c-api.md"), module_relative=False)
    assert (failed, attempted > 0) == (0, True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler cc")
@pytest.mark.parametrize("code", re.findall(r"^```c\n(.*?)^```$", PAGE, re.M | re.S))
def test_the_c_examples_compile(code, tmp_path):
    (tmp_path / "example.c").write_text(code, encoding="utf-8")
    includes = f"-I{nc.get_include()}", f"-isystem{sysconfig.get_path('include')}"
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *includes]
    done = subprocess.run([*command, "example.c"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_function_and_its_arguments_are_listed():
    listed = re.findall(r"^\| `(\w+)\(([\w, ]+)\)` \|", PAGE, re.M)
    declared = re.findall(r"int \(\*(\w+)\)\(([^()]*)\);", HEADER)
    names = [
        (name, ", ".join(re.findall(r"(\w+)(?:,|$)", " ".join(arguments.split()))))
        for name, arguments in declared
    ]
    assert [(name, f"{arguments}, call") for name, arguments in listed] == names


def test_every_status_is_listed():
    statuses = re.findall(r"^    (NORMCORE_\w+) = \d+,?", HEADER, re.M)
    assert re.findall(r"^\| `(NORMCORE_\w+)`", PAGE, re.M) == statuses
