"""The examples are built and run: C without Python, Cython, and C++ with nanobind."""

from __future__ import annotations

import ctypes as c
import re
from array import array

import numpy as np
import pytest
from c_door import Call, table
from paths import ROOT
from processes import run_python

import normcore as nc


def pointer(x):
    return x.ctypes.data_as(c.c_void_p)


def test_a_library_in_c_trains_a_layer(built):
    library = c.CDLL(str(built("layer") / "liblayer.so"))
    library.layer_new.restype = c.c_void_p
    size = c.c_int64
    layer = c.c_void_p(library.layer_new(c.byref(table()), size(5)))
    rng = np.random.default_rng(0)
    reference = nc.BatchNorm(5)
    call = Call()
    for samples in (7, 3, 9):
        x, dy = rng.normal(1.0, 2.0, (2, samples, 5, 12)).astype(np.float32)
        y = np.empty_like(x)
        shape = size(samples), size(12)
        assert library.layer_forward(layer, pointer(x), pointer(y), *shape, c.byref(call)) == 0
        assert y.tobytes() == reference(x).tobytes()
        dx, dgamma, dbeta = reference.backward(dy)
        rate = c.c_float(0.1)
        args = layer, pointer(dy), pointer(x), *shape, rate, c.byref(call)
        assert library.layer_backward(*args) == 0
        assert dy.tobytes() == dx.tobytes()
        step = np.float32(0.1)
        reference.gamma = reference.gamma - step * dgamma.astype(np.float32)
        reference.beta = reference.beta - step * dbeta.astype(np.float32)
        parameters, averages = np.empty(10, np.float32), np.empty(10)
        library.layer_read(layer, pointer(parameters), pointer(averages))
        np.testing.assert_allclose(parameters[:5], reference.gamma, rtol=1e-6)
        # What is rounded to float32 in C, and not in Python, is the same from here on.
        reference.gamma, reference.beta = parameters[:5].copy(), parameters[5:].copy()
        np.testing.assert_array_equal(averages[:5], reference.running_mean)
        np.testing.assert_array_equal(averages[5:], reference.running_var)
    one = np.ones((1, 5, 1), np.float32)
    shape = size(1), size(1)
    assert library.layer_forward(layer, pointer(one), pointer(y), *shape, c.byref(call)) == 7
    assert call.message == b"x has one value in each channel: no variance"
    library.layer_free(layer)


def run_example(folder, code):
    """Return what code prints that finds the built examples."""
    return run_python("-c", code, site=folder).stdout


def test_a_module_in_cython_standardizes_chunks(built):
    printed = run_example(
        built("standardize"),
        """
import numpy as np
import normcore as nc, standardize
x = np.random.default_rng(0).normal(1e4, 3.0, (10_000, 6)).astype(np.float32)
for chunk in (10_000, 1000, 333):
    y = x.copy()
    standardize.standardize(y, chunk, num_threads=2)
    print(abs(y - nc.StandardScaler().fit_transform(x)).max() < 1e-6)
x.flags.writeable = True
try:
    standardize.batch_norm(np.ones((1, 2, 1), np.float32), 1)
except ValueError as error:
    print(error)
""",
    )
    assert printed.splitlines() == ["True"] * 3 + ["x has one value in each channel: no variance"]


def test_a_module_in_cpp_normalizes_memory_of_its_own(built):
    pytest.importorskip("nanobind")
    folder = built("features")
    printed = run_example(
        folder,
        f"""
import sys
import features  # before NumPy, which it does not use
import numpy as np
import normcore as nc
from array import array
rows = memoryview(array("f", {array("f", np.random.default_rng(0).normal(size=60)).tolist()}))
rows = rows.cast("B").cast("f", (12, 5))
for method, options in (("layer_norm", dict(eps=1e-3, num_threads=2)),
                        ("layer_norm_beside_python", dict(eps=1e-3))):
    store = features.Features(rows)
    expected, _ = nc.functional.layer_norm(np.asarray(rows), eps=1e-3)
    getattr(store, method)(**options)
    view = store.values()
    del store  # which the view keeps
    print(type(view).__module__, np.from_dlpack(view).tobytes() == expected.tobytes())
try:
    features.Features(rows).layer_norm(eps=-1.0)
except RuntimeError as error:
    print(error)
""",
    )
    *lines, message = printed.splitlines()
    assert len(lines) == 2
    assert all(line.endswith(" True") and not line.startswith("numpy") for line in lines), lines
    assert message == "eps must be positive or zero, and finite"


def test_python_runs_while_a_gigabyte_moves(built):
    printed = run_python(
        ROOT / "examples" / "c_api" / "one_gigabyte.py", site=built("standardize")
    ).stdout
    moved, counted = re.fullmatch(
        r"(\d+) GiB in [\d.]+ s; Python counted (\d+)\n", printed
    ).groups()
    assert int(moved) >= 1
    assert int(counted) > 10_000
