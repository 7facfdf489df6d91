"""Warnings that point at the line of whoever called normcore."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_caller"]


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn of the innermost line that is not of normcore or of a package ``normcore_...``.

    A fixed depth would not do: what is compiled has no frames.
    """
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("normcore"):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)
