"""normcore's layers for PyTorch: modules with its arguments, state and behaviour.

They compute in float64 whatever the dtype, on the host and on devices that a backend serves, and
without copies. A checkpoint of PyTorch's layers is one of theirs, and :func:`convert` changes the
layers of a model from one to the other.
"""

from normcore.torch.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
from normcore.torch.communicator import TorchCommunicator
from normcore.torch.conversion import convert
from normcore.torch.population import population_statistics
from normcore.torch.rows import GroupNorm, LayerNorm, RMSNorm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "LayerNorm",
    "RMSNorm",
    "SyncBatchNorm",
    "TorchCommunicator",
    "convert",
    "population_statistics",
]
