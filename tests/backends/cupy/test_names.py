"""What the backend asks of CuPy is in the CuPy that is installed, and so is what its fake has."""

from __future__ import annotations

import inspect
import re
import types
from functools import reduce
from pathlib import Path

import normcore_cupy
import numpy as np
import pytest
from cuda_host.fake_cupy import FakeCupy, Stream
from cuda_host.fake_streams import Device
from normcore_cupy import backend as cupy_backend
from normcore_cupy import ordering

import normcore

pytest.importorskip("cupy", exc_type=ImportError)
import cupy

#: Names below cupy, with the parameters that are passed; some take an instance first.
USED = {
    "RawModule": ["path", "enable_cooperative_groups"],
    "RawModule.get_function": ["name"],
    "RawKernel.__call__": ["grid", "block", "args"],
    "asarray": ["a", "dtype"],
    "cuda.Device": [],
    "cuda.Stream": ["non_blocking"],
    "cuda.Stream.from_external": ["obj"],
    "cuda.MemoryPointer": ["mem", "offset"],
    "cuda.Stream.is_capturing": [],
    "cuda.Stream.record": [],
    "cuda.Stream.synchronize": [],
    "cuda.Stream.wait_event": ["event"],
    "cuda.alloc_pinned_memory": ["size"],
    "cuda.UnownedMemory": ["ptr", "size", "owner", "device_id"],
    "cuda.get_current_stream": [],
    "cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor": [
        "func",
        "blockSize",
        "dynamicSMemSize",
    ],
    "cuda.get_cuda_path": [],
    "cuda.nvrtc.compileProgram": ["prog", "options"],
    "cuda.nvrtc.createProgram": ["src", "name", "headers", "include_names"],
    "cuda.nvrtc.destroyProgram": ["prog"],
    "cuda.nvrtc.getCUBIN": ["prog"],
    "cuda.nvrtc.getPTX": ["prog"],
    "cuda.nvrtc.getProgramLog": ["prog"],
    "cuda.nvrtc.getSupportedArchs": [],
    "cuda.nvrtc.getVersion": [],
    "cuda.memory.OutOfMemoryError": ["size", "total"],
    "cuda.runtime.getDevice": [],
    "cuda.runtime.getDeviceCount": [],
    "cuda.runtime.runtimeGetVersion": [],
    "cuda.using_allocator": ["allocator"],
    "cumsum": ["a"],
    "empty": ["shape", "dtype"],
    "from_dlpack": ["array"],
    "ndarray.__dlpack__": ["stream"],
    "ndarray.get": ["stream", "out", "blocking"],
    "ndarray.set": ["arr", "stream"],
    "sum": ["a", "axis"],
    "zeros": ["shape", "dtype"],
    # of the benchmarks
    "cuda.Event": [],
    "cuda.Graph.launch": ["stream"],
    "cuda.Stream.begin_capture": [],
    "cuda.Stream.end_capture": [],
    "cuda.get_elapsed_time": ["start_event", "end_event"],
    "cuda.memory.MemoryPointer.copy_from_device_async": ["src", "size"],
    "cuda.runtime.driverGetVersion": [],
    "cuda.runtime.getDeviceProperties": [],
    "cuda.runtime.memGetInfo": [],
    "cuda.set_allocator": ["allocator"],
    "get_default_memory_pool": [],
    "empty_like": ["prototype"],
    "moveaxis": ["a", "source", "destination"],
    "lib.stride_tricks.as_strided": ["x", "shape", "strides"],
    "percentile": ["a", "q", "axis"],
}


def found(name):
    return reduce(getattr, name.split("."), cupy)


