"""NVRTC's raw binding, as CuPy has it: "machine code" is the text and its macros."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

__all__ = ["FakeNvrtc", "unpacked"]

_LOG = "normcore.cu(12): error: expected a ';'\n1 error detected in the compilation"


class NVRTCError(RuntimeError):
    """CuPy's."""


class FakeNvrtc:
    """The module ``cupy.cuda.nvrtc``."""

    NVRTCError = NVRTCError

    def __init__(self) -> None:
        self.refuses = False
        self.programs: dict[int, list[Any]] = {}

    def getVersion(self) -> tuple[int, int]:
        return 13, 0

    def getSupportedArchs(self) -> tuple[int, ...]:
        return 80, 90

    def createProgram(self, src: str, name: str, headers: Any, include_names: Any) -> int:
        self.programs[len(self.programs) + 1] = [src, ()]
        return len(self.programs)

    def compileProgram(self, prog: int, options: Any) -> None:
        if self.refuses:
            raise NVRTCError("NVRTC_ERROR_COMPILATION (6)")
        self.programs[prog][1] = tuple(each[2:] for each in options if each.startswith("-D"))

    def getProgramLog(self, prog: int) -> str:
        assert prog in self.programs
        return _LOG

    def getCUBIN(self, prog: int) -> bytes:
        return pickle.dumps(tuple(self.programs[prog]))

    def destroyProgram(self, prog: int) -> None:
        del self.programs[prog]


def unpacked(path: str) -> tuple[str, tuple[str, ...]]:
    """Return the text and the macros of a file of "machine code"."""
    text, defines = pickle.loads(Path(path).read_bytes())
    return text, defines
