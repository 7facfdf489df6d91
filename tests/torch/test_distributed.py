"""Batch norm over processes of torch.distributed: real ones, on gloo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks
from numpy.testing import assert_allclose, assert_array_equal
from processes import environment
from ranks import TIMEOUT, check_against_one_process, check_core_layer, joined

from normcore import functional

pytest.importorskip("torch")
import torch
import torch_ranks

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this PyTorch has no gloo",
)

SCRIPT = Path(ranks.__file__)
#: Seconds for starting, importing PyTorch and working; a process that takes longer is killed.
LIMIT = 240


def gloo(task, size, directory, codes=None):
    """Run a task in processes of its own; returns what each rank saved."""
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, "gloo", task, directory, str(rank), str(size)],
            env=environment(GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = []
    try:
        for process in processes:
            outputs.append(process.communicate(timeout=LIMIT)[0])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [each.returncode for each in processes] == (codes or [0] * size), "\n".join(outputs)
    paths = [directory / f"{rank}.npz" for rank in range(size)]
    return [dict(np.load(path)) if path.exists() else None for path in paths]


@pytest.mark.parametrize("size", [2, 3])
def test_functions(size, tmp_path):
    found = gloo("functions", size, tmp_path)
    check_against_one_process(found)
    for each in found:
        assert_array_equal(each["parts"], found[0]["parts"])


@pytest.mark.parametrize("size", [2, 3])
def test_layers(size, tmp_path):
    found = gloo("layers", size, tmp_path)
    check_against_one_process(found, "alone ")
    moments = check_against_one_process(found, "DDP ", "mean")
    for each in found:
        for name in ("alone", "DDP"):
            assert_allclose(each[f"{name} running_mean"], 0.1 * moments.mean, rtol=1e-14)
            expected = 0.9 + 0.1 * moments.var(ddof=1)
            assert_allclose(each[f"{name} running_var"], expected, rtol=1e-14)


@pytest.mark.parametrize("size", [2, 3])
def test_layer_of_the_core(size, tmp_path):
    check_core_layer(gloo("core_layer", size, tmp_path))


def test_errors_are_on_every_rank(tmp_path):
    found = gloo("errors", 2, tmp_path)
    for each in found:
        assert str(each["channels"]) == (
            "ValueError: the ranks disagree on the number of channels: rank 0 has 3, rank 1 has 4"
        )
    assert str(found[0]["gamma"]).startswith("RuntimeError: rank 1 of 2 refused its arguments")
    assert str(found[1]["gamma"]).startswith("ValueError: gamma must have shape (3,)")
    check_against_one_process(found)


def test_errors_of_a_layer_are_on_every_rank(tmp_path):
    first, second = gloo("layer_errors", 2, tmp_path)
    assert str(first["channels"]).startswith("RuntimeError: rank 1 of 2 refused its arguments")
    assert str(second["channels"]).startswith("ShapeError: the input of batch_norm has 4 channels")
    for each in (first, second):
        assert "ValueError: training needs at least 2 values" in str(each["single"])
        assert each["count"] == 0
        assert_array_equal(each["running_var"], 1)


def test_models_train_as_in_one_process(tmp_path):
    """FSDP 1 and 2, DistributedDataParallel, distributed tensors, derivatives of any order."""
    found = gloo("torch_models", 2, tmp_path)
    expected = torch_ranks.alone()
    for each in found:
        assert sorted(each) == sorted(expected)
        for name, value in expected.items():
            assert_allclose(each[name], value, rtol=1e-10, atol=1e-10, err_msg=name)
    assert len(set(expected["losses, plain"])) == torch_ranks.STEPS


def test_in_a_compiled_graph(tmp_path):
    found = gloo("compiled", 2, tmp_path)
    x, dy, *_ = joined()
    y, moments = functional.batch_norm(x)
    dx, _, _ = functional.batch_norm_backward(dy, x, moments)
    assert_allclose(np.concatenate([each["y"] for each in found]), y, rtol=1e-12, atol=1e-12)
    assert_allclose(np.concatenate([each["dx"] for each in found]), dx, rtol=1e-12, atol=1e-12)


def test_a_rank_dies(tmp_path):
    found = gloo("death", 3, tmp_path, codes=[0, 0, 3])
    assert TIMEOUT < LIMIT
    for each in found[:2]:
        assert str(each["error"]).startswith(("RuntimeError", "DistBackendError"))
    assert found[2] is None
