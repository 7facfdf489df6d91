"""Build the extension modules; everything else is in pyproject.toml."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What is compiled of the core's .py modules, in Cython's pure-Python mode, and how: what calls on
# small arrays pass through, the map of one row first. -Os keeps a module of calls as quick as -O2
# does at two thirds of the size. What stays plain works on whole arrays, waits for other processes
# or files, runs once in an object's life, or is the door: pluggy does not see compiled hooks.
COMPILED = {
    "-O2": (
        "array_backend/over_views",
        "array_backend/selection",
        "scaling/affine_scaler",
        "scaling/standard",
        "scaling/transforming",
    ),
    "-Os": (
        "affine",
        "array_backend/abstract",
        "array_backend/formulas",
        "array_backend/precision",
        "batchnorm/arguments",
        "batchnorm/forward_backward",
        "batchnorm/functions",
        "batchnorm/inference",
        "batchnorm/layer",
        "batchnorm/layer_state",
        "batchnorm/running_statistics",
        "batchnorm/virtual_batches",
        "batchnorm/whole_forward",
        "functional",
        "layernorm/arguments",
        "layernorm/group_instance",
        "layernorm/layer_rms",
        "layernorm/sample_blocks",
        "layout/array_views",
        "layout/bfloat16",
        "layout/namespace",
        "layout/out_argument",
        "layout/scalar_argument",
        "scaling/array_map",
        "scaling/element_mask",
        "scaling/estimator",
        "scaling/feature_axes",
        "scaling/finite_maps",
        "scaling/fitted_attributes",
        "scaling/input_validation",
        "scaling/learning",
        "scaling/minmax",
        "scaling/pointwise_scaler",
        "scaling/real_numbers",
        "scaling/result_bounds",
        "scaling/robust",
        "scaling/row_scaler",
        "threads/settings",
    ),
}

# Contraction and fast-math stay off: the order and the rounding of operations are specified.
# Nobody reads errno, which alone would keep roots from being taken in vectors. What GCC inlines, it
# else decides by the size of a module, not of the kernel; and it inlines more than pays.
if sys.platform == "win32":
    COMPILE_ARGS = KERNEL_ARGS = ["/O2", "/fp:precise"]
else:
    COMPILE_ARGS = ["-g0", "-ffp-contract=off", "-fno-math-errno"]
    KERNEL_ARGS = [
        *(*COMPILE_ARGS, "-O3", "--param=large-unit-insns=1000000"),
        "--param=max-inline-insns-single=120",
    ]

# Of both languages some compilers take an older standard unless they are asked.
if sys.platform == "win32":
    C_STANDARD, CPP_STANDARD = ["/std:c11"], ["/std:c++17"]
else:
    C_STANDARD, CPP_STANDARD = [], ["-std=gnu++17"]

# What Cython would else put into each module that has functions or takes memory: a third of the
# size of all, and of the time to build them.
SHARED = "normcore.package.cython_utilities"

# What is installed is a tenth smaller without descriptions of frames, which nothing but tools of C
# reads (C++ throws by them), and without stubs for calls that Python binds at once anyway.
LEAN = ["-fno-plt", "-fno-asynchronous-unwind-tables"] if sys.platform == "linux" else []

# What is installed has no table of symbols; Apple's linker has another word for that.
STRIP = {"linux": ["-Wl,-s"], "darwin": ["-Wl,-x"]}.get(sys.platform, [])
# Older systems lack what C++ has for the text of floats; it comes along, and nothing beside it.
if sys.platform == "linux":
    CPP_LINK_ARGS = ["-static-libstdc++", "-Wl,--gc-sections,--exclude-libs,ALL"]
else:
    CPP_LINK_ARGS = []

# Nobody reads the exceptions of floats either, which alone would keep choices between two results
# from being made in vectors.
UNTRAPPED = [] if sys.platform == "win32" else ["-fno-trapping-math"]

# The CPU backend's kernels are built once more for each of these, and one is chosen at import;
# the bits are the same. Elsewhere the compiler's own baseline (SSE2, NEON) is all there is.
KERNELS = Path("backends/normcore_cpu/kernels")
PLUGINS = Path("plugins")
C_API = Path("normcore/c_api")  # whose header comes with what kernels cimport of it
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
# What is built for, which need not be what builds; Apple's universal builds are for two at once.
if not sysconfig.get_platform().endswith("-x86_64"):
    INSTRUCTION_SETS = {}


def extension(path: Path, root: Path, flags: list[str]) -> Extension:
    """Return the extension of one source file, named as it is imported from a root."""
    headers = KERNELS if COPIES in path.parents else path.parent
    return Extension(
        ".".join(path.relative_to(root).with_suffix("").parts),
        [path.as_posix()],
        include_dirs=[np.get_include(), headers.as_posix(), C_API.as_posix()],
        depends=shared_sources(headers) if path.suffix == ".pyx" else [],
        extra_compile_args=flags,
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
            ("CYTHON_COMPRESS_STRINGS", "0"),  # a wheel does that, and better by itself
        ],
    )


def shared_sources(folder: Path) -> list[str]:
    """Return what the .pyx files of a folder include and cimport.

    Whichever is newer than a module, the module is built again: importing from the source tree
    asks no less.
    """
    return sorted(
        path.as_posix() for path in folder.iterdir() if path.suffix in {".h", ".pxd", ".pxi"}
    )


def kernels() -> Iterator[Extension]:
    """Yield the extensions of the kernels, once for each instruction set.

    A module's name is fixed when its C source is generated, so each instruction set is a package
    of its own, with a copy of the modules and of what they cimport; what they include stays.
    """
    for path in sorted(KERNELS.glob("*.pyx")):
        yield extension(path, KERNELS.parents[1], KERNEL_ARGS)
    for name, flags in INSTRUCTION_SETS.items():
        package = COPIES / KERNELS.parent.name / name
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir(parents=True)
        (package.parent / "__init__.py").touch()
        for path in (*KERNELS.glob("*.p[xy][dx]"), KERNELS / "__init__.py"):
            shutil.copy2(path, package)  # and its time, so that only what changed is built again
        for path in sorted(package.glob("*.pyx")):
            yield extension(path, COPIES, [*KERNEL_ARGS, *flags])


def plugins() -> Iterator[Extension]:
    """Yield the extensions of the plugins, which share nothing with the core's."""
    for path in sorted(PLUGINS.rglob("*.pyx")):
        yield extension(path, PLUGINS, [*optimized("-O3"), *UNTRAPPED])


