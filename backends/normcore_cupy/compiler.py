"""Kernels from source to machine code: NVRTC through CuPy's raw binding, and a cache on disk.

CuPy's own route is not taken, because it appends ``-ftz=true`` to the options and so flushes
subnormals.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from normcore_cupy.device import C_TYPES

__all__ = [
    "OPTIONS",
    "CompileError",
    "compile_kernels",
    "defines",
    "include_directory",
    "machine_code",
    "why_missing",
]

# Every operation rounds once, and subnormals are numbers.
OPTIONS = ("-std=c++17", "-ftz=false", "-fmad=false", "-prec-div=true", "-prec-sqrt=true")
_HEADERS = ("cuda_fp16.h", "cuda_bf16.h")


class CompileError(RuntimeError):
    """A kernel that does not compile; the message holds NVRTC's log."""


def why_missing() -> str:
    """Say what keeps kernels from being compiled here; nothing where they can be."""
    from cupy.cuda import nvrtc

    try:
        major = nvrtc.getVersion()[0]
    except (ImportError, OSError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        return f"NVRTC is missing ({first}); pip install 'cupy-cuda13x[ctk]', or cupy-cuda12x's"
    if include_directory() is None:
        package = "nvidia-cuda-runtime" if major >= 13 else f"nvidia-cuda-runtime-cu{major}"
        return f"CUDA's headers (cuda_fp16.h) are missing; pip install '{package}=={major}.*'"
    return ""


def include_directory() -> str | None:
    """Return the directory of CUDA's headers, or None: wheels, conda, then a toolkit."""
    candidates = []
    try:
        from cuda.pathfinder import find_nvidia_header_directory

        candidates.append(find_nvidia_header_directory("cudart"))
    except (ImportError, RuntimeError):  # it raises where it knows no such headers
        pass
    from cupy.cuda import get_cuda_path

    root = get_cuda_path()
    if root:
        candidates.append(os.path.join(root, "include"))
    for each in candidates:
        if each and all(os.path.isfile(os.path.join(each, header)) for header in _HEADERS):
            return str(each)
    return None


def defines(dtype: str, out_dtype: str) -> dict[str, str]:
    """Return the macros that specialize kernels for the names of two dtypes.

    Raises
    ------
    TypeError
        If there are no kernels for one of them.
    """
    for name in (dtype, out_dtype):
        if name not in C_TYPES:
            raise TypeError(f"there is no kernel for dtype {name}; there are {', '.join(C_TYPES)}")
    return {"NC_T": C_TYPES[dtype], "NC_OUT": C_TYPES[out_dtype]}


def machine_code(source: str, capability: str, defines: Mapping[str, str]) -> Path:
    """Return the file with the kernels' machine code, compiled if no earlier process did.

    Parameters
    ----------
    source : str
        CUDA C++.
    capability : str
        The device's compute capability, as ``"90"``.
    defines : mapping
        Macros and their values.

    Raises
    ------
    CompileError
        If the source does not compile.
    """
    from cupy.cuda import nvrtc

    architecture, suffix = _target(capability, nvrtc.getSupportedArchs())
    options = (f"-arch={architecture}", *OPTIONS, *(f"-D{k}={v}" for k, v in defines.items()))
    # Of any NVRTC of this major version: the same driver runs it, and files can be made elsewhere.
    key = repr((source, options, nvrtc.getVersion()[0])).encode()
    name = f"{hashlib.sha256(key).hexdigest()}.{suffix}"
    given = _given_directory() / name  # which may be read alone, as what was made elsewhere
    path = given if given.is_file() else _cache_directory() / name
    if not path.is_file():
        _write(path, compile_kernels(source, options, suffix))
    return path


def compile_kernels(source: str, options: tuple[str, ...], kind: str = "cubin") -> bytes:
    """Compile, without a device; ``kind`` is "cubin" or "ptx".

    Raises
    ------
    CompileError
        With the log.
    """
    from cupy.cuda import nvrtc

    include = include_directory()
    if include is not None:
        options = (*options, f"-I{include}")
    program = nvrtc.createProgram(source, "normcore.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        if kind == "cubin":
            return _whole(nvrtc.getCUBIN(program))
        text = nvrtc.getPTX(program)
        return text if isinstance(text, bytes) else text.encode()
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program).strip()
        raise CompileError(
            f"a kernel does not compile ({error}) with {' '.join(options)}:\n{log}"
        ) from error
    finally:
        nvrtc.destroyProgram(program)


def _whole(cubin: bytes) -> bytes:
    """Return machine code with the 0 at its end, which CuPy cuts off as if it ended a string.

    The tables of 64-bit ELF lie on multiples of 8, and one of them comes last.
    """
    return cubin + bytes(-len(cubin) % 8)


def _target(capability: str, supported: tuple[int, ...]) -> tuple[str, str]:
    """Return NVRTC's name of an architecture: of the device, or one that its driver translates."""
    if int(capability) in supported:
        return f"sm_{capability}", "cubin"
    older = [each for each in supported if each < int(capability)]
    if not older:
        raise CompileError(
            f"this NVRTC compiles for compute capability {min(supported)} and newer, but the "
            f"device has {capability}; install an older CUDA toolkit and the CuPy that goes with it"
        )
    return f"compute_{max(older)}", "ptx"


def _given_directory() -> Path:
    """Return where machine code is looked for."""
    named = os.environ.get("NORMCORE_CACHE_DIR")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(named) if named else Path(base, "normcore", "kernels")


def _cache_directory() -> Path:
    """Return where machine code is kept; for this process alone where nothing can be written."""
    directory = _given_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            return directory
    except OSError:
        pass
    return Path(_temporary_directory().name)


@functools.cache
def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="normcore-")


def _write(path: Path, code: bytes) -> None:
    """Store machine code such that no other process ever sees a part of it."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(code)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
