"""Processes joined by MPI, through mpi4py, which is imported when a communicator is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.layout.namespace import Array, array_namespace, to_numpy

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

__all__ = ["MPICommunicator"]


class MPICommunicator:
    """The ranks of an MPI communicator, as :class:`normcore.distributed.communicator.Communicator`.

    A rank that dies takes the others with it: that is MPI's default error handler, and mpirun's.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        By default ``MPI.COMM_WORLD``.

    Raises
    ------
    ImportError
        If mpi4py is missing.

    Examples
    --------
    >>> import normcore as nc
    >>> from normcore.mpi import MPICommunicator  # doctest: +SKIP
    >>> bn = nc.BatchNorm(4, communicator=MPICommunicator())  # doctest: +SKIP
    """

    def __init__(self, comm: Intracomm | None = None) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ImportError(
                "MPICommunicator needs mpi4py: pip install 'normcore-arrays[mpi]'"
            ) from error
        self.comm = MPI.COMM_WORLD if comm is None else comm
        self.rank = int(self.comm.Get_rank())
        self.size = int(self.comm.Get_size())

    def allreduce(self, array: Array) -> Array:
        """Return the elementwise sum over all ranks, through the host.

        Parameters
        ----------
        array : float64 array, C-contiguous
            Of one shape on all ranks, on the host or on a device.
        """
        part = np.ascontiguousarray(to_numpy(array))
        total = np.empty_like(part)
        self.comm.Allreduce(part, total)
        return total if isinstance(array, np.ndarray) else array_namespace(array).asarray(total)
