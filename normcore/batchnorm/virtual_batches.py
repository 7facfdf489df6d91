"""Which samples of a batch belong together: virtual (ghost) batches, or groups.

Virtual batches are slices, in a loop over one out. Groups are slices too once the samples are
sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from normcore.batchnorm.arguments import Batch
from normcore.layout.namespace import Array, array_namespace, to_numpy
from normcore.layout.scalar_argument import check_size

__all__ = ["Partition"]


class Partition:
    """A partition of the samples: slices, after sorting where a part is not side by side.

    Parameters
    ----------
    number : int
        Of samples.
    groups : array of shape (N,), or sequence of slices
        A label for each sample, or slices that have each sample once.

    Raises
    ------
    ValueError
        If they are not.
    """

    def __init__(self, number: int, groups: Array | Sequence[slice]) -> None:
        self.order: np.ndarray | None = None
        if isinstance(groups, list | tuple) and any(isinstance(each, slice) for each in groups):
            self.slices = _checked_slices(number, groups)
            return
        labels = to_numpy(groups) if hasattr(groups, "dtype") else np.asarray(groups)
        if labels.shape != (number,):
            raise ValueError(
                f"groups has shape {labels.shape}; expected ({number},), a label for each sample, "
                "or a sequence of slices"
            )
        codes = np.unique(labels, return_inverse=True)[1]
        if np.any(codes[1:] < codes[:-1]):
            self.order = np.argsort(codes, kind="stable")
            codes = codes[self.order]
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), number]
        self.slices = [slice(*pair) for pair in pairwise(bounds)]

    @classmethod
    def virtual(cls, number: int, size: int) -> Partition:
        """Return batches of at most `size` samples, of sizes that differ by at most one."""
        partition = cls.__new__(cls)
        partition.order = None
        parts = max(-(-number // size), 1)
        bounds = [index * number // parts for index in range(parts + 1)]
        partition.slices = [slice(*pair) for pair in pairwise(bounds)]
        return partition

    @classmethod
    def of(
        cls, batch: Batch, groups: Array | Sequence[slice], virtual_batch_size: int | None
    ) -> Partition | None:
        """Return how a batch is split, or None.

        Raises
        ------
        ValueError
            If it is by groups and virtual batches, or the batch is a part of other ranks' too.
        """
        if groups is None and virtual_batch_size is None:
            return None
        if batch.process_group is not None:
            raise ValueError(
                "a communicator joins batches, which "
                f"{'groups split' if groups is not None else 'a virtual_batch_size splits'}; "
                "use one of them"
            )
        number = int(batch.x.shape[batch.sample_axis])
        if groups is None:
            return cls.virtual(number, check_size("virtual_batch_size", virtual_batch_size) or 1)
        if virtual_batch_size is not None:
            raise ValueError("there are groups beside a virtual_batch_size; use one of them")
        return cls(number, groups)

    def sorted(self, array: Array, batch: Batch, axis: int) -> Array:
        """Return an array with the samples of a part side by side; a copy if they are not yet."""
        return array if self.order is None else _taken(array, self.order, batch, axis)

    def restored(self, array: Array, batch: Batch, axis: int) -> Array:
        """Return an array with sorted samples in their order of before."""
        return array if self.order is None else _taken(array, np.argsort(self.order), batch, axis)


def _taken(array: Array, order: np.ndarray, batch: Batch, axis: int) -> Array:
    if isinstance(array, np.ndarray):
        return np.take(array, order, axis=axis)
    return array_namespace(array).take(array, batch.backend.release(order, array), axis=axis)


def _checked_slices(number: int, groups: Sequence[slice]) -> list[slice]:
    times = np.zeros(number, dtype=np.intp)
    for each in groups:
        if not isinstance(each, slice):
            raise TypeError(f"groups must be labels or slices alone, but one is {each!r}")
        times[each] += 1
    if np.any(times != 1):
        sample = int(np.argmax(times != 1))
        raise ValueError(
            f"the slices of groups must have each of the {number} samples once, but they have "
            f"sample {sample} {times[sample]} times"
        )
    return [each for each in groups if len(range(*each.indices(number)))]
