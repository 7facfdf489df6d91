"""How much memory a run may take, and who has how much of it."""

from __future__ import annotations

from normcore.io.batch import BATCH_BYTES

__all__ = ["MEMORY_LIMIT", "Budget"]

MEMORY_LIMIT = 512 << 20

#: What the interpreter, NumPy and pyarrow take before a table is opened.
_LIBRARIES = 160 << 20
#: Batches that are read, mapped, written or wait for that at any time.
_BATCHES_AT_WORK = 18


class Budget:
    """Memory for batches and columns that are kept.

    Parameters
    ----------
    limit : int
        Bytes for the whole process, as far as that is possible.

    Attributes
    ----------
    batch_bytes : int
        What one batch should take at most.
    whole, left : int
        Bytes that may be kept in all, and still.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"memory_limit must be positive, not {limit}")
        self.limit = limit
        for_tables = max(limit - _LIBRARIES, limit // 4)
        self.batch_bytes = min(max(for_tables // 32, 1 << 16), BATCH_BYTES)
        self.whole = self.left = max(for_tables - _BATCHES_AT_WORK * self.batch_bytes, 0)

    def take(self, nbytes: int) -> bool:
        """Take some of what is left, if it is that much."""
        if nbytes > self.left:
            return False
        self.left -= nbytes
        return True

    def give_back(self, nbytes: int) -> None:
        """Return what was taken."""
        self.left += nbytes
