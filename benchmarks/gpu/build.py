"""Compile in place what has no Python form: the statistics and the CPU backend."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    original = Path.rglob

    def only_pyx(self: Path, pattern: str) -> object:
        """Find as pathlib does, but no Python module."""
        return [] if pattern == "*.py" else original(self, pattern)

    Path.rglob = only_pyx  # type: ignore[method-assign, assignment]
    sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
    runpy.run_path("setup.py", run_name="__main__")
