"""Build the extension modules; everything else is in pyproject.toml."""

import os
import sys

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

# Contraction and fast-math are off: the order and rounding of operations are specified.
MSVC = sys.platform == "win32"
COMPILE_ARGS = ["/O2", "/fp:precise", "/std:c11"] if MSVC else ["-O3", "-ffp-contract=off"]

# Core modules written in Cython's pure-Python mode: readable as Python, shipped compiled.
PURE_PYTHON_MODE = [
    "normcore/affine.py",
    "normcore/backend.py",
    "normcore/batchnorm.py",
    "normcore/estimator.py",
    "normcore/functional.py",
    "normcore/layout.py",
    "normcore/order_statistics.py",
    "normcore/quantiles.py",
    "normcore/reference.py",
    "normcore/scalers/base.py",
    "normcore/scalers/minmax.py",
    "normcore/scalers/robust.py",
    "normcore/scalers/standard.py",
    "normcore/threads.py",
]
KERNELS = [
    "normcore/statistics.pyx",
    "backends/normcore_cpu/kernels.pyx",
]


def extension(path: str) -> Extension:
    """Make the extension of one source file, named as it is imported."""
    root = path.split("/")[0]
    module = os.path.splitext(path)[0].removeprefix(f"{root}/" if root == "backends" else "")
    return Extension(
        module.replace("/", "."),
        [path],
        include_dirs=[np.get_include(), "backends/normcore_cpu"],
        extra_compile_args=COMPILE_ARGS,
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    )


setup(
    ext_modules=cythonize(
        [extension(path) for path in PURE_PYTHON_MODE + KERNELS],
        include_path=[".", "backends"],
        nthreads=os.cpu_count() or 1,
        compiler_directives={"language_level": 3, "annotation_typing": False, "binding": True},
    )
)
