"""docs/differences.md names tests that there are."""

import ast
import re

import pytest
from paths import ROOT

PAGE = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| of |")
]


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_difference_has_a_reason_and_a_test(row):
    assert len(row) == 5
    assert all(row)
    path, name = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`\s*\|?", row[-1]).groups()
    assert name in functions(ROOT / path)


def test_there_are_differences():
    assert len(ROWS) > 20
    assert len({row[0] for row in ROWS}) == len(ROWS)
