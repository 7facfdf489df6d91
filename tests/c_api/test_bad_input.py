"""What is wrong with a call of normcore.h is a status and a message, and nothing is written."""

from __future__ import annotations

import ctypes as c

import numpy as np
import pytest
from c_door import ALL, FUNCTIONS, Array, array, status, table
from c_door_calls import POINTERS
from paths import ROOT
from processes import run_python

NULL_POINTER, BAD_DTYPE, BAD_SHAPE, BAD_STRIDES, TOO_LARGE, OVERLAP, BAD_VALUE = range(1, 8)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_are_good(batch, name):
    assert batch.refused(name) == (0, "")


OPTIONAL = {"center", "scale", "gamma", "beta", "dgamma", "dbeta"}


@pytest.mark.parametrize(("name", "argument"), POINTERS)
def test_null_pointers(batch, name, argument):
    code, message = batch.refused(name, **{argument: None})
    if argument in OPTIONAL or (name == "summarize" and argument != "states"):
        assert (code, message) == (0, "")
    else:
        assert (code, argument in message, "NULL" in message) == (NULL_POINTER, True, True)


WITHOUT_ARRAYS = {"merge", "summarize", "given", "running"}
ARRAYS = [
    (name, argument)
    for name, argument in POINTERS
    if name not in WITHOUT_ARRAYS and argument != "states"
]


def spoilt(x, **fields):
    described = array(x)
    for name, value in fields.items():
        setattr(described, name, value)
    return described


