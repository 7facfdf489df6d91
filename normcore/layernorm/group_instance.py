"""Group and instance norm: each sample by the statistics of groups of its channels.

With N samples and C channels in G groups, the data is N * G channels for the statistics and N * C
for the map, whose four coefficients are those of the group and of the channel. Where the axes of
samples and channels are one run of memory that is a view; otherwise each sample is one by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from normcore import layout
from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend, batch_scale
from normcore.array_backend.selection import in_order_with
from normcore.batchnorm.arguments import check_integer
from normcore.layernorm.arguments import PerSampleBatch
from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import Moments, wide_integers

__all__ = [
    "GroupBatch",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
]

#: Elements of a sample from which on a call of the kernels for each costs less than a copy.
_MIN_SAMPLE = 1 << 14


def group_norm(
    x: Array,
    num_groups: int,
    gamma: Array = None,
    beta: Array = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Moments]:
    """Normalize groups of channels of each sample.

    ``y = (x - mean) / sqrt(var + eps) * gamma + beta`` with the mean and the biased variance of
    the group of neighbouring channels in the sample; the arithmetic is float64 whatever the dtype
    of `x`.

    Parameters
    ----------
    x : array of two or more dimensions
        The first axis counts samples, unless it is the channel axis: then the second does.
    num_groups : int
        G; divides the number of channels.
    gamma, beta : array of shape (C,), optional
        Scale and shift of each channel; None stands for 1 and 0.
    axis : int
        The channel axis.
    eps : float
        Positive; added to the variance.
    out : array, optional
        Where to write y: of the shape and memory order of `x` and the dtype of y;
        may be `x` itself.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Returns
    -------
    y : array
        Of the kind and shape of `x`; `out` if that was given. Floats keep their dtype, integers
        and booleans become float64.
    moments : Moments
        Of the G groups of each sample, sample by sample; :func:`group_norm_backward` wants them.

    Raises
    ------
    TypeError
        If `x` is not numeric and real, or `out` has another dtype than the result.
    ValueError
        If `num_groups` does not divide the number of channels, a group has no values, or `x`,
        `gamma`, `beta`, `axis`, `eps` or `out` do not fit.
    """
    with in_order_with(x, backend):
        return GroupBatch(x, gamma, beta, num_groups, axis, eps, backend, precision).forward(out)


def group_norm_backward(
    dy: Array,
    x: Array,
    moments: Moments,
    num_groups: int,
    gamma: Array = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`group_norm` with respect to `x`, `gamma` and `beta`.

    Parameters
    ----------
    dy : array
        Gradient of the loss with respect to y; of the shape of `x` and the dtype of y.
    x : array
        The input of the forward call.
    moments : Moments
        What the forward call returned.
    num_groups, gamma, axis, eps, backend, precision
        As in the forward call.
    out : array, optional
        Where to write dx: of the shape, memory order and dtype of `dy`; may be `dy` itself.

    Returns
    -------
    dx : array
        Of the kind of `dy`; `out` if that was given.
    dgamma, dbeta : array of shape (C,)
        float64, of the kind of `dy`; computed whether or not `gamma` and `beta` were given.

    Raises
    ------
    TypeError
        If `dy` or `out` have another dtype than y, or `moments` are none.
    ValueError
        If `dy` or `out` have another shape than `x`, if `moments` are of another number of
        groups, and as for :func:`group_norm`.
    """
    with in_order_with(x, backend):
        batch = GroupBatch(x, gamma, None, num_groups, axis, eps, backend, precision)
        return batch.backward(dy, moments, True, out)


def instance_norm(
    x: Array,
    gamma: Array = None,
    beta: Array = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Moments]:
    """Normalize each channel of each sample: :func:`group_norm` with one channel to a group."""
    with in_order_with(x, backend):
        return GroupBatch(x, gamma, beta, None, axis, eps, backend, precision).forward(out)


