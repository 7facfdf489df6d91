"""Build the extension modules; everything else is in pyproject.toml."""

import os
import sys
from pathlib import Path

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Contraction and fast-math stay off: the order and the rounding of operations are specified.
COMPILE_ARGS = (
    ["/O2", "/fp:precise", "/std:c11"]
    if sys.platform == "win32"
    else ["-O3", "-g0", "-ffp-contract=off"]
)

# The core is compiled, its .py modules in Cython's pure-Python mode; these packages are not, nor
# the door: pluggy does not see compiled hooks.
PLAIN_PACKAGES = {"cli", "io", "testing"}
PLAIN_MODULES = {
    "__init__",
    "__main__",
    "builtin",
    "discovery",
    "hookspecs",
    "plugins",
    "registry",
    "selection",
}


def sources() -> list[Path]:
    """Return the source file of every extension module."""
    core = [
        path
        for path in Path("normcore").rglob("*.py")
        if path.stem not in PLAIN_MODULES and PLAIN_PACKAGES.isdisjoint(path.parts)
    ]
    return sorted([*core, *Path("normcore").rglob("*.pyx"), *Path("backends").rglob("*.pyx")])


def extension(path: Path) -> Extension:
    """Return the extension of one source file, named as it is imported."""
    module = path.relative_to("backends") if path.parts[0] == "backends" else path
    return Extension(
        ".".join(module.with_suffix("").parts),
        [path.as_posix()],
        include_dirs=[np.get_include(), path.parent.as_posix()],
        depends=sorted(each.as_posix() for each in path.parent.glob("*.h")),
        extra_compile_args=COMPILE_ARGS,
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    )


class CythonBuildExt(build_ext):
    """Generates the C sources when extensions are built, and not for every other command."""

    def run(self) -> None:
        """Generate and compile."""
        from Cython.Build import cythonize

        generated = cythonize(
            self.extensions,
            build_dir=os.path.join(self.build_temp, "cython"),
            include_path=[".", "backends"],
            compiler_directives={
                "language_level": 3,
                "annotation_typing": False,  # annotations are for readers and for mypy
                "binding": True,  # signatures, as scikit-learn's get_params reads them
            },
        )
        generated = {each.name: each.sources for each in generated}
        for each in self.extensions:
            each.sources = generated[each.name]
        super().run()


setup(
    ext_modules=[extension(path) for path in sources()],
    cmdclass={"build_ext": CythonBuildExt},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
