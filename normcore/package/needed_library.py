"""An import that fails for want of an optional library, said in terms of what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed"]


@contextmanager
def needed(what: str, extra: str, *modules: str) -> Iterator[None]:
    """Say how to install a library that an import within the block does not find.

    Parameters
    ----------
    what : str
        What needs which library; a ``{}`` in it stands for the name of the library.
    extra : str
        Of normcore-arrays.
    *modules : str
        Whose absence, or that of one of their own, is meant; that of others stays as it is.

    Raises
    ------
    ModuleNotFoundError
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library, _, _ = (error.name or "").partition(".")
        if library not in modules:
            raise
        raise ModuleNotFoundError(
            f"{what.format(library)}: pip install 'normcore-arrays[{extra}]'", name=library
        ) from error
