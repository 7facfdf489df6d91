"""A launch whose arguments are laid out once; a call binds addresses to it."""

from __future__ import annotations

import threading
from typing import TypeAlias

import numpy as np

from normcore_cupy.device import Device, Scalar

__all__ = ["Bound", "Place"]

#: Where an address goes: the number of an argument, and the fields that lead to it.
Place: TypeAlias = tuple[int, *tuple[str, ...]]


class Bound:
    """A planned launch.

    Parameters
    ----------
    device : Device
    kernel : str
    dtypes : pair of str
    grid, block : triples of int
    arguments : sequence of Scalar
        What stays; what is at the `places` does not matter.
    places : sequence of Place or None
        Of the addresses of a call, 64 bits each; None for those that this launch does not take.
    together : bool, optional
        As for :meth:`~normcore_cupy.device.Device.launch`.
    """

    def __init__(
        self,
        device: Device,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: tuple[Scalar, ...],
        places: tuple[Place | None, ...],
        together: bool = False,
    ) -> None:
        self._device = device
        self._how, self._together = (kernel, dtypes, grid, block), together
        self._arguments: list[Scalar] = list(arguments)
        self._whole: list[tuple[int, int]] = []  # arguments that are addresses, and which ones
        self._words: list[tuple[memoryview, int, int]] = []  # words of others, and which ones
        structs: dict[int, np.ndarray] = {}
        for number, place in enumerate(places):
            if place is None:
                continue
            at, *fields = place
            if not fields:
                self._whole.append((at, number))
                continue
            struct = structs.get(at)
            if struct is None:  # of its own, as calls write to it
                struct = structs[at] = self._arguments[at] = np.array(arguments[at])
            words = struct.reshape(1).view(np.int64).data
            self._words.append((words, _offset(struct.dtype, fields) // 8, number))
        self._lock = threading.Lock()

    def __call__(self, *addresses: int) -> None:
        """Launch, which copies the arguments before it returns."""
        arguments = self._arguments.copy()
        for at, number in self._whole:
            arguments[at] = np.int64(addresses[number])
        with self._lock:
            for words, slot, number in self._words:
                words[slot] = addresses[number]
            self._device.launch(*self._how, tuple(arguments), self._together)


def _offset(dtype: np.dtype, names: list[str]) -> int:
    """Return the bytes before a field of a field."""
    offset = 0
    for name in names:
        fields = dtype.fields
        assert fields is not None, f"{dtype} has no field {name}"
        dtype, step = fields[name][:2]
        offset += step
    return offset
