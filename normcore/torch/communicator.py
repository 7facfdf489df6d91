"""Processes joined by torch.distributed."""

from __future__ import annotations

import numpy as np
import torch
from torch import distributed

from normcore.layout.namespace import Array, array_namespace

__all__ = ["TorchCommunicator"]


class TorchCommunicator:
    """The ranks of a process group, as :class:`normcore.distributed.communicator.Communicator`.

    With NCCL arrays stay on the device; what lies on the host is copied there and back. A rank
    that is gone is an error on the others within the group's timeout.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional
        By default all processes.

    Raises
    ------
    RuntimeError
        If torch.distributed was not initialized.
    ValueError
        If this process is not in the group.

    Examples
    --------
    >>> import normcore as nc
    >>> import normcore.torch as nt
    >>> import torch.distributed as dist
    >>> if dist.is_initialized():
    ...     bn = nc.BatchNorm(4, communicator=nt.TorchCommunicator())
    """

    __module__ = "normcore.torch"

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        if not (distributed.is_available() and distributed.is_initialized()):
            raise RuntimeError(
                "there is no process group; call torch.distributed.init_process_group first"
            )
        self.group = group
        self.rank = distributed.get_rank(group)
        self.size = distributed.get_world_size(group)
        if self.rank < 0:
            raise ValueError("this process is not in the process group")
        self._on_device = distributed.get_backend(group) == "nccl"

    @classmethod
    def named(cls, name: str) -> TorchCommunicator:
        """Return that of the process group of a name, which is how operators refer to it.

        Parameters
        ----------
        name : str
            Which PyTorch gave it.
        """
        return cls(distributed.distributed_c10d._resolve_process_group(name))

    def allreduce(self, array: Array) -> Array:
        """Return the elementwise sum over all ranks.

        Parameters
        ----------
        array : float64 array, C-contiguous
            Of one shape on all ranks, on the host or on the device. It may be overwritten.
        """
        on_host = isinstance(array, np.ndarray)
        # Made and taken back by DLPack, which has each library's stream wait for the other's.
        tensor = torch.from_numpy(array) if on_host else torch.from_dlpack(array)
        if on_host and self._on_device:
            tensor = tensor.cuda()
        distributed.all_reduce(tensor, group=self.group)
        if on_host:
            return tensor.numpy(force=True)
        return array_namespace(array).from_dlpack(tensor)
