"""Forward passes of a batch as a whole or in parts, and what their backward passes need.

Parts are batches of their own that share arrays; :mod:`normcore.batchnorm.virtual_batches` says
which there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import numpy as np

from normcore import layout
from normcore.array_backend.abstract import IN_ANY_ORDER
from normcore.batchnorm.arguments import Batch, BatchInput
from normcore.batchnorm.virtual_batches import Partition
from normcore.distributed.communicator import process_group_of, single_process_error
from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace
from normcore.layout.scalar_argument import check_choice
from normcore.statistics import Moments

__all__ = [
    "PartitionedForward",
    "SavedForward",
    "constants",
    "differentiated",
    "normalized",
    "overwritten_input_error",
]


class SavedForward:
    """What the backward pass needs: a batch and the statistics that normalized it.

    Parameters
    ----------
    batch : BatchInput
    moments : Moments or pair of vectors
        Those of the batch, in training, or else the given mean and variance.
    training : bool
        Whether the gradient flows through the statistics.
    update_stats : bool
        Whether the batch is to update running statistics.
    """

    __slots__ = ("batch", "moments", "process_group", "training", "update_stats")

    def __init__(
        self,
        batch: BatchInput,
        moments: Moments | tuple[Array, Array],
        training: bool,
        update_stats: bool,
    ) -> None:
        self.batch: BatchInput | None = batch
        self.process_group = (
            process_group_of(None) if batch.process_group is None else batch.process_group
        )
        self.moments, self.training, self.update_stats = moments, training, update_stats

    def moments_for_update(self) -> Sequence[Moments]:
        """Return the moments that are to update running statistics, one batch after another."""
        if self.update_stats and isinstance(self.moments, Moments):
            return (self.moments,)
        return ()

    def overwrite(self) -> None:
        """Note that the input is lost, so that there is no backward pass."""
        self.batch = None

    def backward(self, dy: Array, out: Array) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta, as :meth:`normcore.BatchNorm.backward` says."""
        batch = self.batch
        ordered = IN_ANY_ORDER if batch is None else batch.backend.in_order_with(batch.given)
        with self.process_group, ordered:
            moments = self.moments
            if batch is None:
                raise overwritten_input_error()
            if not isinstance(moments, Moments):
                moments = constants(*map(batch.beside, moments))
            gradients = batch.backward(dy, moments, self.training, out)
            self.note_out(out)
            return gradients

    def note_out(self, out: Array) -> None:
        """Note that the input is lost if ``out``, an array that was written to, overlaps it."""
        batch = self.batch
        if out is None or batch is None:
            return
        if out_argument.overlap(batch.x, batch.backend.adopt(out)):
            self.overwrite()


class PartitionedForward:
    """A batch of which each part is normalized by itself, and what the backward pass needs.

    Parameters
    ----------
    batch : Batch
        The whole.
    partition : Partition
    """

    def __init__(self, batch: Batch, partition: Partition) -> None:
        if batch.mask is not None:
            layout.broadcast_plane(batch.mask, batch.x, batch.axis, "mask")
        self.batch: Batch | None = batch
        self.partition = partition
        ordered = copy(batch)
        self.x = ordered.x = partition.sorted(batch.x, batch, batch.sample_axis)
        if batch.mask is not None:
            ordered.mask = partition.sorted(batch.mask, batch, 0)
        self.batches = [ordered.samples(each) for each in partition.slices]
        self.forwards: list[SavedForward] = []

    def normalize(
        self, normalize: Callable[[int, Array], tuple[Array, SavedForward]], out: Array
    ) -> Array:
        """Normalize each part by ``normalize(index, out)`` of its number; return the result."""
        batch = self.batch
        assert batch is not None

        def part(index: int, target: Array) -> Array:
            y, forward = normalize(index, target)
            self.forwards.append(forward)
            return y

        return self._in_parts(part, batch, self.x, out_argument.result_dtype(batch.x), out)

    def moments_for_update(self) -> Sequence[Moments]:
        """Return the moments that are to update running statistics, in the order of the parts."""
        return [moments for each in self.forwards for moments in each.moments_for_update()]

    def overwrite(self) -> None:
        """Note that the input is lost, so that there is no backward pass."""
        self.batch = None

    def backward(self, dy: Array, out: Array) -> tuple[Array, Array, Array]:
        """Return dx of all parts, and the sums of their dgamma and dbeta."""
        batch = self.batch
        if batch is None:
            raise overwritten_input_error()
        dy = layout.as_array(dy, what="dy", beside=batch.given)
        upstream = batch.adopt_gradient(dy)
        target = batch.adopt_out(out, upstream)
        if target is not None:
            for each in self.forwards:
                parts = each.moments.parts if isinstance(each.moments, Moments) else None
                out_argument.refuse_shared_memory(target, moments=parts)
        ordered = self.partition.sorted(upstream, batch, batch.sample_axis)
        zeros = batch.beside(np.zeros((2, batch.num_channels)))
        sums = [zeros[0, ...], zeros[1, ...]]

        def part(index: int, target: Array) -> Array:
            chosen = batch.of_samples(self.partition.slices[index])
            dx, *vectors = self.forwards[index].backward(ordered[chosen], target)
            sums[:] = [total + each for total, each in zip(sums, vectors, strict=True)]
            return dx

        dx = self._in_parts(part, batch, ordered, upstream.dtype, target)
        if target is not None and out_argument.overlap(batch.x, target):
            self.overwrite()
        release = batch.backend.release
        return release(dx, dy) if out is None else out, *(release(each, dy) for each in sums)

    def _in_parts(
        self,
        part: Callable[[int, Array], Array],
        batch: Batch,
        like: Array,
        dtype: object,
        out: Array,
    ) -> Array:
        """Put what ``part(index, target)`` gives into its samples of ``out``, or a fresh array.

        That is in the memory order of ``like``, which has the parts' arrays for its slices.
        """
        partition, result = self.partition, out
        if result is None or partition.order is not None:
            xp = array_namespace(like)
            result = xp.empty_like(like, dtype=dtype)
        for index, chosen in enumerate(partition.slices):
            samples = batch.of_samples(chosen)
            if layout.is_strided(result):
                part(index, result[samples])
            else:  # whether slices share memory is up to the library
                result[samples] = part(index, None)
        result = partition.restored(result, batch, batch.sample_axis)
        if out is None or result is out:
            return result
        out[...] = result
        return out