def instance_norm_backward(
    dy: Array,
    x: Array,
    moments: Moments,
    gamma: Array = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    out: Array = None,
    backend: str | Backend | None = None,
    precision: str | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`instance_norm`; as those of :func:`group_norm_backward`."""
    with in_order_with(x, backend):
        batch = GroupBatch(x, gamma, None, None, axis, eps, backend, precision)
        return batch.backward(dy, moments, True, out)


class GroupBatch(PerSampleBatch):
    """A batch whose samples are groups of channels; None makes each channel a group."""

    __slots__ = ("axis", "num_channels", "num_groups", "num_samples", "per_group")

    def __init__(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_groups: int | None,
        axis: int,
        eps: float,
        backend: str | Backend | None,
        precision: str | None = None,
    ) -> None:
        super().__init__(x, eps, backend, precision)
        shape = tuple(self.x.shape)
        if len(shape) < 2:
            raise ValueError(
                f"samples with channels need at least 2 dimensions, but x has shape {shape}"
            )
        self.axis = layout.positive_axis(axis, len(shape))
        self.num_channels = shape[self.axis]
        if num_groups is None:
            num_groups = self.num_channels
        self.num_groups = check_integer("num_groups", num_groups)
        if self.num_groups < 0 or (self.num_groups == 0) != (self.num_channels == 0):
            raise ValueError(f"num_groups must be positive, got {num_groups}")
        if self.num_groups and self.num_channels % self.num_groups:
            raise ValueError(
                f"num_groups={num_groups} does not divide the {self.num_channels} channels of x "
                f"of shape {shape} on axis {axis}"
            )
        self.per_group = self.num_channels // max(self.num_groups, 1)
        self.num_samples = shape[1 if self.axis == 0 else 0]
        if self.num_samples and math.prod(shape) == 0:
            raise ValueError(f"each group needs at least 1 value, but x has shape {shape}")
        self.gamma = self._channels(gamma, "gamma", 1.0)
        self.beta = None if beta is None else self._channels(beta, "beta", 0.0)

    def forward(self, out: Array) -> tuple[Array, Moments]:
        """Return y as the caller's kind of array, and the moments of each group."""
        target = self.target(out, self.x)
        beta = self._channels(None, "beta", 0.0) if self.beta is None else self.beta
        moments: list[Moments] = []

        def kernel(samples: slice, x: Array, out: Array) -> Array:
            in_groups = array_namespace(x).reshape(x, (-1, self.per_group, *x.shape[1:]))
            found = over_views.observe(self.backend.moments, in_groups, 0)
            moments.append(found)
            affine = Affine(
                center=self._of_channels(found.mean),
                scale=self._of_channels(batch_scale(found, self.eps)),
                gamma=self._part_of_vector(self.gamma, samples),
                beta=self._part_of_vector(beta, samples),
            )
            return over_views.rescale(self.backend, x, affine, 0, out=out)

        y = self._mapped(kernel, (self.x,), target)
        y = self.backend.release(y, self.given) if out is None else out
        return y, _side_by_side(moments, self.x)

    def backward(
        self, dy: Array, moments: object, training: bool, out: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta as the caller's kind of array, in training."""
        gamma, backend = self.gamma, self.backend
        dy = layout.as_array(dy)
        upstream = self.adopt_gradient(dy)
        number = self.num_samples * self.num_groups
        checked = self.statistics(moments, number, "groups")
        target = self.target(out, upstream, self.x)
        count = math.prod(self.x.shape) / max(number, 1)
        mean, scale = checked.mean, batch_scale(checked, self.eps)
        xp = array_namespace(mean)
        sums = [xp.zeros_like(gamma), xp.zeros_like(gamma)]  # dgamma, dbeta

        def kernel(samples: slice, dy: Array, x: Array, out: Array) -> Array:
            part = slice(samples.start * self.num_groups, samples.stop * self.num_groups)
            mu, sigma = self._of_channels(mean[part]), self._of_channels(scale[part])
            weight = self._part_of_vector(gamma, samples)
            wide_integers.refuse_rounded(x, 0, mu, sigma)
            sum_dy, sum_dy_xmu = 0.0, 0.0
            for dy_view, x_view in layout.views(0, dy, x):
                found = backend.backward_reduce(dy_view, x_view, mu)
                sum_dy, sum_dy_xmu = sum_dy + found[0], sum_dy_xmu + found[1]
            sums[0] = sums[0] + self._over_samples(sum_dy_xmu / sigma)
            sums[1] = sums[1] + self._over_samples(sum_dy)
            # With g = gamma * dy: dx = (g - mean(g) - xhat * mean(g * xhat)) / scale in a group.
            mean_g, mean_g_xmu = (
                self._of_channels(self._over_groups(weight * each)) / count
                for each in (sum_dy, sum_dy_xmu)
            )
            a, b, d = weight / sigma, mean_g / sigma, mean_g_xmu / sigma / (sigma * sigma)

            def gradient(dy: Array, x: Array, **planes: Array) -> Array:
                return backend.backward_elemt(dy, x, mu, a, b, d, **planes)

            return over_views.elementwise(gradient, 0, dy, x, out=out)

        dx = self._mapped(kernel, (upstream, self.x), target)
        dx = backend.release(dx, dy) if out is None else out
        return dx, backend.release(sums[0], dy), backend.release(sums[1], dy)

    def _channels(self, value: Array, name: str, absent: float) -> Array:
        """Return gamma or beta as a vector over channels."""
        if value is None:
            return self.on_backend(np.full(self.num_channels, absent))
        return self.vector(value, name, (self.num_channels,), "channel")

    def _mapped(
        self, kernel: Callable[..., Array], arrays: tuple[Array, ...], target: Array
    ) -> Array:
        """Map ``kernel(samples, *views, out)`` over arrays, into the target if there is one."""
        first = arrays[0]
        xp = array_namespace(first)
        is_empty = self.num_samples == 0 or self.num_channels == 0
        if is_empty or self._has_channel_views(*arrays, target):
            if target is None:
                target = xp.empty_like(first, dtype=out_argument.result_dtype(first))
            if not is_empty:
                for samples, (*views, out) in self._channel_views(*arrays, target):
                    kernel(samples, *views, out)
            return target
        whole = slice(0, self.num_samples)
        result = self._restored(kernel(whole, *map(self._contiguous, arrays), None))
        if target is None:
            return result
        target[...] = result
        return target

    def _channel_views(self, *arrays: Array) -> Iterator[tuple[slice, tuple[Array, ...]]]:
        """Yield samples, and arrays of one shape as (samples * C, ...) views of them."""
        moved = tuple(self._moved(array) for array in arrays)
        if all(_is_mergeable(array) for array in moved):
            yield slice(0, self.num_samples), tuple(self._merged(array) for array in moved)
            return
        for sample in range(self.num_samples):
            yield slice(sample, sample + 1), tuple(array[sample, ...] for array in moved)

    def _has_channel_views(self, *arrays: Array) -> bool:
        """Whether :meth:`_channel_views` are views, and large enough where there are many."""
        present = [each for each in arrays if each is not None]
        if not all(isinstance(getattr(each, "strides", None), tuple) for each in present):
            return False
        return math.prod(self.x.shape) >= _MIN_SAMPLE * self.num_samples or all(
            _is_mergeable(self._moved(each)) for each in present
        )

    def _contiguous(self, array: Array) -> Array:
        """Return an array as (N * C, ...), a copy where strides do not allow a view."""
        return self._merged(self._moved(array))

    def _restored(self, result: Array) -> Array:
        """Return what :meth:`_contiguous` was with its axes where they were."""
        xp = array_namespace(result)
        first = (self.num_samples, self.num_channels)
        result = xp.reshape(result, first + tuple(result.shape[1:]))
        return xp.moveaxis(result, (0, 1), self._axes)

    def _over_groups(self, vector: Array) -> Array:
        """Sum a vector over samples * C within groups."""
        xp = array_namespace(vector)
        return xp.sum(xp.reshape(vector, (-1, self.per_group)), axis=1)

    def _over_samples(self, vector: Array) -> Array:
        """Sum a vector over samples * C within channels."""
        xp = array_namespace(vector)
        return xp.sum(xp.reshape(vector, (-1, self.num_channels)), axis=0)

    def _of_channels(self, vector: Array) -> Array:
        """Repeat a vector over groups for each of their channels."""
        xp = array_namespace(vector)
        shape = (vector.shape[0], self.per_group)
        return xp.reshape(xp.broadcast_to(vector[:, None], shape), (-1,))

    def _part_of_vector(self, vector: Array, samples: slice) -> Array:
        """Repeat a vector over channels for each sample."""
        xp = array_namespace(vector)
        shape = (samples.stop - samples.start, self.num_channels)
        return xp.reshape(xp.broadcast_to(vector[None, :], shape), (-1,))

    @property
    def _axes(self) -> tuple[int, int]:
        return (1, 0) if self.axis == 0 else (0, self.axis)

    def _moved(self, array: Array) -> Array:
        if self.axis == 1:
            return array
        return array_namespace(array).moveaxis(array, self._axes, (0, 1))

    def _merged(self, moved: Array) -> Array:
        shape = (self.num_samples * self.num_channels, *moved.shape[2:])
        return array_namespace(moved).reshape(moved, shape)


def _is_mergeable(moved: Array) -> bool:
    """Whether the first two axes are one run of memory."""
    num_samples, num_channels = moved.shape[:2]
    return (
        num_samples == 1
        or num_channels == 1
        or bool(moved.strides[0] == num_channels * moved.strides[1])
    )


def _side_by_side(moments: list[Moments], x: Array) -> Moments:
    """Return the moments of several views side by side."""
    if not moments:
        return Moments.empty(0, array_namespace(x))
    if len(moments) == 1:
        return moments[0]
    xp = array_namespace(moments[0].parts)
    return Moments(xp.concat([each.parts for each in moments], axis=1))
