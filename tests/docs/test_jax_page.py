"""The examples of docs/jax.md, run."""

from __future__ import annotations

import pytest
from page_examples import check_examples


def test_examples():
    pytest.importorskip("jax")
    check_examples("jax.md")