def sizes(*numbers):
    return (c.c_int64 * len(numbers))(*numbers)


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_arrays_that_are_not_what_they_say(batch, name, argument):
    good = batch.arguments[name][argument]
    number = good.itemsize
    for code, fields in (
        (NULL_POINTER, {"data": None}),
        (NULL_POINTER, {"sizes": None}),
        (BAD_DTYPE, {"dtype": 0}),
        (BAD_DTYPE, {"dtype": 5}),
        (BAD_DTYPE, {"dtype": -(2**31)}),
        (BAD_SHAPE, {"ndim": -1}),
        (BAD_SHAPE, {"ndim": 9}),
        (BAD_SHAPE, {"ndim": 2**31 - 1}),
        (BAD_SHAPE, {"sizes": sizes(*(-each for each in good.shape))}),
        (TOO_LARGE, {"sizes": sizes(*(2**62 for _ in good.shape))}),
        (TOO_LARGE, {"sizes": sizes(*(2**48 + 1 for _ in good.shape))}),
        (TOO_LARGE, {"strides": sizes(*(-(2**63) for _ in good.shape))}),
        (TOO_LARGE, {"strides": sizes(*(2**62 for _ in good.shape))}),
        (BAD_STRIDES, {"strides": sizes(*(each + 1 for each in good.strides))}),
        (BAD_STRIDES, {"data": good.ctypes.data + number // 2}),
    ):
        found, message = batch.refused(name, **{argument: spoilt(good, **fields)})
        assert (found, argument in message) == (code, True), (fields, found, message)


FITTING = [each for each in ARRAYS if each not in {("moments", "x"), ("weighted_moments", "x")}]


@pytest.mark.parametrize(("name", "argument"), FITTING)
def test_shapes_and_dtypes_that_do_not_fit(batch, name, argument):
    good = batch.arguments[name][argument]
    first = next(iter(batch.arguments[name]))
    if argument == first:
        code, message = batch.refused(name, **{argument: np.ones((6, 5), good.dtype)})
        assert code == BAD_SHAPE, message
        return
    code, message = batch.refused(name, **{argument: np.ones((*good.shape[:-1], 5), good.dtype)})
    assert (code, argument in message) == (BAD_SHAPE, True)
    if good.ndim == 2:
        code, message = batch.refused(name, **{argument: good.astype(np.float64)})
        assert (code, argument in message) == (BAD_DTYPE, True)
        code, message = batch.refused(name, **{argument: good[:, :, None].copy()})
        assert (code, argument in message) == (BAD_SHAPE, True)


@pytest.mark.parametrize(("name", "written"), [
    (name, written) for name, written in POINTERS
    if written in {"y", "dx", "dgamma", "dbeta"} or (written == "states" and name in
       {"moments", "weighted_moments", "merge", "given", "batch_norm", "row_norm", "group_norm"})
    or (name in {"summarize", "running"} and written != "states")
])  # fmt: skip
def test_overlap_of_results(batch, name, written):
    """With every other array of the call, in part and, unless it is mapped, in whole."""
    memory = np.ones(200)
    for other, value in batch.arguments[name].items():
        if not isinstance(value, np.ndarray) or other == written:
            continue
        result = batch.arguments[name][written]
        placed = {}
        for argument, like, start in ((other, value, 8), (written, result, 10)):
            flat = memory[start:].view(like.dtype)[: like.size]
            placed[argument] = flat.reshape(like.shape)
        code, message = batch.refused(name, **placed)
        assert (code, written in message, other in message) == (OVERLAP, True, True), message
    if written in {"y", "dx"}:
        code, message = batch.refused(name, **{written: np.broadcast_to(result[:1], result.shape)})
        assert (code, written in message) == (OVERLAP, True)


@pytest.mark.parametrize("name", sorted(WITHOUT_ARRAYS))
def test_numbers_of_channels(batch, name):
    for number, expected in ((-1, BAD_SHAPE), (-(2**63), BAD_SHAPE), (2**63 - 1, TOO_LARGE)):
        code, message = batch.refused(name, channels=number)
        assert (code, str(number) in message) == (expected, True)
    assert batch.refused(name, channels=0) == (0, "")


@pytest.mark.parametrize("axis", [2, -3, ALL, 2**31 - 1])
def test_axes(batch, axis):
    code, message = batch.refused("batch_norm", axis=axis)
    if axis == ALL:  # one channel, and vectors of four
        assert (code, "gamma" in message) == (BAD_SHAPE, True)
    else:
        assert (code, str(axis) in message) == (BAD_SHAPE, True)
    full = np.ones([1] * 7 + [3], np.float32)
    code, message = batch.refused("moments", x=full, axis=ALL)
    assert code == BAD_SHAPE


@pytest.mark.parametrize("name", ["row_norm", "row_norm_backward"])
@pytest.mark.parametrize("num_axes", [0, -1, 3, 2**31 - 1])
def test_numbers_of_axes(batch, name, num_axes):
    code, message = batch.refused(name, num_axes=num_axes)
    assert (code, str(num_axes) in message) == (BAD_SHAPE, True)


def test_strides_that_are_no_view(batch):
    memory = np.ones((9, 4, 7, 7), np.float32)
    x = memory[:, :, :5, :5]  # three axes of positions, at three distances
    states = np.empty((7, 4))
    code, message = status("moments", x, 1, 0, states)
    assert (code, "copy" in message) == (BAD_STRIDES, True)
    rows = np.ones((4, 6, 8), np.float32)[:, :5]
    code, message = status("row_norm", rows, 1, 1, None, None, 1e-5, rows, np.empty((7, 20)))
    assert (code, "copy" in message) == (BAD_STRIDES, True)


def test_broadcast_arrays_beyond_memory(batch):
    """Their sizes fit, but not what kernels keep of them."""
    x = spoilt(batch.x, sizes=sizes(2**47, 2), strides=sizes(0, 0), dtype=2)
    assert batch.refused("moments", x=x, axis=0)[0] in {OVERLAP, TOO_LARGE, 8}
    none = dict.fromkeys(("center", "scale", "gamma", "beta"))
    assert batch.refused("rescale", x=x, y=Array.from_buffer_copy(x), **none)[0] == OVERLAP


def test_memory_that_runs_out():
    """Of a kernel of its own process, which may have little more than the arrays."""
    pytest.importorskip("resource")
    code = """
import resource
import numpy as np
from c_door import NULL_VECTORS, status
x, states = np.ones((2, 2_000_000), np.float16), np.zeros((7, 2_000_000))
dgamma, dy, rows = np.ones(2_000_000), x.copy(), np.ones((7, 2))
assert status("batch_norm", x, 1, None, None, 1e-5, x, states, threads=1) == (0, "")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
for name, *arguments in (
    ("moments", x, 1, 0, states),
    ("rescale", x, 1, *NULL_VECTORS, x),
    ("batch_norm", x, 1, None, None, 1e-5, x, states),
    ("batch_norm_backward", dy, x, 1, states, 1, None, 1e-5, x, dgamma, None),
    ("batch_norm_inference", x, 1, dgamma, dgamma, None, None, 1e-5, x),
    ("row_norm", x, 1, 1, None, None, 1e-5, x, rows),
    ("row_norm_backward", dy, x, 1, 1, rows, None, 1e-5, x, dgamma, None),
    ("weighted_moments", x, 1, np.ones(2), 0, states),
    ("group_norm", x, 1, 2, None, None, 1e-5, x, rows[:, :1].repeat(4, 1)),
    ("group_norm_backward", dy, x, 1, 2, rows[:, :1].repeat(4, 1), None, 1e-5, x, dgamma, None),
):
    print(name, *status(name, *arguments, threads=1))
"""
    done = run_python("-c", code, site=ROOT / "tests" / "helpers")
    lines = done.stdout.splitlines()
    refused = [line for line in lines if line.endswith("8 there is not enough memory for the call")]
    assert [line.split()[0] for line in refused] == [
        name for name in FUNCTIONS if name not in WITHOUT_ARRAYS | {"row_norm"}
    ]


def test_a_call_without_a_message(batch):
    """NULL for normcore_call: the process's threads, and the status alone."""
    function = table().batch_norm
    x, y = array(batch.x), array(batch.y)
    states = batch.states.ctypes.data
    assert function(c.byref(x), 1, None, None, 1e-5, c.byref(y), states, None) == 0
    assert function(None, 1, None, None, 1e-5, c.byref(y), states, None) == NULL_POINTER
