"""docs/inputs.md is true: its examples run."""

import pytest
from page_examples import check_examples


def test_examples():
    pytest.importorskip("pandas")
    pytest.importorskip("scipy")
    check_examples("inputs.md")
