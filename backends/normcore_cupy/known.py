"""What was made for what was met before, up to some number of those."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

__all__ = ["Known"]

Made = TypeVar("Made")


class Known(dict[Hashable, Made]):
    """A dictionary that is bounded: it forgets all before it has too much."""

    most = 1024

    def keep(self, key: Hashable, made: Made) -> Made:
        """Remember what was made for a key, and return it; two threads may make the same."""
        if len(self) >= self.most:
            self.clear()
        self[key] = made
        return made
