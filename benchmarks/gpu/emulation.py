"""The emulated device of the tests, for what is learned about kernels without a device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

__all__ = ["ROOT", "emulated"]

ROOT = Path(__file__).parents[2]


@contextmanager
def emulated() -> Iterator[ModuleType]:
    """Put the fake CuPy in the place of CuPy, with a device that the probe takes for ready.

    Nothing may have imported CuPy before.
    """
    sys.path.append(str(ROOT / "tests" / "helpers"))
    import pytest
    from cuda_host.fake_cupy import installed
    from normcore_cupy import compiler, probe

    with pytest.MonkeyPatch.context() as patch, installed(patch) as cupy:
        patch.setattr(probe, "_loads", lambda name: object() if "cuda" in name else None)
        patch.setattr(compiler, "why_missing", lambda: "")
        yield cupy
