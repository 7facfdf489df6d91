"""Work that needs no GIL, as kernels are: compiled against what is installed for cimport."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import normcore as nc
from normcore import threads
from normcore.threads.pool import Work

SOURCE = """
# cython: language_level=3, boundscheck=False
from normcore.threads.pool cimport Work

cdef extern from "Python.h" nogil:
    int PyGILState_Check()

cdef class Marks(Work):
    cdef int[::1] items, begins, held

    def __init__(self, int[::1] items, int[::1] begins, int[::1] held):
        self.items, self.begins, self.held = items, begins, held

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef Py_ssize_t item
        self.begins[start] += 1
        for item in range(start, stop):
            self.items[item] += 1
            self.held[item] += PyGILState_Check()
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    pytest.importorskip("Cython")
    folder: Path = tmp_path_factory.mktemp("marking")
    (folder / "marking.pyx").write_text(SOURCE, encoding="utf-8")
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "--quiet"]
    subprocess.run([*command, "marking.pyx"], cwd=folder, check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return importlib.import_module("marking")


def test_each_item_is_worked_on_once_in_ranges_without_the_gil(compiled: ModuleType) -> None:
    items, begins, held = np.zeros((3, 1000), np.int32)
    work = compiled.Marks(items, begins, held)
    assert isinstance(work, Work)
    work(2, 5)
    assert items.tolist() == [0, 0, 1, 1, 1] + 995 * [0]
    assert np.flatnonzero(begins).tolist() == [2]
    for calls in range(1, 101):
        items[:], begins[:] = 0, 0
        with nc.use_num_threads(4):
            threads.run(work, 1000)
        assert (items == 1).all(), calls
        assert begins.sum() > 4  # ranges: more than threads, so that all end together
    assert not held.any()
