"""Nothing outside a caller's arrays is read or written: beside them are pages without access.

In a process of its own, which such an access would end.
"""

from __future__ import annotations

import mmap
import sys

import pytest
from paths import ROOT
from processes import run_python

CODE = """
import ctypes, itertools, mmap
import ml_dtypes
import numpy as np
from c_door import call

PAGE = mmap.PAGESIZE
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
kept = []

def guarded(values, at_end):
    size = -(-values.nbytes // PAGE) * PAGE
    memory = mmap.mmap(-1, size + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, size + PAGE):
        assert protect(start + page, PAGE, 0) == 0
    offset = PAGE + (size - values.nbytes if at_end else 0)
    array = np.frombuffer(memory, np.uint8, values.nbytes, offset).view(values.dtype)
    array = array.reshape(values.shape)
    array[...] = values
    kept.append(memory)
    return array

rng = np.random.default_rng(0)
number = 0
for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
    for shape, axis in (
        ((33, 5), 1), ((7, 3, 11), 1), ((700, 3), 1), ((3, 16), 1), ((5, 4, 130), 1),
        ((300, 257), 1), ((1, 2, 4099), 1), ((4, 9, 17), 2),
    ):
        for at_end in (False, True):
            x, dy, y = (guarded(rng.normal(size=shape).astype(dtype), at_end) for _ in range(3))
            channels, rows = shape[axis], int(np.prod(shape[:-1]))
            size = shape[-1]
            states = guarded(np.zeros((7, channels)), at_end)
            of_rows = guarded(np.zeros((7, rows)), at_end)
            a, b, c, d = (guarded(np.ones(channels, dtype), at_end) for _ in range(4))
            e, f, g = (guarded(np.ones(size, dtype), at_end) for _ in range(3))
            call("moments", x, axis, 0, states)
            call("moments", x, axis, 1, states)
            call("rescale", x, axis, a, b, c, d, y)
            call("batch_norm", x, axis, a, b, 1e-5, y, states)
            call("batch_norm_backward", dy, x, axis, states, 1, a, 1e-5, y, c, d)
            call("batch_norm_inference", x, axis, a, b, None, None, 1e-5, y)
            call("row_norm", x, 1, 1, e, f, 1e-5, y, of_rows)
            call("row_norm_backward", dy, x, 1, 1, of_rows, e, 1e-5, y, f, g)
            positions = [size for i, size in enumerate(shape) if i != axis]
            weights = guarded(np.ones(positions, dtype), at_end)
            call("weighted_moments", x, axis, weights, 1, states)
            if axis == 1:
                for groups in {1, channels}:
                    of_groups = guarded(np.zeros((7, shape[0] * groups)), at_end)
                    call("group_norm", x, 1, groups, a, b, 1e-5, y, of_groups)
                    call("group_norm_backward", dy, x, 1, groups, of_groups, a, 1e-5, y, c, d)
            number += 1
print(number)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected by mprotect")
def test_arrays_between_pages_that_nobody_may_touch():
    assert mmap.PAGESIZE
    helpers = ROOT / "tests" / "helpers"
    assert run_python("-c", CODE, site=helpers, NORMCORE_NUM_THREADS="2").stdout == "64\n"
