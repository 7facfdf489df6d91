"""The thin face for MPI: :class:`MPICommunicator`, which imports mpi4py when one is made."""

from normcore.distributed.mpi import MPICommunicator

__all__ = ["MPICommunicator"]
