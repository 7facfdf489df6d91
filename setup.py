"""Build the extension modules; everything else is in pyproject.toml."""

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Contraction and fast-math stay off: the order and the rounding of operations are specified.
# Nobody reads errno, which alone would keep roots from being taken in vectors.
COMPILE_ARGS = (
    ["/O2", "/fp:precise", "/std:c11"]
    if sys.platform == "win32"
    else ["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno"]
)

# The CPU backend's kernels are built once more for each of these, and one is chosen at import;
# the bits are the same. Elsewhere the compiler's own baseline (SSE2, NEON) is all there is.
KERNELS = Path("backends/normcore_cpu/kernels")
COPIES = Path("build/instruction_sets")
INSTRUCTION_SETS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": [
        "-mavx2",
        "-mfma",
        *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")),
        "-mprefer-vector-width=512",
    ],
}
if platform.machine().lower() not in {"x86_64", "amd64"} or sys.platform == "win32":
    INSTRUCTION_SETS = {}

# The core is compiled, .py modules in Cython's pure-Python mode. Folders that stay plain are those
# where nothing is hot, and the door: pluggy does not see compiled hooks.
COMPILED_FOLDERS = (
    "array_backend",
    "batchnorm",
    "distributed",
    "layernorm",
    "layout",
    "scaling",
    "statistics",
    "threads",
)
COMPILED_MODULES = ("affine.py", "functional.py")


def sources() -> list[Path]:
    """Return the source file of every extension module."""
    core = [Path("normcore", name) for name in COMPILED_MODULES]
    for folder in COMPILED_FOLDERS:
        core += [path for path in Path("normcore", folder).glob("*.py") if path.stem != "__init__"]
    compiled = [path for root in ("normcore", "backends") for path in Path(root).rglob("*.pyx")]
    return sorted([*core, KERNELS.parent / "backend.py", *compiled])


def extension(path: Path, root: str | Path = "", flags: tuple[str, ...] = ()) -> Extension:
    """Return the extension of one source file, named as it is imported from a root."""
    if path.parts[0] == "backends":
        root = "backends"
    return Extension(
        ".".join(path.relative_to(root).with_suffix("").parts),
        [path.as_posix()],
        include_dirs=[np.get_include(), path.parent.as_posix()],
        depends=sorted(each.as_posix() for each in path.parent.glob("*.h")),
        extra_compile_args=[*COMPILE_ARGS, *flags],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    )


def extensions() -> list[Extension]:
    """Return all extensions, the kernels' once for each instruction set.

    A module's name is fixed when its C source is generated, so each instruction set is a package
    of its own, with a copy of the sources.
    """
    built = [extension(path) for path in sources()]
    for name, flags in INSTRUCTION_SETS.items():
        package = COPIES / KERNELS.parent.name / name
        package.mkdir(parents=True, exist_ok=True)
        (package.parent / "__init__.py").touch()
        for path in KERNELS.iterdir():
            if path.suffix in {".h", ".pxd", ".py", ".pyx"}:
                copy = package / path.name
                if not copy.exists() or copy.read_bytes() != path.read_bytes():
                    shutil.copyfile(path, copy)
        built += [extension(path, COPIES, tuple(flags)) for path in sorted(package.glob("*.pyx"))]
    return built


def remove_stale(folders: Iterable[Path], wanted: Iterable[Path]) -> None:
    """Delete what earlier builds left: Python prefers a compiled module to any source."""
    kept = {path.resolve() for path in wanted}
    for path in (path for folder in folders for path in folder.rglob("*")):
        _, _, suffix = path.name.partition(".")
        if f".{suffix}" in EXTENSION_SUFFIXES and path.resolve() not in kept:
            path.unlink()


class CythonBuildExt(build_ext):
    """Generates the C sources when extensions are built, and not for every other command."""

    def run(self) -> None:
        """Generate and compile."""
        from Cython.Build import cythonize

        generated = cythonize(
            self.extensions,
            build_dir=os.path.join(self.build_temp, "cython"),
            include_path=[".", "backends", COPIES.as_posix()],
            compiler_directives={
                "language_level": 3,
                "annotation_typing": False,  # annotations are for readers and for mypy
                "binding": True,  # signatures, as scikit-learn's get_params reads them
                "freethreading_compatible": True,  # what is shared is behind locks or never changes
            },
        )
        generated = {each.name: each.sources for each in generated}
        for each in self.extensions:
            each.sources = generated[each.name]
            if self.inplace:  # the packages of the instruction sets hold nothing else
                Path(self.get_ext_fullpath(each.name)).parent.mkdir(exist_ok=True)
        remove_stale(
            [Path("normcore"), KERNELS.parent] if self.inplace else [Path(self.build_lib)],
            [Path(self.get_ext_fullpath(each.name)) for each in self.extensions],
        )
        super().run()


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": CythonBuildExt},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