def core() -> Iterator[Extension]:
    """Yield the extensions of the core, and of what calls the kernels."""
    for root, package in ((Path(), Path("normcore")), (KERNELS.parents[1], KERNELS.parent)):
        for path in sorted(package.rglob("*.pyx")):
            if KERNELS not in path.parents:
                yield extension(path, root, optimized("-O3"))
    for level, modules in COMPILED.items():
        for module in modules:
            yield extension(Path(f"normcore/{module}.py"), Path(), optimized(level))
    yield extension(KERNELS.parent / "backend.py", KERNELS.parents[1], optimized("-Os"))
    yield extension(Path(f"{SHARED.replace('.', '/')}.c"), Path(), optimized("-O2"))


def optimized(level: str) -> list[str]:
    """Return the flags of a level of optimization; MSVC has one for all."""
    return COMPILE_ARGS if sys.platform == "win32" else [*COMPILE_ARGS, level]


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
            nthreads=os.cpu_count() or 1,
            build_dir=os.path.join(self.build_temp, "cython"),
            shared_utility_qualified_name=SHARED,
            include_path=[".", "backends", "plugins", COPIES.as_posix(), KERNELS.as_posix()],
            compiler_directives={
                "language_level": 3,
                "emit_code_comments": False,
                "annotation_typing": False,  # annotations are for readers and for mypy
                "binding": True,  # signatures, as scikit-learn's get_params reads them
                "freethreading_compatible": True,  # what is shared is behind locks or never changes
            },
        )
        generated = {each.name: each.sources for each in generated}
        for each in self.extensions:
            each.sources = generated[each.name]
            is_cpp = each.sources[0].endswith(".cpp")
            each.extra_compile_args = [
                *each.extra_compile_args, *(CPP_STANDARD if is_cpp else C_STANDARD)
            ]  # fmt: skip
            if not self.inplace:  # profilers and debuggers of the tree's own modules want symbols
                each.extra_compile_args = [*each.extra_compile_args, *([] if is_cpp else LEAN)]
                each.extra_link_args = [*STRIP, *(CPP_LINK_ARGS if is_cpp else [])]
            if self.inplace:  # the packages of the instruction sets hold nothing else
                Path(self.get_ext_fullpath(each.name)).parent.mkdir(exist_ok=True)
        remove_stale(
            [Path("normcore"), KERNELS.parent, PLUGINS] if self.inplace else [Path(self.build_lib)],
            [Path(self.get_ext_fullpath(each.name)) for each in self.extensions],
        )
        super().run()


if __name__ == "__main__":  # also where the processes that generate sources import this file
    setup(
        ext_modules=[*kernels(), *core(), *plugins()],  # those that take the longest first
        cmdclass={"build_ext": CythonBuildExt},
        options={"build_ext": {"parallel": os.cpu_count() or 1}},
    )
