"""docs/batchnorm.md is true: its examples, its table of defaults and its links."""

from __future__ import annotations

import re

import pytest
from page_examples import check_examples
from paths import ROOT

import normcore as nc

DOCS = ROOT / "docs"
PAGE = (DOCS / "batchnorm.md").read_text(encoding="utf-8")


def test_examples():
    check_examples("batchnorm.md")


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