def parameters(function):
    """Return names, from the signature or, as Cython keeps it, the first line of the docstring."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        first = (function.__doc__ or "").strip().splitlines()[0]
        inside = re.search(r"\((.*)\)", first)
        assert inside, f"{function} does not say what it takes"
        given = [each.partition("=")[0].split() for each in inside[1].split(",")]
        return [words[-1] for words in given if words]


@pytest.mark.parametrize("name", USED)
def test_what_is_called_takes_what_is_passed(name):
    function = found(name)
    assert callable(function)
    if USED[name]:
        assert set(USED[name]) <= set(parameters(function))


def test_the_namespace_has_what_is_asked_of_it():
    """The fake answers with whatever NumPy has, and CuPy has less."""
    modules = [
        path
        for package in (normcore, normcore_cupy)
        for path in Path(package.__file__).parent.rglob("*.py")
    ]
    asked = {
        name
        for path in modules
        for name in re.findall(r"\bxp\.([a-z]\w*)", path.read_text("utf-8"))
    }
    assert {"where", "isdtype", "broadcast_to", "cumsum"} <= asked
    assert [name for name in sorted(asked) if not hasattr(cupy, name)] == []


def test_devices_and_kernels_tell_what_is_asked_of_them():
    asked = Device(FakeCupy(), 0).attributes
    assert all(hasattr(cupy.cuda.runtime, f"cudaDevAttr{name}") for name in asked)
    assert inspect.isdatadescriptor(cupy.cuda.Device.attributes)
    assert inspect.isdatadescriptor(cupy.RawKernel.kernel)
    assert inspect.isdatadescriptor(cupy.cuda.Function.ptr)


def test_errors_are_what_is_caught():
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    error = cupy.cuda.runtime.CUDARuntimeError(cupy_backend._MEMORY_ALLOCATION)
    assert error.status == cupy_backend._MEMORY_ALLOCATION
    assert "cudaErrorMemoryAllocation" in str(error)
    assert issubclass(cupy.cuda.driver.CUDADriverError, RuntimeError)  # made by the driver alone
    assert issubclass(cupy.cuda.nvrtc.NVRTCError, Exception)


def test_memory_tells_whose_it_is():
    """CuPy's own kinds have these names; lent memory is of none of them."""
    memory = cupy.cuda.memory
    own = tuple(getattr(memory, name) for name in ordering._OWN)
    assert all(issubclass(each, memory.BaseMemory) for each in own)
    assert not issubclass(memory.UnownedMemory, own)
    place = np.zeros(3)
    lent = memory.UnownedMemory(place.ctypes.data, place.nbytes, place, 0)
    array = cupy.ndarray((3,), np.float64, memptr=memory.MemoryPointer(lent, 0))
    assert ordering.Ordering(cupy)._is_lent(array)
    pointer = memory.MemoryPointer(memory.UnownedMemory(0, 0, place, 1), 0)
    empty = cupy.ndarray((0, 2), np.dtype("bfloat16"), pointer, (4, 2))
    assert (empty.data.device_id, empty.strides, empty.dtype.name) == (1, (4, 2), "bfloat16")
    steps = cupy.ndarray((2, 1), np.dtype("float32"), array.data, (-8, 0))
    assert (steps.strides, steps.data.ptr) == ((-8, 0), place.ctypes.data)
    from cupy._core import dlpack

    assert not issubclass(dlpack.DLPackMemory, own)


def test_pinned_memory_is_a_buffer_that_can_be_written():
    """As any memory is that its pointer is made of."""
    host = np.arange(8.0)
    memory = types.SimpleNamespace(ptr=host.ctypes.data, size=host.nbytes)
    pinned = cupy.cuda.PinnedMemoryPointer(memory, 0)
    view = np.frombuffer(pinned, np.float32, 5)
    assert np.shares_memory(view, host)
    view[:] = -1.0
    assert host.view(np.float32)[:6].tolist() == [-1.0] * 5 + [host.view(np.float32)[5]]


def test_the_fake_has_nothing_that_cupy_has_not():
    fake = FakeCupy()
    for module, name in ((fake.cuda, "cuda"), (fake.cuda.runtime, "cuda.runtime")):
        for each in vars(module):
            assert each.startswith("_") or hasattr(found(name), each), f"cupy.{name}.{each}"
    for each in vars(fake.cuda.memory):
        assert hasattr(cupy.cuda.memory, each)
    for each, method in vars(type(fake.nvrtc)).items():
        if inspect.isfunction(method) and not each.startswith("_"):
            real = parameters(getattr(cupy.cuda.nvrtc, each))
            assert list(inspect.signature(method).parameters)[1:] == real, each
    for each, method in vars(Stream).items():
        if inspect.isfunction(method) and not each.startswith("_"):
            real = inspect.signature(getattr(cupy.cuda.Stream, each)).parameters
            assert list(inspect.signature(method).parameters) == list(real), each
