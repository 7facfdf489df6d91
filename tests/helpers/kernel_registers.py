"""The registers of every kernel, as NVRTC compiles it, and the table of those that are allowed.

``python tests/helpers/kernel_registers.py`` writes the table anew.
"""

from __future__ import annotations

import functools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cuda_host import nvrtc
from normcore_cupy.compiler import OPTIONS
from normcore_cupy.device import C_TYPES, source

TABLE = Path(__file__).with_suffix(".json")
ARCHITECTURES = ("sm_80", "sm_90")
#: Results have the dtype of the input where it is floating.
FLOATING = ("float64", "float32", "float16", "bfloat16")
#: What is compiled: integers take the same registers on either, and minutes.
PAIRS = [
    (architecture, dtype)
    for architecture in ARCHITECTURES
    for dtype in C_TYPES
    if dtype in FLOATING or architecture == ARCHITECTURES[-1]
]


def found() -> nvrtc.Compiler:
    compiler = nvrtc.find()
    if compiler is None:
        pytest.skip(f"NVRTC or its headers are not installed: pip install {nvrtc.WHEELS}")
    return compiler


def compiled(
    dtype: str, architecture: str, out: str | None = None, kernel: str | None = None
) -> dict[str, nvrtc.Usage]:
    out = out or (dtype if dtype in FLOATING else "float64")
    defines = f"-DNC_T={C_TYPES[dtype]}", f"-DNC_OUT={C_TYPES[out]}"
    return found().compile(source(kernel), architecture, [*OPTIONS, *defines])


@functools.cache
def table() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(TABLE.read_text())
    return loaded


def write_table() -> None:
    registers: dict[str, dict[str, dict[str, int]]] = {each: {} for each in ARCHITECTURES}
    with ThreadPoolExecutor(2) as pool:
        for (architecture, dtype), usage in zip(
            PAIRS, pool.map(lambda pair: compiled(pair[1], pair[0]), PAIRS), strict=True
        ):
            counts = {name: each.registers for name, each in sorted(usage.items())}
            registers[architecture][dtype] = counts
    rows = ",\n".join(
        f'  "{architecture}": {{\n'
        + ",\n".join(f'   "{name}": {json.dumps(each)}' for name, each in dtypes.items())
        + "\n  }"
        for architecture, dtypes in registers.items()
    )
    version = found().version
    TABLE.write_text(f'{{\n "nvrtc": "{version}",\n "registers": {{\n{rows}\n }}\n}}\n')


if __name__ == "__main__":
    write_table()
