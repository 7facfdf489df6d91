"""Batch norm over the ranks of MPI: two real ones, started by mpirun."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks
from processes import environment, run_python
from ranks import check_against_one_process, check_core_layer

MPIRUN = shutil.which("mpirun")
if MPIRUN is None:
    pytest.skip("there is no mpirun", allow_module_level=True)
pytest.importorskip("mpi4py")

SCRIPT = Path(ranks.__file__)
LIMIT = 120


def mpirun(task, directory, size=2):
    """Run a task in processes of its own; returns what each rank saved, and how it ended."""
    done = subprocess.run(
        [MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n", str(size),
         sys.executable, SCRIPT, "mpi", task, directory],
        env=environment(), capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    paths = [directory / f"{rank}.npz" for rank in range(size)]
    return [dict(np.load(path)) if path.exists() else None for path in paths], done


def test_functions(tmp_path):
    found, done = mpirun("functions", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_against_one_process(found)


def test_layer_of_the_core(tmp_path):
    found, done = mpirun("core_layer", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_core_layer(found)


def test_errors_are_on_every_rank(tmp_path):
    found, done = mpirun("errors", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for each in found:
        assert str(each["channels"]) == (
            "ValueError: the ranks disagree on the number of channels: rank 0 has 3, rank 1 has 4"
        )
    assert str(found[0]["gamma"]).startswith("RuntimeError: rank 1 of 2 refused its arguments")
    assert str(found[1]["gamma"]).startswith("ValueError: gamma must have shape (3,)")
    check_against_one_process(found)


def test_a_rank_dies(tmp_path):
    """Then mpirun ends the others."""
    found, done = mpirun("death", tmp_path)
    assert done.returncode != 0
    assert found == [None, None]


def test_communicator_of_ones_own():
    code = (
        "from mpi4py import MPI\n"
        "from normcore.mpi import MPICommunicator\n"
        "import numpy as np\n"
        "own = MPICommunicator(MPI.COMM_SELF)\n"
        "assert (own.rank, own.size) == (0, 1)\n"
        "assert own.allreduce(np.ones((2, 3))[:, ::2]).tolist() == [[1, 1], [1, 1]]\n"
    )
    run_python("-c", code, timeout=LIMIT)
