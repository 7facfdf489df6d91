"""What a layer's backward pass needs of its forward pass: of a whole batch, or of its parts.

Parts are batches of their own that share arrays: virtual (ghost) batches, which are slices in a
loop over one out, and groups of samples, which are slices too once the samples are sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np

from normcore import layout
from normcore.batch import Batch
from normcore.namespace import array_namespace, to_numpy
from normcore.statistics import Moments

__all__ = ["Forward", "Partition", "SplitForward"]


class Forward:
    """A batch and the statistics that normalized it.

    Parameters
    ----------
    batch : Batch
    moments : Moments or pair of vectors
        Those of the batch, in training, or else the given mean and variance.
    training : bool
        Whether the gradient flows through the statistics.
    follows : bool
        Whether running statistics are to follow the batch.
    """

    __slots__ = ("batch", "follows", "moments", "training")

    def __init__(self, batch: Batch, moments: Any, training: bool, follows: bool) -> None:
        self.batch: Batch | None = batch
        self.moments, self.training, self.follows = moments, training, follows

    def followed(self) -> Sequence[Moments]:
        """Return the moments that running statistics are to follow, one batch after another."""
        return (self.moments,) if self.follows else ()

    def overwrite(self) -> None:
        """Note that the input is lost, so that there is no backward pass."""
        self.batch = None

    def backward(self, dy: Any, out: Any) -> tuple[Any, Any, Any]:
        """Return dx, dgamma and dbeta, as :meth:`normcore.BatchNorm.backward` says."""
        batch, moments = self.batch, self.moments
        if batch is None:
            raise _input_is_lost()
        if not isinstance(moments, Moments):
            moments = Moments.of(np.ones(batch.num_channels), *map(to_numpy, moments))
        gradients = batch.backward(dy, moments, self.training, out)
        if out is not None and layout.overlap(batch.x, batch.backend.adopt(out)):
            self.overwrite()
        return gradients


class Partition:
    """Which samples belong together: slices, after sorting where they are not side by side.

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

    def __init__(self, number: int, groups: Any) -> None:
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

    def sorted(self, array: Any, batch: Batch, axis: int) -> Any:
        """Return an array with the samples of a part side by side; a copy if they are not yet."""
        return array if self.order is None else _taken(array, self.order, batch, axis)

    def restored(self, array: Any, batch: Batch, axis: int) -> Any:
        """Return an array with sorted samples in their order of before."""
        return array if self.order is None else _taken(array, np.argsort(self.order), batch, axis)


class SplitForward:
    """A batch of which each part is normalized by itself.

    Parameters
    ----------
    batch : Batch
        The whole.
    partition : Partition
    """

    def __init__(self, batch: Batch, partition: Partition) -> None:
        if batch.mask is not None:
            layout.plane(batch.mask, batch.x, batch.axis, "mask")
        self.batch: Batch | None = batch
        self.partition = partition
        ordered = copy(batch)
        ordered.x = partition.sorted(batch.x, batch, batch.sample_axis)
        if batch.mask is not None:
            ordered.mask = partition.sorted(batch.mask, batch, 0)
        self.batches = [ordered.samples(each) for each in partition.slices]
        self.forwards: list[Forward] = []

    def normalize(self, normalize: Callable[[int, Any], tuple[Any, Forward]], out: Any) -> Any:
        """Normalize each part by ``normalize(index, out)`` of its number; return the result."""
        batch = self.batch
        assert batch is not None
        if out is not None:
            layout.refuse_partial_overlap(out, batch.x)

        def part(index: int, target: Any) -> None:
            self.forwards.append(normalize(index, target)[1])

        return self._in_parts(part, batch, batch.x, layout.result_dtype(batch.x), out)

    def followed(self) -> Sequence[Moments]:
        """Return the moments that running statistics are to follow, in the order of the parts."""
        return [moments for each in self.forwards for moments in each.followed()]

    def overwrite(self) -> None:
        """Note that the input is lost, so that there is no backward pass."""
        self.batch = None

    def backward(self, dy: Any, out: Any) -> tuple[Any, Any, Any]:
        """Return dx of all parts, and the sums of their dgamma and dbeta."""
        batch = self.batch
        if batch is None:
            raise _input_is_lost()
        dy = layout.as_array(dy)
        upstream = batch.adopt_gradient(dy)
        target = batch.adopt_out(out, upstream)
        if target is not None:
            layout.refuse_partial_overlap(target, upstream, batch.x)
        ordered = self.partition.sorted(upstream, batch, batch.sample_axis)
        sums: list[Any] = [0.0, 0.0]

        def part(index: int, target: Any) -> None:
            chosen = batch.of_samples(self.partition.slices[index])
            _, *vectors = self.forwards[index].backward(ordered[chosen], target)
            sums[:] = [total + each for total, each in zip(sums, vectors, strict=True)]

        dx = self._in_parts(part, batch, upstream, upstream.dtype, target)
        if target is not None and layout.overlap(batch.x, target):
            self.overwrite()
        release = batch.backend.release
        return release(dx, dy) if out is None else out, *(release(each, dy) for each in sums)

    def _in_parts(
        self, part: Callable[[int, Any], None], batch: Batch, like: Any, dtype: Any, out: Any
    ) -> Any:
        """Let each part write into its samples of ``out``, or of a fresh array."""
        partition, result = self.partition, out
        if result is None or partition.order is not None:
            xp = array_namespace(like)
            result = xp.empty_like(like, dtype=dtype)
        for index, chosen in enumerate(partition.slices):
            part(index, result[batch.of_samples(chosen)])
        result = partition.restored(result, batch, batch.sample_axis)
        if out is None or result is out:
            return result
        out[...] = result
        return out


def _taken(array: Any, order: np.ndarray, batch: Batch, axis: int) -> Any:
    if isinstance(array, np.ndarray):
        return np.take(array, order, axis=axis)
    return array_namespace(array).take(array, batch.backend.release(order, array), axis=axis)


def _checked_slices(number: int, groups: Sequence[Any]) -> list[slice]:
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


def _input_is_lost() -> RuntimeError:
    return RuntimeError(
        "the latest forward or backward pass overwrote its input (out overlaps it), which "
        "backward needs; give the forward pass an out of its own"
    )
