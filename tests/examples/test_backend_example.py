"""examples/backend is a backend of 150 lines that is installed, found, and conforms."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from paths import ROOT
from processes import evaluate, pip_install, run_python

EXAMPLE = ROOT / "examples" / "backend"

# Of everything that hypothesis draws in the kit, a few examples: the laws have tests elsewhere.
FEW = """
from hypothesis import settings

settings.register_profile("few", max_examples=4, derandomize=True, database=None)
settings.load_profile("few")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Site of the distribution."""
    pytest.importorskip("torch")
    pytest.importorskip("array_api_compat")
    source = tmp_path_factory.mktemp("source") / "backend"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    return pip_install(tmp_path_factory.mktemp("site"), source)


def test_it_is_short():
    source = (EXAMPLE / "normcore_tensors" / "backend.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 150
    assert "from normcore" not in source  # public names are all it needs


def test_it_conforms(site, tmp_path):
    shutil.copytree(EXAMPLE / "tests", tmp_path, dirs_exist_ok=True)
    (tmp_path / "conftest.py").write_text(FEW, encoding="utf-8")
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", os.devnull)
    # PyTorch has threads of its own; the laws of normcore's take most of the time.
    options += ("-k", "not any_number_of_threads")
    done = run_python("-m", "pytest", *options, tmp_path, site=site, timeout=600)
    passed, skipped = re.search(r"(\d+) passed, (\d+) skipped", done.stdout).groups()
    assert int(passed) > 90
    assert int(skipped) <= 4, done.stdout


def test_scalers_and_layers_run_on_it(site):
    (status, named, unasked, scaled, learned, normalized), said = evaluate(
        """
        import numpy as np, torch
        from normcore.array_backend.selection import select_backend
        X = torch.tensor([[0.0, 10.0], [1.0, 30.0], [4.0, 20.0]])
        scaler = nc.MinMaxScaler(backend="tensors").fit(X)
        scaled = scaler.transform(X)
        assert type(scaled) is torch.Tensor and scaled.dtype == torch.float32
        with nc.use_backend("tensors"):
            named = select_backend(X).name
            learned = nc.RobustScaler().fit(X.numpy()).center_.tolist()
            y = nc.BatchNorm(2)(X)
        result = (
            nc.backends()["tensors"], named, select_backend(X).name, scaled.tolist(), learned,
            [y.mean(0).abs().max().item() < 1e-6, y.std(0, unbiased=False).round().tolist()],
        )
        """,
        site=site,
    )
    assert status[0]
    assert (named, unasked) == ("tensors", "cpu")
    assert scaled == [[0.0, 0.0], [0.25, 1.0], [1.0, 0.5]]
    assert learned == [1.0, 20.0]
    assert normalized == [True, [1.0, 1.0]]
    assert said == []
