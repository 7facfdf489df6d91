"""normcore's layers for PyTorch: modules with its arguments, state and behaviour.

They compute in float64 whatever the dtype, on the host and on devices that a backend serves, and
without copies. A checkpoint of PyTorch's layers is one of theirs, and :func:`convert` changes the
layers of a model from one to the other. :mod:`normcore.torch.functional` has the functions.
"""

from normcore.package.needed_library import needed

with needed("normcore.torch needs PyTorch", "torch", "torch"):
    from normcore.torch import decompositions, functional, fusion
    from normcore.torch.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
    from normcore.torch.communicator import TorchCommunicator
    from normcore.torch.conversion import convert
    from normcore.torch.lazy import (
        LazyBatchNorm1d,
        LazyBatchNorm2d,
        LazyBatchNorm3d,
        LazyInstanceNorm1d,
        LazyInstanceNorm2d,
        LazyInstanceNorm3d,
        LazySyncBatchNorm,
    )
    from normcore.torch.population import population_statistics
    from normcore.torch.rows import (
        GroupNorm,
        InstanceNorm1d,
        InstanceNorm2d,
        InstanceNorm3d,
        LayerNorm,
        RMSNorm,
    )

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazySyncBatchNorm",
    "RMSNorm",
    "SyncBatchNorm",
    "TorchCommunicator",
    "convert",
    "functional",
    "population_statistics",
]

decompositions.register()
fusion.register()
