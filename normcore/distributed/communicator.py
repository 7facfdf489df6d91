"""Batch norm over the batches of several processes, as if they were one batch.

Each process is a *rank* with a batch of its own, of any number of samples, none included. What
the ranks share is what threads and files share: moments, which merge exactly (Chan), and sums.
Each rank puts its own in a slot of its own among zeros, one sum over the ranks makes all of them
known to all, and every rank combines them in rank order. So the result has the same bits on every
rank, whatever the order in which the communicator adds.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from functools import reduce
from typing import Protocol, Self

import numpy as np

from normcore.array_backend.abstract import Backend, batch_scale
from normcore.array_backend.composite import CompositeKernels
from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import Moments

__all__ = ["Communicator", "ProcessGroup", "process_group_of", "single_process_error"]

#: In the place of a number of rows and channels: this rank has nothing to share.
_REFUSED = (-1, -1)


class _Alone:
    """The context of one process, which exchanges nothing; faster than a nullcontext."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        pass


_ALONE = _Alone()


class Communicator(Protocol):
    """What joins the ranks.

    :class:`normcore.torch.TorchCommunicator` and :class:`normcore.mpi.MPICommunicator` are two.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """The number of ranks."""
        ...

    def allreduce(self, array: Array) -> Array:
        """Return the elementwise sum of an array over the ranks, each of which calls this.

        Parameters
        ----------
        array : float64 array, C-contiguous
            Of one shape on all ranks: a NumPy array, or one on the device of the batch. It may be
            overwritten.

        Returns
        -------
        array
            Of the same kind, and the same on every rank.

        Raises
        ------
        Exception
            If a rank is gone, within a time that the communicator sets.
        """
        ...


class ProcessGroup(CompositeKernels):
    """A backend's kernels over an array of which each rank has a part.

    The compositions of :class:`~normcore.Backend` in terms of moments and sums hold for the whole.
    Used as a context manager, once for each exchange, it tells the other ranks where this one
    raises before they have met, so that they raise too and none waits for it.

    Raises
    ------
    TypeError
        If `communicator` is none.
    ValueError
        If its rank is not one of its size.
    """

    def __init__(self, communicator: Communicator) -> None:
        try:
            self.rank, self.size = int(communicator.rank), int(communicator.size)
        except (AttributeError, TypeError) as error:
            raise TypeError(
                "a communicator has rank, size and allreduce, which "
                f"{type(communicator).__name__} has not: {error}"
            ) from error
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} is not one of a communicator of size {self.size}")
        self.communicator = communicator
        self.has_met = False

    def bind(self, backend: Backend, axis: int) -> Self:
        """Take the backend and the channel axis of this process's batch; returns self."""
        self.backend, self.axis = backend, axis
        return self

    def __enter__(self) -> Self:
        self.has_met = False
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, Exception) and not self.has_met:
            with suppress(Exception):  # the error that counts is the one being raised
                self._shapes(_REFUSED)

    def moments(self, x: Array, **options: Array) -> Moments:
        """Return the moments of the batches of all ranks."""
        own = super().moments(x, **options)
        moments: Moments = reduce(self.backend.merge, map(Moments, self.gather(own.parts)))
        # A comparison on a device would wait for it.
        if isinstance(moments.parts, np.ndarray) and np.any(moments.count < 2):
            raise ValueError(
                "training needs at least 2 values in each channel to take a variance of, but the "
                f"batches of all {self.size} ranks together have {int(moments.count.min())}"
            )
        return moments

    def backward_reduce(
        self, dy: Array, x: Array, mean: Array, **options: Array
    ) -> tuple[Array, Array]:
        """Return the sums over the batches of all ranks, and keep this rank's own."""
        self.own_sums = super().backward_reduce(dy, x, mean, **options)
        xp = array_namespace(self.own_sums[0])
        total: Array = sum(self.gather(xp.stack(self.own_sums)))
        return total[0, ...], total[1, ...]

    def normalize_backward(
        self, dy: Array, x: Array, moments: Moments, *given: Array, **options: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx through the statistics of all ranks, and this rank's dgamma and dbeta."""
        dx, _, _ = super().normalize_backward(dy, x, moments, *given, **options)
        sum_dy, sum_dy_xmu = self.own_sums
        return dx, sum_dy_xmu / batch_scale(moments, given[-1]), sum_dy

    def gather(self, part: Array) -> list[Array]:
        """Return the parts of all ranks, float64 arrays of shape (rows, C), in rank order.

        Raises
        ------
        RuntimeError
            If another rank raised instead.
        ValueError
            If the ranks disagree on the number of channels.
        """
        shapes = self._shapes(part.shape)
        refusing = [str(rank) for rank, shape in enumerate(shapes) if shape == _REFUSED]
        if refusing:
            raise RuntimeError(
                f"rank {', '.join(refusing)} of {self.size} refused its arguments, so that rank "
                f"{self.rank} cannot go on either; the error there says why"
            )
        if len(set(shapes)) > 1:
            raise ValueError(
                "the ranks disagree on the number of channels: "
                + ", ".join(f"rank {rank} has {shape[1]}" for rank, shape in enumerate(shapes))
            )
        xp = array_namespace(part)
        zeros = xp.zeros_like(part)
        slots = xp.stack([part if rank == self.rank else zeros for rank in range(self.size)])
        total = self.communicator.allreduce(slots)
        return [total[rank, ...] for rank in range(self.size)]

    def _shapes(self, own: tuple[int, int]) -> list[tuple[int, int]]:
        """Exchange what has the same size whatever the arguments: how large the rest is."""
        self.has_met = True
        shapes = np.zeros((self.size, 2))
        shapes[self.rank] = own
        return [(int(rows), int(columns)) for rows, columns in self.communicator.allreduce(shapes)]


def process_group_of(
    communicator: Communicator | None,
) -> AbstractContextManager[ProcessGroup | None]:
    """Return the ranks of a communicator, as the context of an exchange; of None, no ranks."""
    return _ALONE if communicator is None else ProcessGroup(communicator)


def single_process_error(name: str, value: object) -> ValueError:
    """Return the error of an option that makes no sense with a communicator."""
    return ValueError(
        f"{name}={value!r} is of the batch of one process, but the communicator joins the batches "
        "of all; use one of them"
    )
