"""Batch norm as PyTorch's modules, computed by normcore."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, distributed, nn

from normcore.distributed.communicator import ProcessGroup
from normcore.torch.arrays import check_dtype
from normcore.torch.batch_operators import (
    batch_norm,
    batch_norm_inference,
    mean_and_var,
    update_running,
)
from normcore.torch.communicator import TorchCommunicator

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What batch norms of all dimensions share; the base class of PyTorch's has the state."""

    frozen = False

    def forward(self, input: Tensor) -> Tensor:
        """Normalize a batch and, in training, update the running statistics."""
        self._check(input)
        if self.training or self.running_mean is None:
            group = self._group_name()
            y, parts = batch_norm(input, self.weight, self.bias, self.eps, group)
            # An empty batch has no statistics, unless other ranks have.
            counts = bool(group) or input.numel() > 0
            if counts and self.training and self._has_running_statistics():
                self._update_running_stats(parts)
            return y
        return batch_norm_inference(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.eps
        )

    def freeze(self, frozen: bool = True) -> Self:
        """Normalize with the running statistics from now on, also after ``train()``.

        The gradients of the weights are not affected. ``freeze(False)`` lets the next ``train()``
        take effect again.
        """
        self.frozen = frozen
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, unless the layer is frozen."""
        return super().train(mode and not self.frozen)

    def _check(self, input: Tensor) -> None:
        """Refuse an input that does not fit the layer."""
        self._check_input_dim(input)
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"the input has {input.shape[1]} channels (its shape is {tuple(input.shape)}), "
                f"but this {type(self).__name__} has num_features={self.num_features}"
            )
        check_dtype(input, self.weight, self)

    def _has_running_statistics(self) -> bool:
        """Whether there are any, and they are to be kept; either may be changed from outside."""
        return self.track_running_stats and self.running_mean is not None

    def _group_name(self) -> str:
        """Name the process group over which the statistics are taken; "" is this process alone."""
        return ""

    def _update_running_stats(self, parts: Tensor) -> None:
        """Update the running statistics, rounded once; nothing waits for a device."""
        running, number = (self.running_mean, self.running_var), self.num_batches_tracked
        weight: float | Tensor | None = self.momentum
        if parts.is_cuda and type(parts) is Tensor and not torch.compiler.is_compiling():
            number.add_(1)
            update_running(parts, *running, weight, number)
            return
        now = mean_and_var(parts)
        number.add_(1)
        if weight is None:  # the average of all batches so far
            weight = number.double().reciprocal()
        for old, new in zip(running, now.unbind(), strict=True):
            old.copy_(torch.lerp(old.double(), new, weight))


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """:class:`torch.nn.BatchNorm3d`, computed by normcore; arguments and state are its own."""

    __module__ = "normcore.torch"


class SyncBatchNorm(_BatchNorm):
    """:class:`torch.nn.SyncBatchNorm`, computed by normcore, on the host too.

    The moments of all processes merge exactly, whatever the numbers of their samples, none
    included. Every process raises where one has an input that it refuses. Arguments and state are
    those of PyTorch's, from which it does not derive: DistributedDataParallel refuses that class
    on the host.
    """

    __module__ = "normcore.torch"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: distributed.ProcessGroup | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: bool,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, **options
        )
        self.process_group = process_group

    @classmethod
    def convert_sync_batchnorm(
        cls, module: nn.Module, process_group: distributed.ProcessGroup | None = None
    ) -> nn.Module:
        """Make every batch norm of a model, PyTorch's or normcore's, a synchronized one.

        The layers change in place: their parameters, buffers, hooks and mode remain.
        """
        for each in module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.__class__ = cls
                each.process_group = process_group
        return module

    def _check(self, input: Tensor) -> None:
        group = self._group_name()
        if not group or torch.compiler.is_compiling():
            super()._check(input)
            return
        with ProcessGroup(TorchCommunicator.named(group)):  # the others would wait for this process
            super()._check(input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def _group_name(self) -> str:
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return ""
        group = self.process_group or distributed.group.WORLD
        return group.group_name if distributed.get_world_size(group) > 1 else ""
