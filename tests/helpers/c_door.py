"""The functions of normcore.h, called through ctypes: without the GIL, on memory of NumPy's."""

from __future__ import annotations

import ctypes as c

import numpy as np

from normcore import c_api
from normcore.layout.bfloat16 import is_bfloat16

__all__ = [
    "ALL",
    "API",
    "FUNCTIONS",
    "NULL_VECTORS",
    "Array",
    "Call",
    "array",
    "call",
    "status",
    "table",
]

CODES = {"float16": 1, "float32": 2, "float64": 3}
BFLOAT16 = 4
ALL = -(2**31)
NULL_VECTORS = (None,) * 4


class Array(c.Structure):
    _fields_ = (
        ("data", c.c_void_p),
        ("sizes", c.POINTER(c.c_int64)),
        ("strides", c.POINTER(c.c_int64)),
        ("ndim", c.c_int32),
        ("dtype", c.c_int32),
    )


class Call(c.Structure):
    _fields_ = (("num_threads", c.c_int32), ("message", c.c_char * 252))


ARRAY, DOUBLES, CALL = c.POINTER(Array), c.c_void_p, c.POINTER(Call)
INT, COUNT, REAL = c.c_int32, c.c_int64, c.c_double

#: The arguments of each function, in the order of the table.
FUNCTIONS = {
    "moments": (ARRAY, INT, INT, DOUBLES),
    "merge": (COUNT, DOUBLES, DOUBLES),
    "summarize": (COUNT, DOUBLES, REAL, DOUBLES, DOUBLES, DOUBLES),
    "given": (COUNT, DOUBLES, DOUBLES, DOUBLES),
    "rescale": (ARRAY, INT, ARRAY, ARRAY, ARRAY, ARRAY, ARRAY),
    "batch_norm": (ARRAY, INT, ARRAY, ARRAY, REAL, ARRAY, DOUBLES),
    "batch_norm_backward": (
        ARRAY, ARRAY, INT, DOUBLES, INT, ARRAY, REAL, ARRAY, ARRAY, ARRAY,
    ),
    "batch_norm_inference": (ARRAY, INT, ARRAY, ARRAY, ARRAY, ARRAY, REAL, ARRAY),
    "row_norm": (ARRAY, INT, INT, ARRAY, ARRAY, REAL, ARRAY, DOUBLES),
    "row_norm_backward": (ARRAY, ARRAY, INT, INT, DOUBLES, ARRAY, REAL, ARRAY, ARRAY, ARRAY),
    "running": (COUNT, DOUBLES, REAL, REAL, DOUBLES, DOUBLES),
    "weighted_moments": (ARRAY, INT, ARRAY, INT, DOUBLES),
    "group_norm": (ARRAY, INT, COUNT, ARRAY, ARRAY, REAL, ARRAY, DOUBLES),
    "group_norm_backward": (
        ARRAY, ARRAY, INT, COUNT, DOUBLES, ARRAY, REAL, ARRAY, ARRAY, ARRAY,
    ),
}  # fmt: skip


class API(c.Structure):
    _fields_ = (
        ("size", c.c_size_t),
        ("version", c.c_uint32),
        ("reserved", c.c_uint32),
        *((name, c.CFUNCTYPE(c.c_int, *types, CALL)) for name, types in FUNCTIONS.items()),
    )


def table() -> API:
    pointer = c.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = c.c_void_p, (c.py_object, c.c_char_p)
    return API.from_address(pointer(c_api.capsule, b"normcore.c_api.capsule"))


def array(x: np.ndarray | None) -> Array | None:
    """Describe an array, which the description keeps alive."""
    if x is None:
        return None
    described = Array(
        x.ctypes.data,
        (c.c_int64 * x.ndim)(*x.shape),
        (c.c_int64 * x.ndim)(*x.strides),
        x.ndim,
        BFLOAT16 if is_bfloat16(x.dtype) else CODES[x.dtype.name],
    )
    described.kept = x
    return described


def status(name: str, *arguments: object, threads: int = 0) -> tuple[int, str]:
    """Call a function; return its status and message."""
    how = Call(threads, b"not yet called")
    given = []
    for kind, value in zip(FUNCTIONS[name], arguments, strict=True):
        if kind is ARRAY:
            described = value if isinstance(value, Array) else array(value)
            given.append(None if described is None else c.byref(described))
        elif kind is DOUBLES and isinstance(value, np.ndarray):
            assert value.dtype == np.float64
            assert value.flags.c_contiguous
            given.append(value.ctypes.data)
        else:
            given.append(value)
    found = getattr(table(), name)(*given, c.byref(how))
    return found, how.message.decode()


def call(name: str, *arguments: object, threads: int = 0) -> None:
    """Call a function that is to succeed."""
    found = status(name, *arguments, threads=threads)
    assert found == (0, ""), found
