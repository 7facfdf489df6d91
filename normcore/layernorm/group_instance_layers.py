"""GroupNorm and InstanceNorm as layers, in the manner of ``normcore.BatchNorm``."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from normcore import layout
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import Batch
from normcore.batchnorm.inference import normalized_with
from normcore.layernorm.arguments import check_integer
from normcore.layernorm.group_instance import (
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
)
from normcore.layernorm.sample_layer import Layer, SavedForward
from normcore.layout.namespace import Array, to_numpy
from normcore.statistics import Moments

__all__ = ["GroupNorm", "InstanceNorm"]


class _ChannelsLayer(Layer):
    """A layer whose parameters are of channels."""

    def __init__(
        self,
        num_channels: int,
        axis: int,
        eps: float,
        affine: bool,
        backend: str | Backend | None,
    ) -> None:
        self._num_channels = num_channels
        self.axis = check_integer(axis, "axis")
        super().__init__((num_channels,), eps, affine, affine, backend)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2:
            return  # the function says what it needs
        found = shape[layout.positive_axis(self.axis, len(shape))]
        if found != self._num_channels:
            raise ValueError(
                f"x has {found} channels on axis {self.axis} (its shape is {shape}), but this "
                f"{type(self).__name__} has {self._num_channels}"
            )

    @property
    def _options(self) -> dict[str, Any]:
        return {"axis": self.axis, "eps": self.eps}


class GroupNorm(_ChannelsLayer):
    """Normalize groups of channels of each sample, then scale and shift each channel.

    Parameters
    ----------
    num_groups : int
        G; divides the number of channels.
    num_channels : int
        The number of channels, C.
    axis : int
        The channel axis; negative ones count from the end.
    eps : float
        Positive; added to the variance.
    affine : bool
        Whether to have `gamma` and `beta`.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.

    Attributes
    ----------
    gamma, beta : ndarray of shape (C,), float64, or None
        Scale and shift, at first 1 and 0.

    Notes
    -----
    As of :class:`LayerNorm`.
    """

    __module__ = "normcore"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        *,
        axis: int = 1,
        eps: float = 1e-5,
        affine: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        self.num_groups = check_integer(num_groups, "num_groups")
        self.num_channels = check_integer(num_channels, "num_channels")
        if self.num_groups < 1 or self.num_channels < 0 or self.num_channels % self.num_groups:
            raise ValueError(
                f"num_groups must be positive and divide num_channels, got {num_groups} and "
                f"{num_channels}"
            )
        super().__init__(self.num_channels, axis, eps, affine, backend)

    def __repr__(self) -> str:
        return (
            f"GroupNorm({self.num_groups}, {self.num_channels}, axis={self.axis}, "
            f"eps={self.eps}, affine={self.affine}{self._named_backend})"
        )

    def _normalize(
        self, x: Array, gamma: Array, beta: Array, options: dict[str, Any]
    ) -> tuple[Any, SavedForward]:
        y, moments = group_norm(x, self.num_groups, gamma, beta, **self._options, **options)
        return y, SavedForward(x, moments, gamma)

    def _differentiate(
        self, dy: Array, forward: SavedForward, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        x, moments, gamma, _ = forward
        return group_norm_backward(
            dy, x, moments, self.num_groups, gamma, **self._options, **options
        )


class InstanceNorm(_ChannelsLayer):
    """Normalize each channel of each sample, then scale and shift it.

    Parameters
    ----------
    num_features : int
        The number of channels, C.
    axis : int
        The channel axis; negative ones count from the end.
    eps : float
        Positive; added to the variance.
    momentum : float or None
        The weight of the new batch in the running statistics, in [0, 1]; None takes the average
        of all batches so far.
    affine : bool
        Whether to have `gamma` and `beta`.
    track_running_stats : bool
        Whether to keep running statistics of channels, which evaluation then normalizes with.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.

    Attributes
    ----------
    gamma, beta : ndarray of shape (C,), float64, or None
        Scale and shift, at first 1 and 0.
    running_mean, running_var : ndarray of shape (C,), float64, or None
        At first 0 and 1; they average the means and the unbiased variances of the samples.
    num_batches_tracked : int or None
        Training batches that the running statistics have seen.
    training : bool
        The mode, at first True; :meth:`train` and :meth:`eval` set it.

    Notes
    -----
    As of :class:`LayerNorm`.
    """

    __module__ = "normcore"

    def __init__(
        self,
        num_features: int,
        *,
        axis: int = 1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        backend: str | Backend | None = None,
    ) -> None:
        self.num_features = check_integer(num_features, "num_features")
        if self.num_features < 0:
            raise ValueError(f"num_features must not be negative, got {num_features}")
        if momentum is not None and not isinstance(momentum, numbers.Real):
            raise TypeError(f"momentum must be a number or None, got {momentum!r}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be None or lie in [0, 1], got {momentum!r}")
        super().__init__(self.num_features, axis, eps, affine, backend)
        self.momentum = momentum
        self.track_running_stats = bool(track_running_stats)
        self.training = True
        self.reset_running_stats()

    def train(self, mode: bool = True) -> InstanceNorm:
        """Normalize with the statistics of each sample from now on; returns self."""
        self.training = bool(mode)
        return self

    def eval(self) -> InstanceNorm:
        """Normalize with the running statistics, if there are any, from now on; returns self."""
        return self.train(False)

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1."""
        tracked = self.track_running_stats
        self.running_mean: Any = np.zeros(self.num_features) if tracked else None
        self.running_var: Any = np.ones(self.num_features) if tracked else None
        self.num_batches_tracked: int | None = 0 if tracked else None

    def __repr__(self) -> str:
        return (
            f"InstanceNorm({self.num_features}, axis={self.axis}, eps={self.eps}, "
            f"momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}{self._named_backend})"
        )

    def _normalize(
        self, x: Array, gamma: Array, beta: Array, options: dict[str, Any]
    ) -> tuple[Any, SavedForward]:
        if self.track_running_stats and not self.training:
            mean, var = self.running_mean.copy(), self.running_var.copy()
            out = options.pop("out")
            y = normalized_with(x, mean, var, gamma, beta, out, self._batch_options(options))
            moments = Moments.of(np.ones(self.num_features), mean, var)
            return y, SavedForward(x, moments, gamma, training=False)
        y, moments = instance_norm(x, gamma, beta, **self._options, **options)
        if self.track_running_stats and moments.num_channels:
            self._update_running_stats(moments)
        return y, SavedForward(x, moments, gamma)

    def _differentiate(
        self, dy: Array, forward: SavedForward, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        x, moments, gamma, training = forward
        if training:
            return instance_norm_backward(dy, x, moments, gamma, **self._options, **options)
        out = options.pop("out")
        batch = Batch(x, gamma, None, **self._batch_options(options))
        return batch.backward(dy, moments, False, out)

    def _batch_options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**self._options, **options, "activation": None, "mask": None}

    def _update_running_stats(self, moments: Moments) -> None:
        """Follow the batch; a sample with one value a channel has no variance to follow."""
        number = (self.num_batches_tracked or 0) + 1
        new = 1.0 / number if self.momentum is None else float(self.momentum)
        mean, var = (
            np.mean(to_numpy(each).reshape(-1, self.num_features), axis=0)
            for each in (moments.mean, moments.var(ddof=1))
        )
        self.running_mean = new * mean + (1.0 - new) * self.running_mean
        self.running_var = np.where(
            np.isnan(var), self.running_var, new * var + (1.0 - new) * self.running_var
        )
        self.num_batches_tracked = number
