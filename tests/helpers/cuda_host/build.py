"""Compile kernels for the CPU, with g++ and the headers next to this file."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["SANITIZE", "CompileError", "build", "compiler", "kernel_names", "needs_compiler"]

_HERE = Path(__file__).parent
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")
_SYSTEM_HEADER = re.compile(r"^\s*#\s*include\s*<[^>]+>", re.MULTILINE)
_DYNAMIC = re.compile(r"extern\s+__shared__\s+([^;\[]*?)(\w+)\s*\[\s*\]\s*;")
_STATIC = re.compile(r"__shared__\s+([\w:]+(?:\s+[\w:]+)*)\s+(\w+)\s*((?:\[[^\]]*\]\s*)*);")
# No contraction and no fast-math, as on the device; what is left uninitialized holds a pattern.
# Hidden, since g++ lets all shared objects of a process have one copy of an inline variable.
_FLAGS = [
    "-O1", "-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wno-unused",
    "-Wno-unknown-pragmas", "-ffp-contract=off", "-ftrivial-auto-var-init=pattern",
    "-U_FORTIFY_SOURCE",
]  # fmt: skip
_SANITIZERS = [
    "-g", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all", "-fno-omit-frame-pointer",
]  # fmt: skip
#: Whether shared objects are built for AddressSanitizer and UBSan, whose runtimes the process
#: must have loaded already.
SANITIZE = os.environ.get("NORMCORE_CUDA_HOST_SANITIZE") == "1"


class CompileError(RuntimeError):
    """The host compiler refused the kernels; its output is the message."""


def kernel_names(source: str) -> list[str]:
    """Return the names of the kernels that a source defines."""
    return _KERNEL.findall(source)


@functools.cache
def compiler() -> str | None:
    """Return the path of g++, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


needs_compiler = pytest.mark.skipif(compiler() is None, reason="g++ is not installed")


@functools.cache
def build(source: str, defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Return the shared object of a source, compiled once and kept in a temporary directory.

    Parameters
    ----------
    source : str
        The text of the kernels.
    defines : tuple of "NAME=VALUE"
    """
    program = _program(source)
    flags = [*_FLAGS, *(_SANITIZERS if SANITIZE else []), *(f"-D{each}" for each in defines)]
    digest = hashlib.sha256("\0".join([program, *flags, compiler() or "", _headers()]).encode())
    path = _cache() / f"{digest.hexdigest()[:32]}.so"
    if not path.exists():
        _compile(program, flags, path)
    library = ctypes.CDLL(str(path))
    library.cuda_host_launch.restype = ctypes.c_char_p
    library.cuda_host_signature.restype = ctypes.c_char_p
    return library


def _program(source: str) -> str:
    """Return a C++ program of the kernels; a ``__shared__`` it does not know stays an error."""
    names = kernel_names(source)
    body = _DYNAMIC.sub(r"\1* \2 = reinterpret_cast<\1*>(cuda_host::dynamic_shared);", source)
    # A section for all of them would do, but g++ puts no variable of a template into a section.
    body = _STATIC.sub(r"static \1 \2\3; cuda_host::register_shared(&\2, sizeof \2);", body)
    return "\n".join(
        [
            '#include "cuda_names.h"',
            *_SYSTEM_HEADER.findall(source),
            "namespace {",
            '#line 1 "kernels.cuh"',
            body,
            "}",
            "#define KERNELS(X) " + " ".join(f"X({name})" for name in names),
            '#include "exports.h"',
            "",
        ]
    )


def _headers() -> str:
    files = sorted([*_HERE.glob("*.h"), *_HERE.glob("include/*.h")])
    return "\0".join(file.read_text() for file in files)


def _cache() -> Path:
    path = Path(tempfile.gettempdir()) / f"normcore-cuda-host-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user; remove it or set TMPDIR")
    return path


def _compile(program: str, flags: Sequence[str], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        source, target = Path(directory) / "kernels.cpp", Path(directory) / "kernels.so"
        source.write_text(program)
        includes = [f"-I{_HERE}", f"-I{_HERE / 'include'}"]
        command = [compiler() or "g++", *flags, *includes, str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CompileError(f"{' '.join(command)}\n{done.stderr}")
        target.replace(path)  # complete or not there, whoever else compiles it
