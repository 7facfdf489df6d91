"""Batch norm as PyTorch's modules, computed by normcore."""

from __future__ import annotations

from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, distributed, fx, nn

from normcore.distributed.communicator import ProcessGroup
from normcore.torch import functional, running_statistics
from normcore.torch.batch_operators import batch_norm, batch_norm_tracking
from normcore.torch.communicator import TorchCommunicator
from normcore.torch.dispatch import is_exporting_to_onnx, is_plain
from normcore.torch.layer import Layer
from normcore.torch.precision import choice
from normcore.torch.running_statistics import Running

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]

#: Running mean and variance, weight and bias.
State: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


class _BatchNorm(Layer, nn.modules.batchnorm._BatchNorm):
    """What batch norms of all dimensions share; the base class of PyTorch's has the state."""

    frozen = False

    def forward(self, input: Tensor) -> Tensor:
        """Normalize a batch and, in training, update the running statistics.

        Parameters
        ----------
        input : Tensor of shape ``(N, C, *)``
        """
        if isinstance(input, fx.Proxy) and (recorded := self._record(input)) is not None:
            return recorded
        training = self.training and not self.frozen
        running = self.running_mean, self.running_var  # each look at the state takes a while
        vectors = self.weight, self.bias
        if not training and not (running[0] is None and running[1] is None):
            if not isinstance(input, fx.Proxy):
                self._check_input_dim(input)
            return functional.batch_norm(
                input, *running, *vectors, eps=self.eps, precision=self.precision
            )
        if isinstance(input, fx.Proxy):
            raise NotImplementedError(
                f"torch.fx cannot trace the inside of a {type(self).__name__} of normcore in "
                "training, which would count batches while tracing; trace a module that has it"
            )
        if is_exporting_to_onnx():
            return super().forward(input)
        if not self.track_running_stats:
            running = None, None  # they may be there, and count for nothing
        group = self._group_name()
        self._check(input, group, (*running, *vectors))
        given = (input, *vectors, float(self.eps), group, *choice(self.precision, input))
        tracks = training and self.track_running_stats
        number = self.num_batches_tracked
        if tracks and not group and input.is_cuda and is_plain(*given, *running, number):
            tracked = Running.of(*running, number, self.momentum)
            # Whoever collects the statistics of batches puts another method in its place.
            if tracked is not None and "_update_running_stats" not in self.__dict__:
                y, _ = batch_norm_tracking(*given, tracked)
                return y
        y, parts = batch_norm(*given)
        if tracks:
            self._update_running_stats(parts)
        return y

    def freeze(self, frozen: bool = True) -> Self:
        """Normalize with the running statistics from now on, also after ``train()``.

        The gradients of the weights are not affected.

        Parameters
        ----------
        frozen : bool
            False lets the next ``train()`` take effect again.

        Raises
        ------
        ValueError
            If there are no running statistics.
        """
        if frozen and self.running_mean is None:
            raise ValueError(
                f"this {type(self).__name__} has no running statistics to normalize with: it was "
                "made with track_running_stats=False"
            )
        self.frozen = frozen
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, unless the layer is frozen.

        Parameters
        ----------
        mode : bool
            Whether to normalize with the statistics of the batch.
        """
        return super().train(mode and not self.frozen)

    def _check(self, input: Tensor, group: str, state: State) -> None:
        """Refuse an input that does not fit the layer in training."""
        self._check_input_dim(input)
        functional.check_batch(input, *state, self.eps, alone=not group)

    def _has_running_statistics(self) -> bool:
        """Whether there are any, and they are to be kept; either may be changed from outside."""
        return self.track_running_stats and self.running_mean is not None

    def _group_name(self) -> str:
        """Name the process group over which the statistics are taken; "" is this process alone."""
        return ""

    def _update_running_stats(self, parts: Tensor) -> None:
        """Update the running statistics, rounded once; nothing waits for a device."""
        number, mean, var = self.num_batches_tracked, self.running_mean, self.running_var
        if mean is not None and var is not None:
            running_statistics.update(parts, mean, var, number, self.momentum)
        elif number is not None:
            number.add_(1)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.BatchNorm1d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.BatchNorm1d(4)(torch.ones(8, 4)).shape
    torch.Size([8, 4])
    """

    __module__ = "normcore.torch"
    counterpart = nn.BatchNorm1d


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.BatchNorm2d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.BatchNorm2d(4)(torch.ones(8, 4, 5, 5)).shape
    torch.Size([8, 4, 5, 5])
    """

    __module__ = "normcore.torch"
    counterpart = nn.BatchNorm2d


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """:class:`torch.nn.BatchNorm3d`, computed by normcore; arguments and state are its own.

    Parameters
    ----------
    *arguments, **options
        Those of :class:`torch.nn.BatchNorm3d`.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.BatchNorm3d(4)(torch.ones(8, 4, 3, 3, 3)).shape
    torch.Size([8, 4, 3, 3, 3])
    """

    __module__ = "normcore.torch"
    counterpart = nn.BatchNorm3d


class SyncBatchNorm(_BatchNorm):
    """:class:`torch.nn.SyncBatchNorm`, computed by normcore, on the host too.

    The moments of all processes merge exactly, whatever the numbers of their samples, none
    included. Every process raises where one has an input that it refuses. Arguments and state are
    those of PyTorch's, from which it does not derive: DistributedDataParallel refuses that class
    on the host.

    Parameters
    ----------
    num_features, eps, momentum, affine, track_running_stats, process_group, device, dtype
        Those of :class:`torch.nn.SyncBatchNorm`.
    **options
        Those of :class:`BatchNorm1d` that PyTorch's class does not have: `precision`.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> nt.SyncBatchNorm(4)(torch.ones(8, 4)).shape
    torch.Size([8, 4])
    """

    __module__ = "normcore.torch"
    counterpart = nn.SyncBatchNorm
    #: Of all processes by default; also of layers whose class was changed.
    process_group: distributed.ProcessGroup | None = None

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
        **options: Any,
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

        The layers change in place: their parameters, buffers, hooks and mode remain. Those of
        classes derived from PyTorch's or normcore's, which may do more, stay with a warning.

        Parameters
        ----------
        module : torch.nn.Module
            The model, or a layer.
        process_group : ProcessGroup, optional
            Whose processes take their statistics together; by default all.
        """
        from normcore.torch.conversion import synchronize

        return synchronize(module, process_group)

    def _check(self, input: Tensor, group: str, state: State) -> None:
        if not group or torch.compiler.is_compiling():
            super()._check(input, group, state)
            return
        with ProcessGroup(TorchCommunicator.named(group)):  # the others would wait for this process
            super()._check(input, group, state)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def _group_name(self) -> str:
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return ""
        group = self.process_group or distributed.group.WORLD
        return group.group_name if distributed.get_world_size(group) > 1 else ""
