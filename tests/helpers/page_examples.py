"""Examples of a page of the documentation, run."""

import doctest
import io
import re

from paths import ROOT

__all__ = ["check_examples"]


def check_examples(name):
    """Run all examples of ``docs/name``, one after another, in one namespace."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"^```pycon\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    namespace = {"__name__": "__main__"}
    examples = doctest.DocTestParser().get_doctest(blocks, namespace, name, None, None)
    printed = io.StringIO()
    results = doctest.DocTestRunner(verbose=False).run(examples, out=printed.write)
    assert results.failed == 0, printed.getvalue()
    assert results.attempted == page.count("\n>>> ") > 0
