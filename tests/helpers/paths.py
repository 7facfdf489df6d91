"""Where the sources lie; the normcore under test may be installed elsewhere."""

from __future__ import annotations

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parents[1]
