"""Warnings that point at the line of whoever called normcore."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_caller"]


def warn_caller(
    message: str, category: type[Warning] = UserWarning, *, package: str = "normcore"
) -> None:
    """Warn at the innermost line that is neither normcore's nor a package's of yours.

    Parameters
    ----------
    message : str
    category : type of Warning
    package : str
        The top-level package of a plugin that warns.

    Notes
    -----
    A fixed ``stacklevel`` would not do: code that is compiled has no frames.

    Examples
    --------
    >>> import warnings
    >>> import normcore as nc
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     nc.warn_caller("scales are rounded", package="my_package")
    >>> [str(each.message) for each in caught]
    ['scales are rounded']
    """
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and _package_of(frame.f_globals) in ("normcore", package):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


def _package_of(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
