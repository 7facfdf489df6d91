"""The door for C, C++ and Cython: kernels over plain memory, for callers that need no Python.

``normcore.h``, in the folder that :func:`get_include` names, declares a table of functions and
fetches it, once, with ``normcore_import``. The table is the backend's that serves NumPy arrays:
whoever serves memory of the host can fill it.
"""

from __future__ import annotations

from contextvars import Context
from os.path import abspath, dirname
from typing import TYPE_CHECKING

import numpy as np

from normcore.array_backend.selection import select_backend
from normcore.threads.settings import note_num_threads

__all__ = ["get_include"]


def get_include() -> str:
    """Return the folder of ``normcore.h``, and of the declarations for ``cimport``.

    Returns
    -------
    str
        What a compiler's ``-I`` takes, or ``include_dirs`` of an extension module.

    Examples
    --------
    >>> import os
    >>> import normcore as nc
    >>> os.path.exists(os.path.join(nc.get_include(), "normcore.h"))
    True
    """
    return dirname(abspath(__file__))


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Find the table of functions when it is first asked for (PEP 562)."""
        if name != "capsule":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        backend = Context().run(select_backend, np.empty(0))  # whatever block is around
        if backend.c_functions is None:
            raise ImportError(
                f"the backend {backend.name!r} has no functions for callers in C", name=__name__
            )
        note_num_threads()
        globals()["capsule"] = backend.c_functions
        return backend.c_functions
