"""docs/export.md: its code runs, it has every format and dialect."""

import re

import pytest
from page_examples import check_examples
from paths import ROOT

from normcore import registration
from normcore.export.sql_dialects import DIALECTS

PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def first_cells(start):
    rows = PAGE.split(f"| {start} |")[1].split("\n\n")[0].splitlines()[2:]
    return [re.match(r'\| `"(\w+)"`', row)[1] for row in rows]


def test_code_runs():
    for library in ("onnx", "torch", "polars", "sklearn"):
        pytest.importorskip(library)
    check_examples("export.md")


def test_every_format_and_dialect_is_in_a_table():
    own = [
        row.name
        for row in registration.registrations()
        if row.kind == "exporter" and row.distribution == "normcore-arrays"
    ]
    assert sorted(first_cells("format")) == sorted(own)
    assert first_cells("dialect") == list(DIALECTS)
