"""Batch norms of normcore among those that torch.ao.quantization fuses with what is before."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from normcore.torch.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from normcore.torch.layer import as_theirs

__all__ = ["register"]

_OURS = {each.counterpart: each for each in (BatchNorm1d, BatchNorm2d, BatchNorm3d)}


def register() -> None:
    """Have fuse_modules take normcore's batch norms wherever it takes PyTorch's."""
    try:
        from torch.ao.quantization import fuser_method_mappings
    except ImportError:  # moved out of PyTorch, as it is to be
        return
    methods = getattr(fuser_method_mappings, "_DEFAULT_OP_LIST_TO_FUSER_METHOD", {})
    for kinds, method in list(methods.items()):
        ours = tuple(_OURS.get(kind, kind) for kind in kinds)
        if ours != kinds:
            methods[ours] = _with_theirs(method)


def _with_theirs(method: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def fuse(is_qat: bool, *modules: nn.Module) -> nn.Module:
        given = (
            as_theirs(each, "fuse_modules") if type(each) in _OURS.values() else each
            for each in modules
        )
        return method(is_qat, *given)

    return fuse
