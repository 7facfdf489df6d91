"""docs/precision.md is true: its example, and the errors that its table has."""

from __future__ import annotations

import importlib
import re

import pytest
from benchmark_package import import_benchmarks
from page_examples import check_examples
from paths import ROOT

PAGE = (ROOT / "docs" / "precision.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\w+ norm), (y|dx) \| (\S+) \| (\S+) \| (\S+) \| \S+ \|$", PAGE, re.M)


def test_examples():
    check_examples("precision.md")


def test_the_table_is_whole():
    assert len(ROWS) == 12


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_errors_are_those_of_the_table(row):
    import_benchmarks()
    measure = importlib.import_module("benchmarks.precision")
    kind, name, offset, *errors = row
    for precision, error in zip(("exact", "native"), errors, strict=True):
        found = measure.errors(measure.normcore_passes(precision), kind, float(offset))[name]
        assert float(error) == pytest.approx(found, rel=0.01)
