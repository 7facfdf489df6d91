"""The machine and the software that figures belong to, and whether they are worth measuring."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module, metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import normcore as nc

from .peers import PEERS, found

__all__ = ["default_threads", "facts", "refuse_uncompiled", "uncompiled", "use_threads"]

#: Modules that every call goes through; a build compiles all of the core or nothing.
COMPILED = (
    "affine",
    "batchnorm.layer",
    "functional",
    "layout.array_views",
    "scaling.estimator",
    "statistics.moments",
)
DISTRIBUTIONS = {"normcore": "normcore-arrays", "NumPy": "numpy", "PyTorch": "torch"}


def default_threads() -> int:
    """Return the number that normcore would use: the environment's, or that of processors."""
    return nc.get_num_threads()


def use_threads(threads: int) -> None:
    """Give normcore and every peer the same number of threads; before peers are imported."""
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    nc.set_num_threads(threads)
    torch = found("PyTorch")
    if torch is not None:
        torch.set_num_threads(threads)


def uncompiled() -> list[str]:
    """Return the modules of the core in use that are plain Python, where a build compiles them.

    Raises
    ------
    RuntimeError
        If the CPU backend is not ready: its kernels are not built.
    """
    nc.get_backend("cpu")
    modules = (import_module(f"normcore.{name}") for name in COMPILED)
    return [
        each.__name__ for each in modules if not each.__file__.endswith(tuple(EXTENSION_SUFFIXES))
    ]


def refuse_uncompiled(*, allowed: bool) -> None:
    """Exit if the kernels are not built or, unless it is allowed, the core is not compiled."""
    try:
        plain = uncompiled()
    except RuntimeError as error:
        sys.exit(f"normcore's kernels are not built: {error}\nInstall it: pip install .")
    if plain and not allowed:
        sys.exit(
            f"{', '.join(plain)} are not compiled, so calls cost more than they do for users.\n"
            "Install normcore (pip install .), or pass --allow-uncompiled to measure this tree."
        )


def facts(threads: int) -> dict[str, Any]:
    """Describe processor, memory, threads and versions."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": _processor(),
        "caches": _caches(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_at_start": _load(),
        "threads": {"all contestants": threads, **_threads()},
        "instruction_set": nc.backends()["cpu"].detail,
        "core_is_compiled": not uncompiled(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("normcore", *PEERS)},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _caches() -> dict[str, str]:
    """Return the sizes of the first processor's caches, by level and type."""
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (folder / name).read_text(encoding="ascii").strip()
            for name in ("level", "type", "size")
        )
        caches[f"L{level} {kind}"] = size
    return caches


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _threads() -> dict[str, int]:
    """Return what libraries say that they use."""
    said = {"normcore": nc.get_num_threads()}
    if found("PyTorch") is not None:
        said["PyTorch"] = found("PyTorch").get_num_threads()
    if found("polars") is not None:
        said["polars"] = found("polars").thread_pool_size()
    if found("numbagg") is not None:
        said["numbagg"] = import_module("numba").get_num_threads()
    return said


def _version(name: str) -> str | None:
    if name in PEERS and found(name) is None:
        return None
    try:
        return metadata.version(DISTRIBUTIONS.get(name, name))
    except metadata.PackageNotFoundError:
        return nc.__version__ if name == "normcore" else None
