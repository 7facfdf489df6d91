"""Whether a backend can be used on this machine."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BackendStatus", "Misconfigured"]


class BackendStatus(NamedTuple):
    """Whether a backend can be used here, and if not, why, in words.

    Attributes
    ----------
    ready : bool
        What it is true or false as.
    reason : str
        Why it cannot be used.
    detail : str
        What it would use, such as the instruction set or the version of a library.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.backends()["reference"].ready
    True
    """

    ready: bool
    reason: str = ""
    detail: str = ""

    def __bool__(self) -> bool:
        return self.ready


class Misconfigured(BackendStatus):
    """Not ready for a setting, such as an environment variable: asking for it is a ValueError."""

    __slots__ = ()
