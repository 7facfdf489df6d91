"""What is wrong with a call of normcore.h is a status and a message, and nothing is written."""

from __future__ import annotations

import ctypes as c

import numpy as np
import pytest
from c_door import ALL, FUNCTIONS, Array, array, status, table
from paths import ROOT
from processes import run_python

NULL_POINTER, BAD_DTYPE, BAD_SHAPE, BAD_STRIDES, TOO_LARGE, OVERLAP, BAD_VALUE = range(1, 8)


class Batch:
    """Arguments of each function that are good; tests spoil one."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x, self.dy, self.y = rng.normal(size=(3, 6, 4)).astype(np.float32)
        self.states = np.zeros((7, 4))
        self.states[0] = 6.0
        self.rows = np.zeros((7, 6))
        self.rows[0] = 4.0
        self.vectors = rng.uniform(1.0, 2.0, (6, 4))
        a, b, mean, var, dgamma, dbeta = self.vectors
        x, dy, y, states = self.x, self.dy, self.y, self.states
        self.arguments = {
            "moments": {"x": x, "axis": 1, "skipna": 0, "states": states},
            "merge": {"channels": 4, "states": states, "others": states.copy()},
            "summarize": {
                "channels": 4, "states": states, "ddof": 0.0, "count": a, "mean": mean, "var": var,
            },
            "given": {"channels": 4, "mean": mean, "var": var, "states": states},
            "rescale": {
                "x": x, "axis": 1, "center": mean, "scale": var, "gamma": a, "beta": b, "y": y,
            },
            "batch_norm": {
                "x": x, "axis": 1, "gamma": a, "beta": b, "eps": 1e-5, "y": y, "states": states,
            },
            "batch_norm_backward": {
                "dy": dy, "x": x, "axis": 1, "states": states, "training": 1, "gamma": a,
                "eps": 1e-5, "dx": y, "dgamma": dgamma, "dbeta": dbeta,
            },
            "batch_norm_inference": {
                "x": x, "axis": 1, "mean": mean, "var": var, "gamma": a, "beta": b, "eps": 1e-5,
                "y": y,
            },
            "row_norm": {
                "x": x, "num_axes": 1, "centered": 1, "gamma": a, "beta": b, "eps": 1e-5, "y": y,
                "states": self.rows,
            },
            "row_norm_backward": {
                "dy": dy, "x": x, "num_axes": 1, "centered": 1, "states": self.rows, "gamma": a,
                "eps": 1e-5, "dx": y, "dgamma": dgamma, "dbeta": dbeta,
            },
            "running": {
                "channels": 4, "states": states, "weight": 0.1, "ddof": 1.0, "mean": mean,
                "var": var,
            },
        }  # fmt: skip

    def bytes(self):
        return [each.tobytes() for each in (self.x, self.dy, self.y, self.vectors)]

    def refused(self, name, **changed):
        """Return the status and message of a call with some arguments changed."""
        arguments = self.arguments[name] | changed
        assert arguments.keys() == self.arguments[name].keys()
        before, states = self.bytes(), (self.states.tobytes(), self.rows.tobytes())
        found = status(name, *arguments.values())
        if found[0]:
            assert self.bytes() == before
            assert (self.states.tobytes(), self.rows.tobytes()) == states
        return found


@pytest.fixture
def batch():
    return Batch()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_good_arguments_are_good(batch, name):
    assert batch.refused(name) == (0, "")


POINTERS = [
    (name, argument)
    for name, arguments in Batch().arguments.items()
    for argument, value in arguments.items()
    if isinstance(value, np.ndarray)
]
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


@pytest.mark.parametrize(("name", "argument"), [each for each in ARRAYS if each[0] != "moments"])
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
       {"moments", "merge", "given", "batch_norm", "row_norm"})
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


@pytest.mark.parametrize("name", [each for each in FUNCTIONS if "norm" in each])
@pytest.mark.parametrize("eps", [-1e-9, np.nan, np.inf])
def test_eps(batch, name, eps):
    code, message = batch.refused(name, eps=eps)
    assert (code, "eps" in message) == (BAD_VALUE, True)


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


def test_values(batch):
    var = batch.arguments["given"]["var"].copy()
    var[2] = -1.0
    for name in ("given", "batch_norm_inference"):
        code, message = batch.refused(name, var=var)
        assert (code, "var is negative in channel 2" in message) == (BAD_VALUE, True)
    for ddof in (np.nan, np.inf):
        assert batch.refused("summarize", ddof=ddof)[0] == BAD_VALUE
        assert batch.refused("running", ddof=ddof)[0] == BAD_VALUE
    for weight in (-0.1, 1.1, np.nan):
        assert batch.refused("running", weight=weight)[0] == BAD_VALUE
    one = np.ones((1, 4), np.float32)
    assert batch.refused("batch_norm", x=one, y=one.copy())[0] == BAD_VALUE
    garbage = np.full((7, 4), np.nan)
    for name in ("merge", "summarize", "batch_norm_backward"):
        code, message = batch.refused(name, states=garbage)
        assert (code, "states" in message) == (BAD_VALUE, True)


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
