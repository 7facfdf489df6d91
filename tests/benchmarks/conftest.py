"""The modules of benchmarks/gpu, on the fake CuPy."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest
from cuda_host.fake_cupy import installed
from normcore_cupy import compiler, probe
from paths import ROOT


@pytest.fixture
def gpu(monkeypatch):
    """The modules, on the fake."""
    spec = importlib.util.spec_from_file_location(
        "benchmarks",
        ROOT / "benchmarks" / "__init__.py",
        submodule_search_locations=[str(ROOT / "benchmarks")],
    )
    monkeypatch.setitem(sys.modules, "benchmarks", importlib.util.module_from_spec(spec))
    monkeypatch.setattr(probe, "_loads", lambda name: object() if "cuda" in name else None)
    monkeypatch.setattr(compiler, "why_missing", lambda: "")
    names = (
        "cases",
        "common",
        "images",
        "jobs",
        "layers",
        "modules",
        "report",
        "rows",
        "table",
    )
    with installed(monkeypatch):
        yield SimpleNamespace(
            **{name: importlib.import_module(f"benchmarks.gpu.{name}") for name in names},
            lane=importlib.import_module("benchmarks.gpu.timing").Lane(1.0),
        )
    for name in [name for name in sys.modules if name.startswith("benchmarks.gpu")]:
        del sys.modules[name]
