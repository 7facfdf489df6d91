"""Calls with a caller's arrays whose layout was met before: no checks, no views.

What follows from dtypes, shapes, strides and alignment is worked out once; a call allocates, and
binds addresses. Whatever is not plain (masks, other libraries, several views, an `out` that
overlaps) is left to the general way, whose kernels, results and errors these calls share.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import copysign
from typing import TYPE_CHECKING

import numpy as np

from normcore.layout.namespace import Array
from normcore_cupy.known import Known
from normcore_cupy.ordering import Ordering, is_plain_tensor
from normcore_cupy.planning import Planned

if TYPE_CHECKING:
    from normcore_cupy.host import DeviceBackend

__all__ = ["Caller"]

_ALIGNMENT = 64  # bytes, of what plans look at
_FLOATS = (float, np.float64)


class Caller:
    """Runs what is planned for arrays of CuPy and tensors.

    Parameters
    ----------
    backend : DeviceBackend
    ordering : Ordering
    errors : callable
        Returns the context that says what errors of CUDA mean.
    """

    def __init__(
        self,
        backend: DeviceBackend,
        ordering: Ordering,
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._cupy, self.ordering, self.errors = backend.xp, ordering, errors
        self._ndarray = backend.xp.ndarray
        self._process = os.getpid()
        self.known = Known[Planned | None]()

    def takes(self, array: Array) -> bool:
        """Whether there may be plans for an array, in the process that CUDA was begun in."""
        of_device = type(array) is self._ndarray or is_plain_tensor(array)
        return of_device and os.getpid() == self._process

    def run(
        self, plan: Callable[..., Planned | None], arrays: tuple[Array, ...], **options: object
    ) -> list[Array] | None:
        """Return the results of a plan for arrays, or None where there is none for them.

        Parameters
        ----------
        plan : callable
            ``plan(*arrays, **options)``, asked where such arrays are met the first time.
        arrays : tuple of arrays or None
            Of which the first decides whose stream and memory it is.
        """
        ndarray, first = self._ndarray, arrays[0]
        of_cupy, device = type(first) is ndarray, -1
        addresses: list[int] = []
        lie: list[object] = [plan]
        for option in options.values():  # 1, 1.0 and True are equal, and so are 0.0 and -0.0
            kind = type(option)
            lie += (option, kind, kind in _FLOATS and option == 0.0 and copysign(1.0, option))
        for array in arrays:
            if array is None:
                addresses += (0,)
                lie += (None,)
                continue
            if type(array) is ndarray:
                pointer = array.data
                address, strides, its_device = pointer.ptr, array.strides, pointer.device_id
            elif not of_cupy and is_plain_tensor(array):
                address, strides, its_device = array.data_ptr(), array.stride(), array.get_device()
            else:
                return None
            if device not in (-1, its_device):
                return None
            device = its_device
            addresses += (address,)
            lie += (array.dtype, array.shape, strides, address % _ALIGNMENT)
        if os.getpid() != self._process:
            return None
        if of_cupy and device != self._cupy.cuda.runtime.getDevice():
            return None
        try:
            with self.ordering.of(first):
                key = (device, *lie)
                try:
                    planned = self.known[key]
                except TypeError:  # an argument that is none of what is expected
                    return None
                except KeyError:
                    planned = self.known.keep(key, plan(*arrays, **options))
                if planned is None or not planned.may_write(addresses):
                    return None
                results = planned.program(addresses)
                if not of_cupy:
                    for number in range(planned.num_released):
                        results[number] = self.ordering.as_tensor(results[number])
                return results
        except Exception:
            with self.errors():
                raise
