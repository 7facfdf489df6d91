"""Launches that are laid out once: a call allocates, and binds addresses to them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.device import Device, Scalar

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Address", "Argument", "Beyond", "Placed", "Program"]


class Address(int):
    """One of the addresses of a call, by its number."""


class Beyond(NamedTuple):
    """Memory some bytes beyond one of the addresses of a call."""

    address: Address
    num_bytes: int


class Placed:
    """A struct of which some fields are addresses.

    Parameters
    ----------
    struct : array of no dimensions
        What stays.
    places : dict
        The fields of addresses, with dots between those of structs in structs. None is left out.
    offsets : dict, optional
        Of some of these, the bytes from the address on.
    """

    def __init__(
        self,
        struct: np.ndarray,
        places: Mapping[str, Address | None],
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        self.struct = struct
        #: The words of addresses, whose they are, and the bytes beyond.
        self.places = [
            (_offset(struct.dtype, name.split(".")) // 8, address, (offsets or {}).get(name, 0))
            for name, address in places.items()
            if address is not None
        ]


#: Of a kernel; None is an address of 0.
Argument: TypeAlias = Scalar | Address | Beyond | Placed | None


class _Fresh(NamedTuple):
    """An array that a call allocates."""

    shape: tuple[int, ...]
    dtype: np.dtype
    address: Address
    is_returned: bool
    axes: tuple[int, ...] | None  # of what is returned, if they are in another order


class Program:
    """Launches over memory that each call brings or allocates.

    Parameters
    ----------
    device : Device
    num_given : int
        Addresses that a call brings: the first ones.
    """

    def __init__(self, device: Device, num_given: int) -> None:
        self._device = device
        self._num_addresses = num_given
        self._fresh: list[_Fresh] = []
        self._counters: Address | None = None
        self._num_counters = 0
        self._launches: list[_Launch] = []
        self._is_loaded = False

    # -- laying out ------------------------------------------------------------------------

    def result(
        self, shape: tuple[int, ...], dtype: DTypeLike, axes: tuple[int, ...] | None = None
    ) -> Address:
        """Have calls allocate, and return, an array; with its axes in another order."""
        return self._allocated(shape, dtype, True, axes)

    def scratch(self, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> Address:
        """Have calls allocate an array that is free again when they are done."""
        return self._allocated(shape, dtype, False, None)

    def counters(self, number: int) -> Address | None:
        """Have calls lend zeros that blocks count themselves in; None where there is nothing."""
        if not number:
            return None
        if self._counters is None:
            self._counters = self._next()
        self._num_counters = max(self._num_counters, number)
        return self._counters

    def launch(
        self,
        kernel: str,
        dtypes: tuple[str, str],
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *arguments: Argument,
        together: bool = False,
    ) -> None:
        """Add a launch, after those that are there; as :meth:`Device.launch`."""
        how = kernel, dtypes, grid, block
        self._launches.append(_Launch(self._device, how, arguments, together))

    def _allocated(
        self,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        is_returned: bool,
        axes: tuple[int, ...] | None,
    ) -> Address:
        address = self._next()
        self._fresh.append(_Fresh(shape, np.dtype(dtype), address, is_returned, axes))
        return address

    def _next(self) -> Address:
        self._num_addresses += 1
        return Address(self._num_addresses - 1)

    # -- calls -----------------------------------------------------------------------------

    def __call__(self, given: list[int]) -> list[Array]:
        """Launch, which reads the addresses before it returns; give back results."""
        device = self._device
        addresses = given + [0] * (self._num_addresses - len(given))
        results, held = [], []
        for shape, dtype, address, is_returned, axes in self._fresh:
            array = device.empty(shape, dtype)
            addresses[address] = device.pointer(array)
            if is_returned:
                results += [array if axes is None else array.transpose(axes)]
            else:
                held += [array]
        if self._counters is not None:
            held += [device.counters(self._num_counters)]
            addresses[self._counters] = device.pointer(held[-1])
        if not self._is_loaded:  # so that none fails to be after another has changed arrays
            for launch in self._launches:
                launch.load()
            self._is_loaded = True
        for launch in self._launches:
            launch(addresses)
        return results


class _Launch:
    """A launch; places of its arguments are filled at each call."""

    def __init__(
        self,
        device: Device,
        how: tuple[str, tuple[str, str], tuple[int, int, int], tuple[int, int, int]],
        arguments: tuple[Argument, ...],
        together: bool,
    ) -> None:
        self._device, self._how, self._together = device, how, together
        self._arguments: list[Scalar] = []
        self._whole: list[tuple[int, Address, int]] = []  # arguments that are addresses
        self._words: list[tuple[memoryview, int, Address, int]] = []  # words of structs that are
        for at, argument in enumerate(arguments):
            if isinstance(argument, Address):
                argument = Beyond(argument, 0)
            if argument is None or isinstance(argument, Beyond):
                if argument is not None:
                    self._whole.append((at, *argument))
                self._arguments.append(np.int64(0))
            elif isinstance(argument, Placed):
                struct = argument.struct.copy()  # of its own, as calls write to it
                words = struct.reshape(1).view(np.int64).data
                self._words += [(words, *place) for place in argument.places]
                self._arguments.append(struct)
            else:
                self._arguments.append(argument)
        self._lock = threading.Lock()

    def load(self) -> None:
        kernel, dtypes, *_ = self._how
        self._device.load(kernel, dtypes, self._together)

    def __call__(self, addresses: list[int]) -> None:
        arguments = [*self._arguments]
        for at, address, offset in self._whole:
            arguments[at] = np.int64(addresses[address] + offset)
        with self._lock:
            for words, slot, address, offset in self._words:
                words[slot] = addresses[address] + offset
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
