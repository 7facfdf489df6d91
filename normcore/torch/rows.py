"""Layer, group, instance and RMS norm as PyTorch's modules, computed by normcore."""

from __future__ import annotations

from torch import Tensor, fx, nn

from normcore.torch import functional
from normcore.torch.layer import Layer

__all__ = [
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class LayerNorm(Layer, nn.LayerNorm):
    """:class:`torch.nn.LayerNorm`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"
    counterpart = nn.LayerNorm

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample over its last axes."""
        if isinstance(input, fx.Proxy) and (recorded := self._record(input)) is not None:
            return recorded
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(Layer, nn.RMSNorm):
    """:class:`torch.nn.RMSNorm`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"
    counterpart = nn.RMSNorm

    def forward(self, x: Tensor) -> Tensor:
        """Divide each sample by its root mean square over its last axes."""
        if isinstance(x, fx.Proxy) and (recorded := self._record(x)) is not None:
            return recorded
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class GroupNorm(Layer, nn.GroupNorm):
    """:class:`torch.nn.GroupNorm`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"
    counterpart = nn.GroupNorm

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each group of channels of each sample."""
        if isinstance(input, fx.Proxy) and (recorded := self._record(input)) is not None:
            return recorded
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class _InstanceNorm(Layer, nn.modules.instancenorm._InstanceNorm):
    """What instance norms of all dimensions share."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel of each sample."""
        if isinstance(input, fx.Proxy) and (recorded := self._record(input)) is not None:
            return recorded
        return super().forward(input)

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        return functional.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum if self.momentum is not None else 0.0,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    """:class:`torch.nn.InstanceNorm1d`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"
    counterpart = nn.InstanceNorm1d


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """:class:`torch.nn.InstanceNorm2d`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"
    counterpart = nn.InstanceNorm2d


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """:class:`torch.nn.InstanceNorm3d`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"
    counterpart = nn.InstanceNorm3d
