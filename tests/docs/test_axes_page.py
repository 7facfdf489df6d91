"""docs/axes.md is true: its examples run."""

from __future__ import annotations

from page_examples import check_examples


def test_examples():
    check_examples("axes.md")
