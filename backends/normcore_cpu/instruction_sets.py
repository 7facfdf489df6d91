"""Which build of the kernels runs: one for each instruction set, the same bits from all."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from types import SimpleNamespace

from normcore_cpu.processor import supports

__all__ = ["INSTRUCTION_SETS", "VARIABLE", "available", "check", "chosen", "kernels"]

#: Names and the packages that hold the modules built for them, the best one last.
INSTRUCTION_SETS = {
    "baseline": "normcore_cpu.kernels",
    "avx2": "normcore_cpu.avx2",
    "avx512": "normcore_cpu.avx512",
}
VARIABLE = "NORMCORE_INSTRUCTION_SET"
MODULES = (
    "backward_elemt",
    "backward_reduce",
    "batchnorm",
    "brackets",
    "extrema",
    "moments",
    "rescale",
    "rows",
    "rows_backward",
    "selection",
)


@cache
def available() -> tuple[str, ...]:
    """Return the names of the instruction sets that were built and that the processor has."""
    return tuple(
        name
        for name, package in INSTRUCTION_SETS.items()
        if supports(name) and importlib.util.find_spec(package) is not None
    )


def chosen() -> str:
    """Return the instruction set in use: the best, or what ``NORMCORE_INSTRUCTION_SET`` names.

    Raises
    ------
    ValueError
        If the variable names one that is unknown or cannot be used here.
    """
    name = os.environ.get(VARIABLE)
    return check(name, f"{VARIABLE} is") if name else available()[-1]


def check(name: str, what: str = "the instruction set is") -> str:
    """Return the name of an instruction set that can be used here; raises as `chosen`."""
    if name not in INSTRUCTION_SETS:
        known = ", ".join(INSTRUCTION_SETS)
        raise ValueError(f"{what} {name!r}, which is no instruction set; known: {known}")
    if name not in available():
        usable = ", ".join(available())
        raise ValueError(f"{what} {name!r}, which this machine or build lacks; usable: {usable}")
    return name


def kernels(instruction_set: str) -> SimpleNamespace:
    """Return the modules of kernels, by name, as built for an instruction set."""
    package = INSTRUCTION_SETS[instruction_set]
    return SimpleNamespace(
        **{name: importlib.import_module(f"{package}.{name}") for name in MODULES}
    )
