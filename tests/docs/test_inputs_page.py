"""docs/inputs.md is true: its examples run."""

import doctest
import io
import re

import pytest
from paths import ROOT

PAGE = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")


def test_examples():
    """All of them, one after another, in one namespace."""
    pytest.importorskip("pandas")
    pytest.importorskip("scipy")
    blocks = "".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    page = doctest.DocTestParser().get_doctest(blocks, {}, "inputs.md", None, None)
    printed = io.StringIO()
    results = doctest.DocTestRunner(verbose=False).run(page, out=printed.write)
    assert results.failed == 0, printed.getvalue()
    assert results.attempted == PAGE.count("\n>>> ")
