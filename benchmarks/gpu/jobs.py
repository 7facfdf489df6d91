"""What a job of the table is, and the copy that all are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.gpu.cases import Buffers

__all__ = ["COPY", "Call", "Job"]

#: Works on the buffers of a number, and returns what it has allocated.
Call = Callable[[int], object]


class Job(NamedTuple):
    """Something that is measured."""

    job: str
    library: str
    #: How often the bytes of the array must be moved.
    passes: int
    #: Sets up what is not measured, and returns what is.
    prepare: Callable[[Buffers], Call]


def _copy(buffers: Buffers) -> Call:
    """Of the memory as it lies: cupy.copyto is far slower where channels are last."""
    x, out = buffers.x, buffers.out
    return lambda i: out[i].data.copy_from_device_async(x[i].data, x[i].nbytes)


COPY = Job("copy", "cupy", 2, _copy)
