"""The example of a GPU is only shown: here NumPy stands for CuPy, which has to have each name."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from paths import ROOT

EXAMPLE = (ROOT / "examples/gallery/gpu_fit_and_serve.py").read_text(encoding="utf-8")
SMALLER = {"10_000_000, 8": "1000, 8", "256, 64, 56, 56": "4, 64, 3, 2", '"cupy"': '"cpu"'}


def test_what_is_shown_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    cupy = SimpleNamespace(asnumpy=np.asarray, float32=np.float32, random=np.random)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.chdir(tmp_path)
    code = EXAMPLE
    for long, short in SMALLER.items():
        assert long in code
        code = code.replace(long, short)
    found: dict = {}
    exec(code, found)
    np.testing.assert_array_equal(found["host"], found["Y"][:5])
    np.testing.assert_array_equal(found["scaled"], found["Y"])
    assert found["dx"].shape == found["x"].shape
    assert "ndarray" in capsys.readouterr().out


def test_cupy_has_every_name() -> None:
    cupy = pytest.importorskip("cupy")
    names = set(re.findall(r"\bcp\.([\w.]+)", EXAMPLE))
    assert "random.default_rng" in names
    for name in names:
        holder = cupy
        for part in name.split("."):
            holder = getattr(holder, part)
    for method in set(re.findall(r"default_rng\(\d\)\.(\w+)", EXAMPLE)):
        assert hasattr(cupy.random.Generator, method)
