"""Launch kernels of a shared object that build.py made."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["ORDERS", "KernelError", "Order", "launch"]

_MAX_THREADS, _MAX_SHARED = 1024, 48 * 1024
_MAX_TOGETHER = 4096  # MAX_FIBRES of cuda_host.h
_MAX_GRID = (2**31 - 1, 65535, 65535)
_LETTERS = {"i": "i", "u": "i", "f": "f", "V": "s"}  # a NumPy kind -> a letter of signatures
_lock = threading.Lock()  # the emulator has one set of fibres


class Order(NamedTuple):
    """In which order the threads of a block take turns, and what shared memory holds before."""

    kind: int
    seed: int
    poison: int


#: Warps from the first to the last, from the last to the first, and threads at random, anew each
#: turn.
#: As float64 the poisons are NaN, about 1e+131 and about -1e+18.
ORDERS = (Order(0, 0, 0xFF), Order(1, 0, 0x5B), Order(2, 1, 0xC3), Order(2, 77, 0xFF))


class KernelError(RuntimeError):
    """A launch that a device would refuse, hang in, or leave undefined."""


def launch(
    library: ctypes.CDLL,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    *,
    shared: int = 0,
    order: Order = ORDERS[0],
    together: bool = False,
) -> None:
    """Run a kernel to its end.

    Parameters
    ----------
    arguments : sequence of NumPy scalars and 0-dimensional arrays
        Of the kernel's own kinds and sizes; addresses are int64.
    together : bool
        Whether all blocks are there at once, as those of a cooperative launch are.

    Raises
    ------
    KernelError
        If the launch is not one that a device takes, or the threads do not get to the end.
    """
    _check_limits(kernel, grid, block, shared)
    if together and math.prod(grid) * math.prod(block) > _MAX_TOGETHER:
        raise KernelError(f"{kernel}: {math.prod(grid)} blocks are not on the device at once")
    signature = library.cuda_host_signature(kernel.encode())
    if signature is None:
        raise KernelError(f"there is no kernel {kernel!r}")
    given = [_LETTERS[each.dtype.kind] + str(each.dtype.itemsize) for each in arguments]
    if given != signature.decode().replace("p", "i").split():
        raise KernelError(f"{kernel} takes {signature.decode()}but is given {' '.join(given)}")
    buffers = [
        ctypes.create_string_buffer(each.tobytes(), each.dtype.itemsize) for each in arguments
    ]
    values = (ctypes.c_void_p * max(len(buffers), 1))(*map(ctypes.addressof, buffers))
    sizes = [(ctypes.c_uint * 3)(*each, *[1] * (3 - len(each))) for each in (grid, block)]
    with _lock:
        error = library.cuda_host_launch(
            kernel.encode(), *sizes, ctypes.c_size_t(shared), order.kind,
            ctypes.c_uint64(order.seed), order.poison, int(together), values,
        )  # fmt: skip
    if error is not None:
        raise KernelError(f"{kernel}: {error.decode()}")


def _check_limits(kernel: str, grid: Sequence[int], block: Sequence[int], shared: int) -> None:
    threads = 1
    for size in block:
        threads *= size
    if not 1 <= threads <= _MAX_THREADS or min(block) < 1 or (len(block) == 3 and block[2] > 64):
        raise KernelError(f"{kernel}: no device runs blocks of {tuple(block)} threads")
    if any(not 1 <= size <= limit for size, limit in zip(grid, _MAX_GRID, strict=False)):
        raise KernelError(f"{kernel}: no device runs a grid of {tuple(grid)} blocks")
    if shared > _MAX_SHARED:
        raise KernelError(f"{kernel}: {shared} bytes of shared memory are more than {_MAX_SHARED}")
