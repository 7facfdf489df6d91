"""Layers as PyTorch's own, with the same parameters and statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from normcore.batchnorm.layer import BatchNorm
from normcore.layernorm import GroupNorm, LayerNorm, RMSNorm

if TYPE_CHECKING:
    import torch

__all__ = ["LAYERS", "Layer", "as_torch_layer"]

Layer: TypeAlias = BatchNorm | GroupNorm | LayerNorm
#: What has a counterpart in PyTorch.
LAYERS = (BatchNorm, GroupNorm, LayerNorm)


def as_torch_layer(layer: Layer, dims: int | None, dtype: Any) -> torch.nn.Module:
    """Return PyTorch's layer.

    Raises
    ------
    ValueError
        If a BatchNorm comes without ``dims``, or another layer with them, or it has options that
        PyTorch's layers do not have.
    """
    from torch import nn

    if isinstance(layer, BatchNorm):
        if dims is None:
            raise ValueError("a BatchNorm needs dims=1, 2 or 3, as in torch.nn.BatchNorm2d")
        return layer.to_torch(dims, dtype=dtype)
    owner = type(layer).__name__
    if dims is not None:
        raise ValueError(f"dims={dims!r} is for a BatchNorm, not for a {owner}")
    gamma = layer.gamma
    if isinstance(layer, GroupNorm):
        if layer.axis != 1:
            raise ValueError(f"PyTorch's GroupNorm has axis=1, and this one axis={layer.axis}")
        made: nn.Module = nn.GroupNorm(
            layer.num_groups, layer.num_channels, layer.eps, layer.affine, dtype=dtype
        )
    elif isinstance(layer, RMSNorm):
        made = nn.RMSNorm(layer.normalized_shape, layer.eps, layer.affine, dtype=dtype)
    else:
        made = nn.LayerNorm(
            layer.normalized_shape, layer.eps, layer.affine, layer.bias, dtype=dtype
        )
    if isinstance(layer, LayerNorm) and gamma is not None:
        gamma = gamma + layer.gamma_offset
    _set(made, "weight", gamma)
    _set(made, "bias", layer.beta)
    return made


def _set(module: Any, name: str, values: np.ndarray | None) -> None:
    if values is not None:
        import torch

        with torch.no_grad():
            getattr(module, name).copy_(torch.from_numpy(np.array(values)))
