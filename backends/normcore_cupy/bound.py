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
    places : sequence of Place
        Of the addresses of a call, 64 bits each.
    """

    def __init__(
        self,
        device: Device,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: tuple[Scalar, ...],
        places: tuple[Place, ...],
    ) -> None:
        self._device = device
        self._how = kernel, dtypes, grid, block
        names = [str(number) for number in range(len(arguments))]
        ends = np.cumsum([-(-each.dtype.itemsize // 8) * 8 for each in arguments]).tolist()
        self._dtype = np.dtype(
            {
                "names": names,
                "formats": [each.dtype for each in arguments],
                "offsets": [0, *ends[:-1]],
                "itemsize": ends[-1],
            }
        )
        words = np.zeros(ends[-1] // 8, np.int64)
        whole = words.view(self._dtype).reshape(())
        for name, each in zip(names, arguments, strict=True):
            whole[name] = each
        self._slots = tuple([_offset(self._dtype, place) // 8 for place in places])
        self._arguments = tuple([whole[name] for name in names])  # views
        self._words = words.data
        self._lock = threading.Lock()

    def __call__(self, *addresses: int) -> None:
        """Launch, which copies the arguments before it returns."""
        words = self._words
        with self._lock:
            for slot, address in zip(self._slots, addresses, strict=True):
                words[slot] = address
            self._device.launch(*self._how, self._arguments)


def _offset(dtype: np.dtype, place: Place) -> int:
    """Return the bytes before a field of a field."""
    offset = 0
    for name in (str(place[0]), *place[1:]):
        fields = dtype.fields
        assert fields is not None, f"{dtype} has no field {name}"
        dtype, step = fields[name][:2]
        offset += step
    return offset
