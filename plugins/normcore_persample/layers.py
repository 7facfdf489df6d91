"""Layers that normalize each sample by itself, with their parameters; as ``normcore.BatchNorm``."""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from normcore import Backend, Moments, functional, layout, plugins
from normcore.batch import check_eps
from normcore.namespace import to_numpy
from normcore_persample.arguments import check_integer
from normcore_persample.groups import (
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
)
from normcore_persample.rows import (
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]


class _Forward(NamedTuple):
    """What the backward pass needs of the latest forward pass."""

    x: Any
    moments: Moments
    gamma: Any
    training: bool = True


class _Layer:
    """Parameters, the latest forward pass, and what both ask of their arguments."""

    _forward: _Forward | None

    def __init__(
        self,
        shape: tuple[int, ...],
        eps: float,
        affine: bool,
        bias: bool,
        backend: str | Backend | None,
    ) -> None:
        self._shape = shape
        self.eps = check_eps(eps)
        self.affine = bool(affine)
        self.bias = bool(affine and bias)
        self.backend = backend
        self._gamma: Any = np.ones(shape) if self.affine else None
        self._beta: Any = np.zeros(shape) if self.bias else None
        self._forward = None

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Return :meth:`forward` of the same arguments."""
        return self.forward(x, out)

    def forward(self, x: Any, out: Any = None) -> Any:
        """Normalize a batch.

        Parameters
        ----------
        x : array
            Samples, whose shape fits the layer.
        out : array, optional
            Where to write the result; may be `x` itself, and then there is no backward pass.

        Returns
        -------
        array
            Of the kind, shape and float dtype of `x` (float64 for integers); `out` if given.

        Raises
        ------
        TypeError
            If `x` is not numeric and real, or `out` has another dtype than the result.
        ValueError
            If the shape of `x` is not the layer's, or `out` does not fit.
        """
        x = layout.as_array(x)
        chosen = plugins.select_backend(x, self.backend)
        self._check(tuple(x.shape))
        # Copies: an optimizer may change them in place between forward and backward.
        gamma, beta = (None if each is None else each.copy() for each in (self._gamma, self._beta))
        y, forward = self._normalize(x, gamma, beta, {"out": out, "backend": chosen})
        in_place = out is not None and layout.overlap(chosen.adopt(x), chosen.adopt(out))
        self._forward = forward._replace(x=None) if in_place else forward
        return y

    def backward(self, dy: Any, out: Any = None) -> tuple[Any, ...]:
        """Gradients with respect to the latest input and the parameters.

        Parameters
        ----------
        dy : array
            Gradient of the loss with respect to the latest output; of its shape and dtype.
        out : array, optional
            Where to write dx; may be `dy` itself.

        Returns
        -------
        dx : array
            Of the kind of `dy`; `out` if given.
        dgamma, dbeta : array of the shape of gamma and beta, float64, or None
            Of the kind of `dy`; None where there is no such parameter. RMS norm has no beta, and
            no dbeta.

        Raises
        ------
        RuntimeError
            If there was no forward pass yet, or the latest one overwrote its input.
        TypeError, ValueError
            If `dy` or `out` have another dtype or shape than the output.
        """
        forward, name = self._forward, type(self).__name__
        if forward is None:
            raise RuntimeError(f"backward needs a forward pass of this {name} first")
        if forward.x is None:
            raise RuntimeError(
                "the latest forward or backward pass overwrote its input (out overlaps it), which "
                "backward needs; give the forward pass an out of its own"
            )
        dx, *gradients = self._differentiate(dy, forward, {"out": out, "backend": self.backend})
        if out is not None:
            chosen = plugins.select_backend(forward.x, self.backend)
            if layout.overlap(chosen.adopt(forward.x), chosen.adopt(out)):
                self._forward = forward._replace(x=None)
        present = zip(gradients, (self.affine, self.bias), strict=False)
        return dx, *(each if there else None for each, there in present)

    @property
    def gamma(self) -> Any:
        """Scale, or None; may be assigned or changed in place, as an optimizer does."""
        return self._gamma

    @gamma.setter
    def gamma(self, value: Any) -> None:
        self._gamma = self._parameter("gamma", value, self.affine)

    @property
    def beta(self) -> Any:
        """Shift, or None; may be assigned or changed in place, as an optimizer does."""
        return self._beta

    @beta.setter
    def beta(self, value: Any) -> None:
        self._beta = self._parameter("beta", value, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_forward": None}

    def _parameter(self, name: str, value: Any, present: bool) -> np.ndarray:
        if not present:
            raise ValueError(f"this {type(self).__name__} was made without {name}")
        array = np.array(value, dtype=np.float64)
        if array.shape != self._shape:
            raise ValueError(f"{name} must have shape {self._shape}, got {array.shape}")
        return array

    def _check(self, shape: tuple[int, ...]) -> None:
        """Refuse an input of another shape than the layer's."""
        raise NotImplementedError

    def _normalize(
        self, x: Any, gamma: Any, beta: Any, options: dict[str, Any]
    ) -> tuple[Any, _Forward]:
        """Return y, and what its backward pass needs."""
        raise NotImplementedError

    def _differentiate(
        self, dy: Any, forward: _Forward, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Return dx and the gradients of all parameters that there may be."""
        raise NotImplementedError


class LayerNorm(_Layer):
    """Normalize each sample over its last axes, then scale and shift its values.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The shape of a sample: the last axes of the input.
    eps : float
        Positive; added to the variance.
    affine : bool
        Whether to have `gamma`.
    bias : bool
        Whether to have `beta`, with `affine`.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.

    Attributes
    ----------
    gamma, beta : ndarray of shape normalized_shape, float64, or None
        Scale and shift, at first 1 and 0.

    Notes
    -----
    The latest input is kept, by reference, for :meth:`backward`: do not change it before then.
    It does not travel in pickles and copies. A call that raises leaves the layer as it was.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> nc.LayerNorm(2)(np.array([[1.0, 3.0], [10.0, 30.0]])).round(3)
    array([[-1.,  1.],
           [-1.,  1.]])
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        *,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        self.normalized_shape = _shape_of(normalized_shape)
        super().__init__(self.normalized_shape, eps, affine, bias, backend)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.normalized_shape}, eps={self.eps}, "
            f"affine={self.affine}, bias={self.bias}{_backend(self)})"
        )

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise ValueError(
                f"x has shape {shape}, but the last axes of this {type(self).__name__}'s input "
                f"are normalized_shape={self.normalized_shape}"
            )

    def _normalize(
        self, x: Any, gamma: Any, beta: Any, options: dict[str, Any]
    ) -> tuple[Any, _Forward]:
        y, moments = layer_norm(x, gamma, beta, **self._options, **options)
        return y, _Forward(x, moments, gamma)

    def _differentiate(
        self, dy: Any, forward: _Forward, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        x, moments, gamma, _ = forward
        return layer_norm_backward(dy, x, moments, gamma, **self._options, **options)

    @property
    def _options(self) -> dict[str, Any]:
        return {"num_axes": len(self.normalized_shape), "eps": self.eps}


class RMSNorm(LayerNorm):
    """Divide each sample by its root mean square over its last axes, then scale its values.

    Parameters, attributes and notes are those of :class:`LayerNorm`, without `bias` and `beta`;
    `eps` is added to the mean square.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        *,
        eps: float = 1e-5,
        affine: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps=eps, affine=affine, bias=False, backend=backend)

    def __repr__(self) -> str:
        return (
            f"RMSNorm({self.normalized_shape}, eps={self.eps}, affine={self.affine}"
            f"{_backend(self)})"
        )

    def _normalize(
        self, x: Any, gamma: Any, beta: Any, options: dict[str, Any]
    ) -> tuple[Any, _Forward]:
        y, moments = rms_norm(x, gamma, **self._options, **options)
        return y, _Forward(x, moments, gamma)

    def _differentiate(
        self, dy: Any, forward: _Forward, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        x, moments, gamma, _ = forward
        return rms_norm_backward(dy, x, moments, gamma, **self._options, **options)


class _ChannelsLayer(_Layer):
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
            f"eps={self.eps}, affine={self.affine}{_backend(self)})"
        )

    def _normalize(
        self, x: Any, gamma: Any, beta: Any, options: dict[str, Any]
    ) -> tuple[Any, _Forward]:
        y, moments = group_norm(x, self.num_groups, gamma, beta, **self._options, **options)
        return y, _Forward(x, moments, gamma)

    def _differentiate(
        self, dy: Any, forward: _Forward, options: dict[str, Any]
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
            f"track_running_stats={self.track_running_stats}{_backend(self)})"
        )

    def _normalize(
        self, x: Any, gamma: Any, beta: Any, options: dict[str, Any]
    ) -> tuple[Any, _Forward]:
        if self.track_running_stats and not self.training:
            mean, var = self.running_mean.copy(), self.running_var.copy()
            y = functional.batch_norm_inference(
                x, mean, var, gamma, beta, **self._options, **options
            )
            moments = Moments.of(np.ones(self.num_features), mean, var)
            return y, _Forward(x, moments, gamma, training=False)
        y, moments = instance_norm(x, gamma, beta, **self._options, **options)
        if self.track_running_stats and moments.num_channels:
            self._update_running_stats(moments)
        return y, _Forward(x, moments, gamma)

    def _differentiate(
        self, dy: Any, forward: _Forward, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        x, moments, gamma, training = forward
        if training:
            return instance_norm_backward(dy, x, moments, gamma, **self._options, **options)
        return functional.batch_norm_backward(
            dy, x, moments, gamma, training=False, **self._options, **options
        )

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


def _shape_of(normalized_shape: Any) -> tuple[int, ...]:
    """Return the shape of a sample."""
    given = normalized_shape if isinstance(normalized_shape, tuple | list) else [normalized_shape]
    shape = tuple(check_integer(each, "normalized_shape") for each in given)
    if not shape or math.prod(shape) < 1 or min(shape) < 1:
        raise ValueError(
            f"normalized_shape must hold at least one positive length, got {normalized_shape!r}"
        )
    return shape


def _backend(layer: _Layer) -> str:
    return "" if layer.backend is None else f", backend={layer.backend!r}"
