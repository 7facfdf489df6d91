"""GroupNorm and InstanceNorm as layers, in the manner of ``normcore.BatchNorm``."""

from __future__ import annotations

from typing import Any

import numpy as np

from normcore import layout
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import check_integer
from normcore.batchnorm.forward_backward import SavedForward
from normcore.batchnorm.inference import Inference, infer
from normcore.batchnorm.running_statistics import RunningStatistics, weight_of_batch
from normcore.layernorm.group_instance import GroupBatch
from normcore.layernorm.sample_layer import SampleLayer
from normcore.layout.namespace import Array, to_numpy
from normcore.statistics import Moments

__all__ = ["GroupNorm", "InstanceNorm"]


class _ChannelsLayer(SampleLayer):
    """A layer whose parameters are of channels."""

    def __init__(
        self,
        num_channels: int,
        axis: int,
        eps: float,
        affine: bool,
        backend: str | Backend | None,
        precision: str | None,
    ) -> None:
        self._num_channels = num_channels
        self.axis = check_integer("axis", axis)
        super().__init__((num_channels,), eps, affine, affine, backend, precision)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2:
            return  # the function says what it needs
        found = shape[layout.positive_axis(self.axis, len(shape))]
        if found != self._num_channels:
            raise ValueError(
                f"x has {found} channels on axis {self.axis} (its shape is {shape}), but this "
                f"{type(self).__name__} has {self._num_channels}"
            )


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
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Attributes
    ----------
    gamma, beta : ndarray of shape (C,), float64, or None
        Scale and shift, at first 1 and 0.

    Notes
    -----
    As of :class:`LayerNorm`.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(3, 2, size=(4, 6, 5))
    >>> y = nc.GroupNorm(2, 6)(x)
    >>> bool(np.allclose(y.reshape(4, 2, 15).mean(axis=-1), 0))
    True
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
        precision: str | None = None,
    ) -> None:
        self.num_groups = check_integer("num_groups", num_groups)
        self.num_channels = check_integer("num_channels", num_channels)
        if self.num_groups < 1 or self.num_channels < 0 or self.num_channels % self.num_groups:
            raise ValueError(
                f"num_groups must be positive and divide num_channels, got {num_groups} and "
                f"{num_channels}"
            )
        super().__init__(self.num_channels, axis, eps, affine, backend, precision)

    def __repr__(self) -> str:
        return (
            f"GroupNorm({self.num_groups}, {self.num_channels}, axis={self.axis}, "
            f"eps={self.eps}, affine={self.affine}{self._named_options})"
        )

    def _batch(self, x: Array, gamma: Array, beta: Array) -> GroupBatch:
        return GroupBatch(
            x, gamma, beta, self.num_groups, self.axis, self.eps, self.backend, self.precision
        )


class InstanceNorm(RunningStatistics, _ChannelsLayer):
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
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

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

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(3, 2, size=(4, 6, 50))
    >>> bool(np.allclose(nc.InstanceNorm(6)(x).mean(axis=-1), 0))
    True
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
        precision: str | None = None,
    ) -> None:
        RunningStatistics.__init__(self, num_features, track_running_stats)
        self.momentum = weight_of_batch(momentum)
        _ChannelsLayer.__init__(self, self.num_features, axis, eps, affine, backend, precision)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_forward": None}

    def __repr__(self) -> str:
        return (
            f"InstanceNorm({self.num_features}, axis={self.axis}, eps={self.eps}, "
            f"momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}{self._named_options})"
        )

    def _batch(self, x: Array, gamma: Array, beta: Array) -> GroupBatch:
        return GroupBatch(x, gamma, beta, None, self.axis, self.eps, self.backend, self.precision)

    def _normalize(
        self, x: Array, gamma: Array, beta: Array, out: Array
    ) -> tuple[Array, SavedForward | Inference]:
        if self.track_running_stats and not self.training:
            mean, var = self.running_mean.copy(), self.running_var.copy()
            y, inference = infer(
                x, mean, var, gamma, beta, out, axis=self.axis, eps=self.eps, backend=self.backend,
                precision=self.precision,
            )  # fmt: skip
            if isinstance(inference, SavedForward):
                inference.note_out(out)
            return y, inference
        return super()._normalize(x, gamma, beta, out)

    def _observe(self, moments: Moments, backend: Backend) -> None:
        if self.track_running_stats and moments.num_channels:
            self._update_running_stats((moments,), backend)

    def _updated(
        self, mean: Array, var: Array, moments: Moments, weight: float, backend: Backend
    ) -> tuple[Array, Array]:
        """Return running statistics moved towards the averages over the samples of a batch.

        A sample with one value a channel has no variance, and leaves the running one alone.
        """
        new_mean, new_var = (
            np.mean(to_numpy(each).reshape(-1, self.num_features), axis=0)
            for each in (moments.mean, moments.var(ddof=1))
        )
        moved = weight * new_var + (1.0 - weight) * var
        return (
            weight * new_mean + (1.0 - weight) * mean,
            np.where(np.isnan(new_var), var, moved),
        )
