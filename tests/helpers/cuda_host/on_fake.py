"""Run what follows as ``python`` would, with the fake CuPy in place and ready.

    python -m cuda_host.on_fake -m benchmarks.gpu.table directory --quick

Takes the name of a script, ``-m`` and a module, or ``-c`` and code, so that it can stand for the
``PYTHON`` of benchmarks/gpu.sh.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from normcore_cupy import compiler, probe

from cuda_host.fake_cupy import installed


def main(arguments: list[str]) -> None:
    """Run a program; its exit is that of this process."""
    with pytest.MonkeyPatch.context() as patch, installed(patch):
        # A driver without NVML, so that the probe asks the fake how many devices there are.
        patch.setattr(probe, "_loads", lambda name: object() if "cuda" in name else None)
        patch.setattr(compiler, "why_missing", lambda: "")
        if arguments[0] == "-P":  # as the interpreter itself is run
            arguments = arguments[1:]
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        elif arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
