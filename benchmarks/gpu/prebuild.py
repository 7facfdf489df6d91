"""Make, on a machine without a GPU, what a run on a device would have to build.

    python -m benchmarks.gpu.prebuild DIRECTORY [--python python3.12] [--capability 80 90]

leaves DIRECTORY/python, an unpacked wheel for that Python, and DIRECTORY/kernels, machine code for
each of the compute capabilities, so that

    INSTALLED=1 PYTHONPATH=DIRECTORY/python NORMCORE_CACHE_DIR=DIRECTORY/kernels \
        bash benchmarks/gpu.sh results

compiles nothing. It is of the kernels that small arrays of every dtype ask for, and of the NVRTC
here, which must be of the device's major version.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from normcore_cupy import compiler
from normcore_cupy.device import C_TYPES

from benchmarks.gpu.emulation import ROOT, emulated

#: Text of kernels, and the macros that they are compiled with.
Wanted = list[tuple[str, dict[str, str]]]


def main(directory: Path, python: str, capability: list[str], record: bool) -> None:
    """Fill the directory."""
    if record:
        (directory / "wanted.json").write_text(json.dumps(recorded()))
        return
    wheel(directory / "python", python)
    kernels(directory / "kernels", capability)


def wheel(directory: Path, python: str) -> None:
    """Build a wheel and unpack it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            python,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--wheel-dir",
            folder,
            str(ROOT),
        ]
        subprocess.run(command, check=True)
        (built,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(built) as archive:
            archive.extractall(directory)
    print(f"{directory}: {built.name}")


def kernels(directory: Path, capabilities: list[str]) -> None:
    """Compile all kernels that are ever asked for, into a directory for NORMCORE_CACHE_DIR."""
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["NORMCORE_CACHE_DIR"] = str(directory)
    with tempfile.TemporaryDirectory() as folder:  # a process of its own has the fake CuPy
        record = [sys.executable, "-m", "benchmarks.gpu.prebuild", folder, "--record"]
        subprocess.run(record, check=True, cwd=ROOT)
        wanted: Wanted = json.loads(Path(folder, "wanted.json").read_text())
    asked = [(text, each, defines) for each in capabilities for text, defines in wanted]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = set(pool.map(lambda arguments: compiler.machine_code(*arguments), asked))
    size = sum(path.stat().st_size for path in files)
    print(f"{directory}: {len(files)} files, {size / 1e6:.1f} MB")


def recorded(dtypes: Sequence[str] = tuple(C_TYPES)) -> Wanted:
    """Return what small arrays of some dtypes have compiled on the emulated device."""
    asked: dict[str, tuple[str, dict[str, str]]] = {}
    original = compiler.machine_code

    def recording(source: str, capability: str, defines: Mapping[str, str]) -> Path:
        asked[source + json.dumps(dict(defines))] = source, dict(defines)
        return original(source, capability, defines)

    compiler.machine_code = recording
    try:
        with emulated():
            from benchmarks.gpu import small_shapes

            small_shapes.main(math.inf, dtypes)
    finally:
        compiler.machine_code = original
    return list(asked.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--capability", nargs="+", default=["80", "90"])
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)
    main(**vars(parser.parse_args()))
