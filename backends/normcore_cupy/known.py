"""What was made for what was met before, up to some number of those."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["Known"]

Made = TypeVar("Made")


class Known(Generic[Made]):
    """A bounded memory, which forgets everything at once; two threads may make the same.

    Parameters
    ----------
    most : int
    """

    def __init__(self, most: int = 1024) -> None:
        self._made: dict[Hashable, Made] = {}
        self.most = most

    def __len__(self) -> int:
        return len(self._made)

    def values(self) -> Iterable[Made]:
        """Return all that was made."""
        return self._made.values()

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what was made for a key, or make it."""
        try:
            return self._made[key]
        except KeyError:
            pass
        made = make()
        if len(self._made) >= self.most:
            self._made.clear()
        self._made[key] = made
        return made
