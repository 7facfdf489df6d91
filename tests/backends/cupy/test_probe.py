"""Whether the CuPy backend can run, in words, and what compiles without a device."""

from __future__ import annotations

import ctypes
import struct
import sys
import types

import numpy as np
import pytest
from discovery import fresh_discovery
from normcore_cupy import compiler, device, probe
from processes import evaluate

import normcore as nc
from normcore.array_backend import selection


class Refused(RuntimeError):
    """CuPy's CUDARuntimeError."""


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy of CUDA 13 that nothing is wrong with."""

    def never():
        raise AssertionError("the probe initialised CUDA, which spoils forks")

    runtime = types.SimpleNamespace(
        is_hip=False,
        runtimeGetVersion=lambda: 13020,
        getDeviceCount=never,
        CUDARuntimeError=Refused,
    )
    module = types.ModuleType("cupy")
    module.__version__ = "14.2.0"
    module.cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(compiler, "why_missing", lambda: "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return module


class Nvml:
    """NVML of a driver."""

    def __init__(self, version, number, failing=()):
        self.version, self.number, self.failing = version, number, failing
        self.uuids = [f"GPU-{each:08x}-7f3c-4f0a-9d52-0c5b1e6f7a88" for each in (0xAB12, 0xAB34)]
        self.started = 0

    def nvmlInit_v2(self):
        self.started += 1
        return 9 if "init" in self.failing else 0

    def nvmlShutdown(self):
        self.started -= 1
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, pointer):
        pointer._obj.value = self.version
        return 0

    def nvmlDeviceGetCount_v2(self, pointer):
        pointer._obj.value = self.number
        return 3 if "count" in self.failing else 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, pointer):
        pointer._obj.value = 1000 + index.value
        return 0

    def nvmlDeviceGetUUID(self, device, text, size):
        text.value = self.uuids[device.value % 2].encode()
        assert size.value == len(text)
        return 3 if "uuid" in self.failing else 0


def with_driver(monkeypatch, nvml):
    monkeypatch.setattr(probe, "_loads", lambda name: object() if "cuda" in name else nvml)


# -- each state ----------------------------------------------------------------------------


@pytest.mark.usefixtures("cupy")
def test_ready(monkeypatch):
    nvml = Nvml(13020, 1)
    with_driver(monkeypatch, nvml)
    assert probe.status() == (True, "", "CuPy 14.2.0")
    assert nvml.started == 0


def test_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    status = probe.status()
    assert not status
    assert "CuPy is not installed" in status.reason
    assert "normcore-arrays[cuda13]" in status.reason


def test_broken_installation(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libcublas.so.12: cannot open')")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert probe.status().reason == "CuPy does not import: libcublas.so.12: cannot open"
    (tmp_path / "cupy.py").write_text("import a_module_that_is_not_there")
    assert "a_module_that_is_not_there" in probe.status().reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"__version__": "13.6.0"}, "CuPy 13.6.0 is too old"),
        ({"is_hip": True}, "built for ROCm"),
    ],
)
def test_another_cupy(cupy, monkeypatch, change, expected):
    for name, value in change.items():
        monkeypatch.setattr(cupy if name == "__version__" else cupy.cuda.runtime, name, value)
    assert expected in probe.status().reason


@pytest.mark.usefixtures("cupy")
def test_no_driver(monkeypatch):
    monkeypatch.setattr(probe, "_loads", lambda name: None)
    assert probe.status().reason == "no NVIDIA driver is installed"


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize(
    ("nvml", "visible", "expected"),
    [
        (Nvml(12040, 1), None, "the driver supports CUDA 12.4, but this CuPy is built for CUDA 13"),
        (Nvml(13000, 0), None, "the NVIDIA driver finds no device"),
        (Nvml(13000, 2), "", "CUDA_VISIBLE_DEVICES='' hides every device"),
        (Nvml(13000, 2), "-1", "CUDA_VISIBLE_DEVICES='-1' hides every device"),
        (Nvml(13000, 2), "1", ""),
        (Nvml(13000, 2), " 1 , 7", ""),
        (Nvml(13000, 2), "2", "CUDA_VISIBLE_DEVICES='2' hides every device: '2' names none"),
        (Nvml(13000, 2), "7,0", "CUDA_VISIBLE_DEVICES='7,0' hides every device: '7' names none"),
        (Nvml(13000, 2), "cuda:0", "CUDA_VISIBLE_DEVICES='cuda:0' hides every device"),
        (Nvml(13000, 2), "-2", "CUDA_VISIBLE_DEVICES='-2' hides every device"),
        (Nvml(13000, 2), "GPU-0000ab12", ""),
        (Nvml(13000, 2), "GPU-0000ab", "CUDA_VISIBLE_DEVICES='GPU-0000ab' hides every device"),
        (Nvml(13000, 2), "GPU-ffff", "CUDA_VISIBLE_DEVICES='GPU-ffff' hides every device"),
        (Nvml(13000, 2, {"uuid"}), "GPU-ffff", ""),  # it cannot be told
        (Nvml(13000, 2), "MIG-3eb87630-93d5-b2b6-b8ff-9b359caf4ee2", ""),
    ],
)
def test_no_device(monkeypatch, nvml, visible, expected):
    with_driver(monkeypatch, nvml)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    status = probe.status()
    assert status.reason.startswith(expected)
    assert bool(status) == (not expected)


@pytest.mark.parametrize("nvml", [None, Nvml(13000, 1, {"init"}), Nvml(13000, 1, {"count"}), 3])
def test_without_nvml_cuda_is_asked(cupy, monkeypatch, nvml):
    def refuse():
        raise Refused("cudaErrorInsufficientDriver")

    with_driver(monkeypatch, nvml)
    for count, expected in (
        (lambda: 1, ""),
        (lambda: 0, "the NVIDIA driver finds no device"),
        (refuse, "CUDA does not start: cudaErrorInsufficientDriver"),
    ):
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", count)
        assert probe.status().reason == expected


@pytest.mark.usefixtures("cupy")
def test_no_compiler(monkeypatch):
    with_driver(monkeypatch, Nvml(13000, 1))
    monkeypatch.setattr(compiler, "why_missing", lambda: "NVRTC is missing")
    assert probe.status() == (False, "NVRTC is missing", "")


def test_nvml_is_called_as_c_declares_it():
    """Two out parameters, an int and an unsigned int."""
    seen = []

    class Typed(Nvml):
        def nvmlSystemGetCudaDriverVersion_v2(self, pointer):
            seen.append(type(pointer._obj))
            return super().nvmlSystemGetCudaDriverVersion_v2(pointer)

        def nvmlDeviceGetCount_v2(self, pointer):
            seen.append(type(pointer._obj))
            return super().nvmlDeviceGetCount_v2(pointer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "_loads", lambda name: Typed(13000, 4))
        driver = probe.find_driver()
    assert driver[:2] == (13000, 4)
    assert driver.uuids[:2] == tuple(Nvml(0, 0).uuids)
    assert seen == [ctypes.c_int, ctypes.c_uint]


@pytest.mark.usefixtures("cupy")
def test_a_hidden_device_is_told_with_those_that_there_are(monkeypatch):
    with_driver(monkeypatch, Nvml(13000, 2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    reason = probe.status().reason
    assert reason.endswith("there are 0 to 1, " + ", ".join(Nvml(0, 0).uuids))


# -- through the door ----------------------------------------------------------------------


def test_the_registry_tells_why_not(monkeypatch):
    """Also from another backend's list, and without importing CuPy for arrays of the host."""
    import normcore_cpu.plugin
    import normcore_cupy.plugin

    fresh_discovery(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", None)
    for plugin in (normcore_cpu.plugin, normcore_cupy.plugin):
        nc.register(plugin)
    assert selection.select_backend(np.ones(3)).name == "cpu"
    assert not nc.backends()["cupy"].ready
    with pytest.raises(RuntimeError, match=r"backend 'cupy' is not ready: CuPy is not installed"):
        nc.get_backend("cupy")
    scaler = nc.StandardScaler(backend="cupy")
    with pytest.raises(RuntimeError, match=r"'cupy' is not ready"):
        scaler.fit(np.ones((3, 2)))
    assert not hasattr(scaler, "mean_")


def test_nothing_imports_cupy_before_it_is_asked_for():
    result, _ = evaluate(
        """
        import sys
        import numpy as np
        import normcore_cupy.plugin, normcore_cupy.backend
        nc.StandardScaler().fit_transform(np.ones((3, 2)))
        result = [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cuda")]
        """
    )
    assert result == []


def test_forks_work_after_the_probe():
    result, _ = evaluate(
        """
        import os, sys
        import numpy as np
        from normcore_cupy import probe
        probe.status()
        child = os.fork()
        if child == 0:
            scaled = nc.StandardScaler().fit_transform(np.arange(300000.0).reshape(-1, 3))
            os._exit(0 if abs(scaled.mean()) < 1e-9 else 1)
        result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """
    )
    assert result == 0


# -- with CuPy installed -------------------------------------------------------------------


@pytest.fixture
def nvrtc(monkeypatch, tmp_path):
    """The NVRTC that CuPy finds, and an empty cache."""
    binding = pytest.importorskip("cupy.cuda", exc_type=ImportError).nvrtc
    try:
        binding.getVersion()
    except RuntimeError as error:
        pytest.skip(str(error))
    if compiler.include_directory() is None:
        pytest.skip("CUDA's headers are not installed")
    monkeypatch.setenv("NORMCORE_CACHE_DIR", str(tmp_path / "cache"))
    return binding


def test_installed_without_a_driver():
    pytest.importorskip("cupy", exc_type=ImportError)
    if probe._loads("libcuda.so.1"):
        pytest.skip("there is a driver")
    assert probe.status().reason == "no NVIDIA driver is installed"


def test_missing_nvrtc_is_named(monkeypatch):
    nvrtc = pytest.importorskip("cupy.cuda", exc_type=ImportError).nvrtc

    def missing():
        raise RuntimeError("CuPy failed to load libnvrtc.so.13: OSError\nmore")

    monkeypatch.setattr(nvrtc, "getVersion", missing)
    reason = compiler.why_missing()
    assert reason.startswith("NVRTC is missing (CuPy failed to load libnvrtc.so.13: OSError)")
    assert "[ctk]" in reason


@pytest.mark.parametrize(
    ("version", "package"), [((13, 0), "nvidia-cuda-runtime=="), ((12, 9), "-cu12==12.*")]
)
def test_missing_headers_are_named(monkeypatch, version, package):
    nvrtc = pytest.importorskip("cupy.cuda", exc_type=ImportError).nvrtc
    monkeypatch.setattr(nvrtc, "getVersion", lambda: version)
    monkeypatch.setattr(compiler, "include_directory", lambda: None)
    reason = compiler.why_missing()
    assert "headers (cuda_fp16.h) are missing" in reason
    assert package in reason


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("kernel", ["moments", "extrema", "brackets", "rescale"])
def test_machine_code_is_whole(kernel):
    """As long as the tables say that its header places; CuPy hands out one byte less."""
    path = compiler.machine_code(device.source(kernel), "90", compiler.defines(*["float32"] * 2))
    code = path.read_bytes()
    program_headers, section_headers = struct.unpack_from("<QQ", code, 32)
    size, number, other_size, other_number = struct.unpack_from("<4H", code, 54)
    ends = program_headers + size * number, section_headers + other_size * other_number
    assert len(code) == max(ends)


@pytest.mark.usefixtures("nvrtc")
def test_machine_code_is_kept():
    assert compiler.why_missing() == ""
    text = device.source("rescale")
    path = compiler.machine_code(text, "90", compiler.defines("float32", "float32"))
    assert path.read_bytes()[:4] == b"\x7fELF"
    before = path.stat().st_mtime_ns
    again = compiler.machine_code(text, "90", compiler.defines("float32", "float32"))
    assert again == path
    assert path.stat().st_mtime_ns == before
    others = {
        compiler.machine_code(text, "90", compiler.defines("float16", "float16")),
        compiler.machine_code(text, "80", compiler.defines("float32", "float32")),
        compiler.machine_code(text + "\n//", "90", compiler.defines("float32", "float32")),
    }
    assert len(others | {path}) == 4
    assert len(list(path.parent.iterdir())) == 4  # and no leftovers


def test_a_failed_write_leaves_nothing_behind(nvrtc, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(compiler.os, "replace", fail)
    with pytest.raises(OSError, match=r"disk full"):
        compiler.machine_code('extern "C" __global__ void k() {}', "90", {})
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("nvrtc")
def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NORMCORE_CACHE_DIR", str(tmp_path / "file" / "below"))
    path = compiler.machine_code('extern "C" __global__ void k() {}', "90", {})
    assert path.is_file()
    assert tmp_path not in path.parents


@pytest.mark.usefixtures("nvrtc")
def test_a_kernel_that_does_not_compile_shows_the_log(tmp_path):
    with pytest.raises(compiler.CompileError, match=r'(?s)-ftz=false.*identifier "undefined_name"'):
        compiler.machine_code(
            'extern "C" __global__ void k(float* y) { *y = undefined_name; }', "90", {}
        )
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("nvrtc")
def test_devices_newer_or_older_than_the_compiler():
    text = 'extern "C" __global__ void k() {}'
    path = compiler.machine_code(text, "999", {})
    assert path.suffix == ".ptx"
    assert b".target sm_" in path.read_bytes()
    with pytest.raises(compiler.CompileError, match=r"device has 30"):
        compiler.machine_code(text, "30", {})


def test_a_dtype_without_a_kernel():
    with pytest.raises(TypeError, match=r"no kernel for dtype complex64; there are .*bfloat16"):
        compiler.defines("complex64", "float32")


def test_options_keep_subnormals_and_roundings():
    assert {"-ftz=false", "-fmad=false", "-prec-div=true", "-prec-sqrt=true"} <= set(
        compiler.OPTIONS
    )
