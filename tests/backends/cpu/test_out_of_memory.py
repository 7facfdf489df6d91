"""Wherever memory runs out in a call, it is MemoryError; more memory, and the call succeeds."""

from __future__ import annotations

import pytest
from processes import run_python

CODE = """
import resource
import numpy as np
import normcore as nc
from normcore import functional as f

nc.set_num_threads(1)
x = np.ones((2, 400_000), np.float16)
x[1] = 2.0
dy, moments, of_rows = x.copy(), f.batch_norm(x)[1], f.layer_norm(x)[1]
for name, call in (
    ("moments", lambda: f.moments(x, channel_axis=1)),
    ("batch_norm", lambda: f.batch_norm(x)),
    ("batch_norm_backward", lambda: f.batch_norm_backward(dy, x, moments)),
    ("layer_norm_backward", lambda: f.layer_norm_backward(dy, x, of_rows)),
):
    refused, megabytes = 0, 1
    while True:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit = used + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            call()
        except MemoryError:
            refused, megabytes = refused + 1, megabytes + 4
        else:
            break
    print(name, refused > 0)
"""


def test_memory_that_runs_out():
    pytest.importorskip("resource")
    lines = run_python("-c", CODE, OPENBLAS_NUM_THREADS="1").stdout.splitlines()
    assert len(lines) == 4
    assert all(line.endswith(" True") for line in lines), lines
