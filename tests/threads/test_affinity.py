"""The processor affinity of threads is the host's matter, unless it lets normcore set it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from processes import printed

import normcore as nc

COMPILER = shutil.which("cc")

# Stands before the C library's function and tells standard output of every call.
TELLTALE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <unistd.h>

int sched_setaffinity(pid_t thread, size_t size, const cpu_set_t *set)
{
    int (*real)(pid_t, size_t, const cpu_set_t *) = dlsym(RTLD_NEXT, "sched_setaffinity");
    return write(1, "set\n", 4) == 4 ? real(thread, size, set) : -1;
}
"""

# Threads that sleep are woken several times; a barrier makes sure that all of them come.
WAKE = """
import os, threading, time
import numpy as np
import normcore as nc
from normcore import threads

def affinities():
    tasks = map(int, os.listdir("/proc/self/task"))
    return {tuple(sorted(os.sched_getaffinity(each))) for each in tasks}

before = affinities()
nc.set_num_threads(4)
SETTING
barrier = threading.Barrier(4)
for _ in range(5):
    time.sleep(0.05)
    threads.run(lambda start, stop: barrier.wait(30), 4)
nc.StandardScaler().fit(np.ones((300_000, 8)))
time.sleep(0.05)
print(len(os.listdir("/proc/self/task")) >= 4, affinities() == before)
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2 or COMPILER is None,
    reason="needs Linux, two processors and a C compiler",
)
@pytest.mark.parametrize(
    ("setting", "sets"),
    [
        ("", False),
        ("nc.set_thread_affinity(True)", True),
        ("nc.set_thread_affinity(True); nc.set_thread_affinity(False)", False),
    ],
)
def test_affinity_is_set_for_hosts_that_allow_it_and_given_back(
    setting: str, sets: bool, tmp_path: Path
) -> None:
    (tmp_path / "telltale.c").write_text(TELLTALE)
    library = tmp_path / "telltale.so"
    command = [COMPILER, "-shared", "-fPIC", tmp_path / "telltale.c", "-o", library, "-ldl"]
    subprocess.run(command, check=True)
    shown = printed(WAKE.replace("SETTING", setting), LD_PRELOAD=str(library))
    *calls, last = shown.splitlines()
    assert last == "True True"
    assert set(calls) == ({"set"} if sets else set())


@pytest.mark.parametrize("bad", [{0, 1}, [0], 1, 0, "1", None])
def test_processors_are_not_what_it_takes(bad: object) -> None:
    with pytest.raises(TypeError, match="True or False"):
        nc.set_thread_affinity(bad)
