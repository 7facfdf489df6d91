"""NVRTC through ctypes: compile kernels for a GPU where there is none, and read what ptxas says."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["WHEELS", "Compiler", "Usage", "find"]

#: Versions whose figures the table of registers holds.
WHEELS = "nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88"

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILL = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_STACK = re.compile(r"(\d+) bytes stack frame")
_USED = re.compile(r"Used (\d+) registers")


class Usage(NamedTuple):
    """What one kernel takes of the machine."""

    registers: int
    spilled_bytes: int
    stack_bytes: int


class Compiler:
    """One NVRTC library, with the headers that kernels include."""

    def __init__(self, library: Path, include: Path) -> None:
        for builtins in library.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins))  # NVRTC finds it by name only if it is loaded
        self._nvrtc = ctypes.CDLL(str(library))
        self._nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        self._include = include
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def compile(self, source: str, arch: str, options: Sequence[str]) -> dict[str, Usage]:
        """Compile to machine code and return the usage of each kernel.

        Raises
        ------
        RuntimeError
            If NVRTC refuses the source; its log is the message.
        """
        return _usage(self.machine_code(source, arch, options)[1])

    def machine_code(self, source: str, arch: str, options: Sequence[str]) -> tuple[bytes, str]:
        """Compile, and return the machine code and the log.

        Raises
        ------
        RuntimeError
            If NVRTC refuses the source; its log is the message.
        """
        flags = [f"-arch={arch}", f"-I{self._include}", "--ptxas-options=-v", *options]
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None,
            None,
        )  # fmt: skip
        try:
            values = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
            status = self._nvrtc.nvrtcCompileProgram(program, len(flags), values)
            log = self._text("ProgramLog", program)
            if status != 0:
                raise RuntimeError(f"NVRTC does not compile for {arch}:\n{log}")
            size = self._size("CUBIN", program)
            if size == 0:
                raise RuntimeError(f"NVRTC made no machine code for {arch}:\n{log}")
            code = ctypes.create_string_buffer(size)
            self._call("nvrtcGetCUBIN", program, code)
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))
        return code.raw, log

    def _size(self, what: str, program: ctypes.c_void_p) -> int:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        return size.value

    def _text(self, what: str, program: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(self._size(what, program))
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw.rstrip(b"\0").decode(errors="replace")

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._nvrtc, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: {self._nvrtc.nvrtcGetErrorString(status).decode()}")


def _usage(log: str) -> dict[str, Usage]:
    kernels: dict[str, Usage] = {}
    for block in log.split("ptxas info    : Compiling entry function")[1:]:
        entry = _ENTRY.search("Compiling entry function" + block)
        used, stack = _USED.search(block), _STACK.search(block)
        spills = [int(number) for pair in _SPILL.findall(block) for number in pair]
        if entry is None or used is None or stack is None or not spills:
            raise RuntimeError(f"ptxas reports no registers and spills in:\n{block}")
        kernels[entry[1]] = Usage(int(used[1]), sum(spills), int(stack[1]))
    return kernels


@functools.cache
def find() -> Compiler | None:
    """Return the compiler of the installed NVIDIA wheels, or None."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else [Path(each) for each in spec.submodule_search_locations or ()]
    libraries = [file for root in roots for file in root.glob("*/lib/libnvrtc.so.*")]
    headers = [file for root in roots for file in root.glob("*/include/cuda_fp16.h")]
    if not libraries or not headers:
        return None
    return Compiler(sorted(libraries)[-1], sorted(headers)[-1].parent)
