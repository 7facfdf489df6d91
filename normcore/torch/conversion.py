"""An existing model's layers changed from PyTorch's to normcore's, and back."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from normcore.torch.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
from normcore.torch.rows import GroupNorm, LayerNorm, RMSNorm

__all__ = ["convert"]

_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
    nn.SyncBatchNorm: SyncBatchNorm,
    nn.LayerNorm: LayerNorm,
    nn.GroupNorm: GroupNorm,
    nn.RMSNorm: RMSNorm,
}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}

Model = TypeVar("Model", bound=nn.Module)


def convert(model: Model, *, to: str = "normcore") -> Model:
    """Make the normalization layers of a model normcore's, or PyTorch's again.

    The layers change their class in place, the model itself if it is one. So parameters and
    buffers remain the tensors that they are, which an optimizer may hold, and modes, hooks and
    names remain too.

    Parameters
    ----------
    model : nn.Module
        Layers of exactly PyTorch's, or exactly normcore's, classes change; those of classes
        derived from them do not.
    to : {"normcore", "torch"}
        Whose layers they shall be.

    Returns
    -------
    nn.Module
        `model` itself.

    Raises
    ------
    ValueError
        If `to` is neither.
    """
    targets = {"normcore": _OURS, "torch": _THEIRS}.get(to)
    if targets is None:
        raise ValueError(f"to must be 'normcore' or 'torch', not {to!r}")
    for module in model.modules():
        target = targets.get(type(module))
        if target is not None:
            module.__class__ = target
    return model
