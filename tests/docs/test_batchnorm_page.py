"""docs/batchnorm.md is true: its examples, its table of defaults and its links."""

from __future__ import annotations

import doctest
import io
import re

import pytest
from paths import ROOT

import normcore as nc

DOCS = ROOT / "docs"
PAGE = (DOCS / "batchnorm.md").read_text(encoding="utf-8")


def test_examples():
    """All of them, one after another, in one namespace."""
    blocks = "".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    page = doctest.DocTestParser().get_doctest(blocks, {}, "batchnorm.md", None, None)
    printed = io.StringIO()
    results = doctest.DocTestRunner(verbose=False).run(page, out=printed.write)
    assert results.failed == 0, printed.getvalue()
    assert results.attempted == PAGE.count("\n>>> ")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("`nc.BatchNorm`, PyTorch", nc.BatchNorm(2)),
        ("Keras", nc.BatchNorm.from_keras(2)),
        ("Flax", nc.BatchNorm.from_flax(2)),
        ("ONNX", nc.BatchNorm.from_onnx(2)),
    ],
)
def test_defaults(name, layer):
    (row,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.MULTILINE)
    weighs, momentum, ddof, eps, axis = row.split(" | ")
    weight = {"the new batch": layer.momentum, "the old value": layer.decay}[weighs]
    assert [weight, layer.ddof, layer.eps, layer.axis] == [*map(float, (momentum, ddof, eps, axis))]


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)]+)\)", PAGE))
def test_links_lead_somewhere(target):
    assert (DOCS / target).exists()
