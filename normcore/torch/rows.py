"""Layer, group and RMS norm as PyTorch's modules, computed by normcore."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normcore.torch.arrays import check_dtype
from normcore.torch.row_operators import row_norm

__all__ = ["GroupNorm", "LayerNorm", "RMSNorm"]


class LayerNorm(nn.LayerNorm):
    """:class:`torch.nn.LayerNorm`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample over its last axes."""
        _check_last_axes(self, input)
        extent = len(self.normalized_shape)
        return row_norm(input, self.weight, self.bias, "layer", extent, self.eps)[0]


class RMSNorm(nn.RMSNorm):
    """:class:`torch.nn.RMSNorm`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"

    def forward(self, x: Tensor) -> Tensor:
        """Divide each sample by its root mean square over its last axes."""
        _check_last_axes(self, x)
        eps = self.eps
        if eps is None:  # as PyTorch: of the type that it computes in
            wide = x.dtype == torch.float64
            eps = torch.finfo(torch.float64 if wide else torch.float32).eps
        return row_norm(x, self.weight, None, "rms", len(self.normalized_shape), eps)[0]


class GroupNorm(nn.GroupNorm):
    """:class:`torch.nn.GroupNorm`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each group of channels of each sample."""
        if input.ndim < 2 or input.shape[1] != self.num_channels:
            raise ValueError(
                f"the input has shape {tuple(input.shape)}, but this {type(self).__name__} wants "
                f"num_channels={self.num_channels} on axis 1"
            )
        check_dtype(input, self.weight, self)
        return row_norm(input, self.weight, self.bias, "group", self.num_groups, self.eps)[0]


def _check_last_axes(layer: nn.LayerNorm | nn.RMSNorm, input: Tensor) -> None:
    expected = tuple(layer.normalized_shape)
    if tuple(input.shape[-len(expected) :]) != expected:
        raise ValueError(
            f"the input has shape {tuple(input.shape)}, but this {type(layer).__name__} "
            f"normalizes over last axes of shape {expected}"
        )
    check_dtype(input, layer.weight, layer)
