"""Refuses an import where Python, libraries or compiled modules are not those that normcore needs.

Installers see to all of it; environments that were copied, mounted or put on a path do not pass by
an installer.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES

__all__ = ["check_compiled_modules", "check_libraries", "check_python"]

_PYTHON = (3, 11)
_NUMPY = (2,)
_PLUGGY = (1, 5)
_COMPILED = ("statistics", "moments")  # one of many


def check_python() -> None:
    """Refuse a Python that is too old.

    Raises
    ------
    ImportError
        It names the version that runs and the one to install.
    """
    if sys.version_info[:2] < _PYTHON:
        raise ImportError(
            f"normcore needs Python {'.'.join(map(str, _PYTHON))} or newer, and this is "
            f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable}): install a newer "
            "Python, and normcore-arrays with it",
            name="normcore",
        )


def check_compiled_modules(package: str) -> None:
    """Refuse a package that was compiled for another Python, another platform, or not at all.

    Raises
    ------
    ImportError
        It names what it was compiled for, what is running and how to install it for that.
    """
    folder, module = os.path.join(package, _COMPILED[0]), _COMPILED[1]
    if not os.path.isdir(folder):  # frozen into an application, which knows what it holds
        return
    if any(os.path.isfile(os.path.join(folder, module + each)) for each in EXTENSION_SUFFIXES):
        return
    ours = EXTENSION_SUFFIXES[0].split(".")[1]
    theirs = sorted(
        parts[1]
        for parts in (name.split(".") for name in os.listdir(folder))
        if parts[0] == module and len(parts) > 2
    )
    raise ImportError(
        f"normcore in {package} is compiled for {' and '.join(theirs) or 'no Python at all'}, and "
        f"this Python is {ours}: run `{sys.executable} -m pip install --force-reinstall "
        "normcore-arrays`",
        name="normcore",
        path=package,
    )


def check_libraries() -> None:
    """Refuse a NumPy or a pluggy that is not there or too old.

    Raises
    ------
    ImportError
        It names the version that is there and how to install another.
    """
    _check_library("NumPy", _NUMPY)
    _check_library("pluggy", _PLUGGY)


def _check_library(title: str, wanted: tuple[int, ...]) -> None:
    name = title.lower()
    try:
        library = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        found = "there is none"
    else:
        # Newer pluggys look their version up when they are asked, which takes longer than all of
        # this; in a tree without a release it is no number.
        version = vars(library).get("__version__", "unknown")
        parts = version.split(".")[: len(wanted)]
        if not all(map(str.isdecimal, parts)) or tuple(map(int, parts)) >= wanted:
            return
        found = f"this is {version}"
    least = ".".join(map(str, wanted))
    raise ImportError(
        f"normcore needs {title} {least} or newer, and {found}: run `{sys.executable} -m pip "
        f"install '{name}>={least}'`",
        name=name,
    )
