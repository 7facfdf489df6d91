"""docs/report.md is true: its examples run, and it has the flags and the words of the code."""

import re

import pytest
from page_examples import check_examples
from paths import ROOT

PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


def test_examples(tmp_path, monkeypatch):
    pytest.importorskip("jinja2")
    monkeypatch.chdir(tmp_path)
    check_examples("report.md")


def test_every_flag_is_explained():
    from normcore.reporting.flags import FLAGS

    table = PAGE.split("| flag | when |")[1].split("\n\n")[0]
    named = {
        each.strip()
        for cell in re.findall(r"^\| ([^|]+) \|", table, re.M)
        for each in cell.split(",")
    }
    assert named - {"---"} == set(FLAGS.values()) - {"not numeric"}


def test_thresholds_are_those_of_the_code():
    from normcore.reporting import first_look, flags, recommending

    assert f"skewness of {recommending.HEAVY_SKEWNESS:.0f} or more" in PAGE
    assert f"less than {recommending.SYMMETRIC}" in PAGE
    assert f"one value is {flags.NEAR_CONSTANT:.0%} of all" in PAGE
    assert f"{first_look.SKETCHED_ROWS:,}" in PAGE
