"""Which build of the kernels runs: one for each instruction set, the same bits from all."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from types import SimpleNamespace

from normcore_cpu.processor import supports

__all__ = ["INSTRUCTION_SETS", "UNITS", "VARIABLE", "available", "check", "chosen", "kernels"]

#: Names and the packages that hold the modules built for them, the best one last.
INSTRUCTION_SETS = {
    "baseline": "normcore_cpu.kernels",
    "avx2": "normcore_cpu.avx2",
    "avx512": "normcore_cpu.avx512",
}
VARIABLE = "NORMCORE_INSTRUCTION_SET"

#: The modules of each package, and their entry points.
UNITS = {
    "statistics": ("moments", "extrema"),
    "order_statistics": (
        "brackets",
        "channel_values",
        "count_numbers",
        "values_at_ranks",
        "values_at_ranks_of_lists",
    ),
    "normalization": (
        "rescale",
        "rescale_where",
        "backward_reduce",
        "backward_elemt",
        "normalize",
        "normalize_backward",
        "normalize_rows",
        "normalize_rows_backward",
    ),
    "native": (
        "native_backward_elemt",
        "native_backward_reduce",
        "native_moments",
        "native_normalize",
        "native_normalize_backward",
        "native_normalize_rows",
        "native_normalize_rows_backward",
        "native_rescale",
    ),
    "tensors": ("TensorKernels", "c_functions"),
}


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


@cache
def kernels(instruction_set: str) -> SimpleNamespace:
    """Return the entry points of the kernels, by name, as built for an instruction set.

    Raises
    ------
    ImportError
        If a module is missing, or was built from other sources.
    """
    package = INSTRUCTION_SETS[instruction_set]
    try:
        return SimpleNamespace(
            **{
                name: getattr(importlib.import_module(f"{package}.{unit}"), name)
                for unit, names in UNITS.items()
                for name in names
            }
        )
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        raise ImportError(
            f"the kernels in {package} are not built, or not all from the same sources; "
            f"run `pip install .` in the source tree ({error})"
        ) from error
