"""docs/install.md is true: its examples, and its tables beside the project's own files."""

from __future__ import annotations

import re
import tomllib

import pytest
from page_examples import check_examples
from paths import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "install.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def test_examples():
    check_examples("install.md")


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)]+)\)", PAGE))
def test_links_lead_somewhere(target):
    assert (DOCS / target).exists()


def row(name):
    (found,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.MULTILINE)
    return found


def test_versions_are_those_of_the_metadata():
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert row("Python").startswith(f"CPython {named[0]} to {named[-1]};")
    assert PROJECT["requires-python"] == f">={named[0]}"
    floors = dict(
        re.fullmatch(r"(\w+)>=([\d.]+)", each).groups() for each in PROJECT["dependencies"]
    )
    assert row("NumPy") == f"{float(floors['numpy'])} and newer"
    assert row("pluggy") == f"{floors['pluggy']} and newer"
    assert PROJECT["optional-dependencies"]["sklearn"] == [
        f"scikit-learn>={row('scikit-learn, where it is used').split()[0]}"
    ]


def test_every_extra_is_listed():
    (table,) = re.findall(r"^\| extra \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    listed = re.findall(r"`([\w]+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    assert sorted(listed) == sorted(PROJECT["optional-dependencies"])


def test_wheels_are_built_for_every_python_that_is_supported():
    named = re.findall(r"Python :: 3\.(\d+)", " ".join(PROJECT["classifiers"]))
    assert PYPROJECT["tool"]["cibuildwheel"]["build"] == [
        f"cp3{{{','.join(named)}}}-*",
        f"cp3{named[-1]}t-*",
    ]