def normalized(
    batch: Batch,
    out: Array,
    groups: Array | Sequence[slice],
    virtual_batch_size: int | None,
    single: str,
) -> tuple[Array, Moments | Sequence[Moments]]:
    """Do what :func:`normcore.functional.batch_norm` says of a batch, whole or in parts."""
    if single != "error":
        check_choice("single", single, ("error", "skip"))
        if batch.process_group is not None:
            raise single_process_error("single", single)
    target = batch.adopt_out(out, batch.x)
    partition = Partition.of(batch, groups, virtual_batch_size)
    if partition is None:
        if batch.process_group is None:
            batch.refuse_single_values(single)
        y, moments = batch.normalize(target)
        return batch.release(y, out), moments
    forward = PartitionedForward(batch, partition)
    for each in forward.batches:
        each.refuse_single_values(single)

    def normalize(index: int, out: Array) -> tuple[Array, SavedForward]:
        part = forward.batches[index]
        y, moments = part.normalize(out)
        return y, SavedForward(part, moments, True, True)

    y = forward.normalize(normalize, target)
    return batch.release(y, out), forward.moments_for_update()


def differentiated(
    batch: Batch,
    dy: Array,
    moments: Moments | Sequence[Moments],
    out: Array,
    groups: Array | Sequence[slice],
    virtual_batch_size: int | None,
) -> tuple[Array, Array, Array]:
    """Do what :func:`normcore.functional.batch_norm_backward` says of training."""
    partition = Partition.of(batch, groups, virtual_batch_size)
    if partition is None:
        return batch.backward(dy, moments, True, out)
    if not isinstance(moments, list | tuple) or len(moments) != len(partition.slices):
        number = f" of {len(moments)}" if isinstance(moments, list | tuple) else ""
        raise ValueError(
            f"moments must be a sequence, one for each of the {len(partition.slices)} parts of "
            f"the batch, not {type(moments).__name__}{number}"
        )
    forward = PartitionedForward(batch, partition)
    for each, part in zip(moments, forward.batches, strict=True):
        part.check_moments(each)
        forward.forwards.append(SavedForward(part, each, True, True))
    return forward.backward(dy, out)


def constants(mean: Array, var: Array) -> Moments:
    """Return moments of one value with a given mean and variance; nothing waits for a device."""
    if isinstance(mean, np.ndarray):
        return Moments.of(np.ones(mean.size), mean, var)
    xp = array_namespace(mean)
    zero = xp.zeros_like(mean)
    return Moments(xp.stack([zero + 1.0, zero, mean, zero, var, zero, zero]))


def overwritten_input_error() -> RuntimeError:
    """Return the error of a backward pass whose input was overwritten."""
    return RuntimeError(
        "the latest forward or backward pass overwrote its input (out overlaps it), which "
        "backward needs; give the forward pass an out of its own"
    )
