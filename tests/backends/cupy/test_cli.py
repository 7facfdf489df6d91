"""The command line with ``--backend cupy``: files go to the device in chunks and come back."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import build
from processes import run_python

pytestmark = build.needs_compiler


def normcore(directory, *arguments, fake=True):
    program = ["-m", "cuda_host.on_fake"] if fake else []
    return run_python("-P", *program, "-m", "normcore", *arguments, cwd=directory).stdout


def test_a_table_is_the_same_by_way_of_the_device(tmp_path):
    pytest.importorskip("click")
    table = np.random.default_rng(0).standard_normal((5000, 3)) * [1.0, 1e3, 1e-3] + [0.0, 1e7, 5.0]
    np.savetxt(tmp_path / "in.csv", table, delimiter=",", header="a,b,c", comments="", fmt="%.17g")
    given = "fit-transform", "in.csv", "--scaler", "standard", "--no-progress"
    normcore(tmp_path, *given, "--backend", "cupy", "-o", "there.csv", "--save", "there.json")
    normcore(tmp_path, *given, "--backend", "cpu", "-o", "here.csv", fake=False)
    here, there = (
        np.loadtxt(tmp_path / f"{name}.csv", delimiter=",", skiprows=1)
        for name in ("here", "there")
    )
    np.testing.assert_allclose(there, here, rtol=1e-14, atol=1e-15)
    used = "transform", "in.csv", "--load", "there.json", "--no-progress", "--backend", "cpu"
    normcore(tmp_path, *used, "-o", "again.csv", fake=False)  # fitted there, used here
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()


def test_the_list_of_backends_says_ready(tmp_path):
    pytest.importorskip("click")
    lines = [line.split() for line in normcore(tmp_path, "backends").splitlines()]
    assert ["cupy", "ready:", "CuPy", "14.2.0"] in [words[:4] for words in lines]
