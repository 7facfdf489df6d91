"""The benchmarks, which are no part of what is installed."""

import importlib.util
import sys

from paths import ROOT

__all__ = ["FOLDER", "import_benchmarks"]

FOLDER = ROOT / "benchmarks"


def import_benchmarks():
    """Import the benchmarks without the tree on the path, which would hide what is installed."""
    if "benchmarks" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["benchmarks"])
