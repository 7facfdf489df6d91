"""docs/axes.md is true: its examples run."""

from __future__ import annotations

import doctest
import io
import re

from paths import ROOT

PAGE = (ROOT / "docs" / "axes.md").read_text(encoding="utf-8")


def test_examples():
    """All of them, one after another, in one namespace."""
    blocks = "".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    page = doctest.DocTestParser().get_doctest(blocks, {}, "axes.md", None, None)
    printed = io.StringIO()
    results = doctest.DocTestRunner(verbose=False).run(page, out=printed.write)
    assert results.failed == 0, printed.getvalue()
    assert results.attempted == PAGE.count("\n>>> ")
