"""Blocks of code of a page of the documentation, and how they are run."""

import doctest
import io
import re
import subprocess
import sys

from paths import ROOT
from processes import environment

__all__ = ["blocks", "check_examples", "commands", "shell"]

SHELL = f"normcore() {{ '{sys.executable}' -m normcore \"$@\"; }}\n"


def blocks(name, languages="python"):
    """Return the blocks of a page of the repository in a language, or a pattern of some."""
    page = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```(?:{languages})\n(.*?)^```$", page, re.M | re.S)


def check_examples(name):
    """Run all examples of ``docs/name``, one after another, in one namespace."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    code = "".join(blocks(f"docs/{name}", "pycon"))
    examples = doctest.DocTestParser().get_doctest(code, namespace, name, None, None)
    printed = io.StringIO()
    results = doctest.DocTestRunner(verbose=False).run(examples, out=printed.write)
    assert results.failed == 0, printed.getvalue()
    assert results.attempted == page.count("\n>>> ") > 0


def commands(block):
    """Return the commands of a block of a console, and the lines that follow each."""
    parts = re.split(r"^\$ ", block, flags=re.M)[1:]
    return [
        (command, shown.splitlines()) for command, _, shown in (p.partition("\n") for p in parts)
    ]


def shell(command, cwd, *sites):
    """Run a command of sh; return its status and what a terminal would show, right-trimmed."""
    done = subprocess.run(
        ["sh", "-c", SHELL + command],
        cwd=cwd, env=environment(*sites), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    return done.returncode, [line.rstrip() for line in done.stdout.splitlines()]
