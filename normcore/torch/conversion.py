"""An existing model's layers changed from PyTorch's to normcore's, and back."""

from __future__ import annotations

from typing import TypeVar

from torch import distributed, nn
from torch.nn.modules.lazy import LazyModuleMixin

from normcore.package.callers_warning import warn_caller
from normcore.torch import batchnorm, lazy, rows
from normcore.torch.batchnorm import SyncBatchNorm
from normcore.torch.layer import as_theirs, check_model, refusal

__all__ = ["convert", "synchronize"]

_OURS: dict[type[nn.Module], type[nn.Module]] = {
    ours.counterpart: ours
    for module in (batchnorm, rows, lazy)
    for ours in (getattr(module, name) for name in module.__all__)
    if "counterpart" in vars(ours)
}
_CONVERTED = frozenset(_OURS.values())
#: What batch norms become that are to be synchronized; those that are, with another group.
_SYNCHRONIZED: dict[type[nn.Module], type[nn.Module]] = {
    kind: lazy.LazySyncBatchNorm if issubclass(kind, LazyModuleMixin) else SyncBatchNorm
    for kind in (*_OURS, *_CONVERTED, lazy.LazySyncBatchNorm)
    if issubclass(kind, nn.modules.batchnorm._BatchNorm)
}

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
        derived from them do not. Lazy ones become lazy ones.
    to : {"normcore", "torch"}
        Whose layers they shall be.

    Returns
    -------
    nn.Module
        `model` itself.

    Raises
    ------
    TypeError
        If `model` is no module.
    ValueError
        If `to` is neither, or a layer is frozen or has a weight_offset, which PyTorch's cannot;
        nothing has changed.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> model = nt.convert(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)))
    >>> isinstance(model[1], nt.BatchNorm1d)
    True
    """
    check_model(model, "convert")
    if to not in ("normcore", "torch"):
        raise ValueError(f"to must be 'normcore' or 'torch', not {to!r}")
    if to == "normcore":
        for module in model.modules():
            module.__class__ = _OURS.get(type(module), type(module))
        return model
    layers = {name: each for name, each in model.named_modules() if type(each) in _CONVERTED}
    for name, layer in layers.items():
        reason = refusal(layer)
        if reason is not None:
            which = name or "the model itself"
            raise ValueError(f"PyTorch's layers {reason[0]}, unlike {which}; {reason[1]}")
    for layer in layers.values():
        as_theirs(layer, "convert")
    return model


def synchronize(module: nn.Module, process_group: distributed.ProcessGroup | None) -> nn.Module:
    """Make every batch norm of a model a synchronized one; see SyncBatchNorm."""
    check_model(module, "convert_sync_batchnorm")
    for name, each in module.named_modules():
        if not isinstance(each, nn.modules.batchnorm._BatchNorm):
            continue
        kind = type(each)
        if kind not in _SYNCHRONIZED:
            warn_caller(
                f"{name or 'the model itself'} stays a batch norm of its process alone: it is a "
                f"{kind.__qualname__}, which may do more than the batch norm that it derives from",
                UserWarning,
            )
            continue
        each.__class__ = _SYNCHRONIZED[kind]
        each.process_group = process_group
    return module
