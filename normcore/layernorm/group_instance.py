"""Group and instance norm: each sample by the statistics of groups of its channels.

With N samples and C channels in G groups, the data is N * G channels for the statistics and N * C
for the map, whose four coefficients are those of the group and of the channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from normcore import layout
from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend, batch_scale
from normcore.array_backend.precision import whole_calls
from normcore.array_backend.selection import in_order_with
from normcore.batchnorm.arguments import check_integer
from normcore.layernorm.arguments import PerSampleBatch
from normcore.layernorm.sample_blocks import Block, mapped
from normcore.layout.namespace import Array, array_namespace, is_on_host
from normcore.statistics import Moments, wide_integers
from normcore.statistics.equal_counts import MomentsOfEqualCounts

__all__ = [
    "GroupBatch",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
]

#: Groups whose moments are a few MB.
_MANY_GROUPS = 1 << 16


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

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.group_norm(x, 1, eps=1e-12)  # one group of both channels
    >>> y
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    return _normalized(x, gamma, beta, num_groups, axis, eps, out, backend, precision)


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
        Float64, of the kind of `dy`; computed whether or not `gamma` and `beta` were given.

    Raises
    ------
    TypeError
        If `dy` or `out` have another dtype than y, or `moments` are none.
    ValueError
        If `dy` or `out` have another shape than `x`, if `moments` are of another number of
        groups, and as for :func:`group_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> y, moments = F.group_norm(x, 1)
    >>> dx, dgamma, dbeta = F.group_norm_backward(np.ones_like(y), x, moments, 1)
    >>> dbeta
    array([2., 2.])
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
    """Normalize each channel of each sample: :func:`group_norm` with one channel to a group.

    Parameters
    ----------
    x, gamma, beta, axis, eps, out, backend, precision
        As for :func:`group_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> y, moments = F.instance_norm(np.array([[[0.0, 2.0], [1.0, 5.0]]]), eps=1e-12)
    >>> y
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    return _normalized(x, gamma, beta, None, axis, eps, out, backend, precision)


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
    """Gradients of :func:`instance_norm`; as those of :func:`group_norm_backward`.

    Parameters
    ----------
    dy, x, moments, gamma, axis, eps, out, backend, precision
        As for :func:`group_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[[0.0, 2.0], [1.0, 5.0]]])
    >>> y, moments = F.instance_norm(x)
    >>> dx, dgamma, dbeta = F.instance_norm_backward(np.ones_like(y), x, moments)
    >>> dbeta
    array([2., 2.])
    """
    with in_order_with(x, backend):
        batch = GroupBatch(x, gamma, None, None, axis, eps, backend, precision)
        return batch.backward(dy, moments, True, out)


def _normalized(
    x: Array,
    gamma: Array,
    beta: Array,
    num_groups: int | None,
    axis: int,
    eps: float,
    out: Array,
    backend: str | Backend | None,
    precision: str | None,
) -> tuple[Array, Moments]:
    whole = whole_calls(x, backend, precision)
    if whole is not None:
        done = whole.group_norm(x, gamma, beta, num_groups, axis, eps, out)
        if done is not None:
            return done
    with in_order_with(x, backend):
        return GroupBatch(x, gamma, beta, num_groups, axis, eps, backend, precision).forward(out)


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
        if self.num_groups > 0 and self.num_channels == 0:
            raise ValueError(
                f"x of shape {shape} has no channels on axis {axis}, which num_groups={num_groups} "
                "could divide"
            )
        if self.num_groups < 0 or (self.num_groups == 0 and self.num_channels > 0):
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
        target = self.adopt_out(out, self.x)
        beta = self._channels(None, "beta", 0.0) if self.beta is None else self.beta
        moments = _Collected(math.prod(self.x.shape), self.num_samples * self.num_groups)

        def kernel(block: Block, x: Array, out: Array) -> Array:
            in_groups = array_namespace(x).reshape(x, (-1, self.per_group, *x.shape[1:]))
            found = over_views.observe(self.backend.moments_apart, in_groups, 0)
            moments.add(found)
            affine = Affine(
                center=self._of_channels(found.mean),
                scale=self._of_channels(batch_scale(found, self.eps)),
                gamma=_of_samples(self.gamma, block),
                beta=_of_samples(beta, block),
            )
            return over_views.rescale(self.backend, x, affine, 0, out=out)

        y = mapped(kernel, (self.x,), target, self._axes, self.per_group)
        y = self.backend.release(y, self.given) if out is None else out
        return y, moments.side_by_side(self.x)

    def backward(
        self, dy: Array, moments: object, training: bool, out: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta as the caller's kind of array, in training."""
        gamma, backend = self.gamma, self.backend
        dy = layout.as_array(dy, what="dy", beside=self.given)
        upstream = self.adopt_gradient(dy)
        number = self.num_samples * self.num_groups
        checked = self.check_moments(moments, number, "groups")
        made = isinstance(checked, MomentsOfEqualCounts)  # of which no caller has the memory
        target = self.adopt_out(out, upstream, moments=None if made else checked.parts)
        mean_and_scale = self._mean_and_scale(checked)
        count = math.prod(self.x.shape) / max(number, 1)
        xp = array_namespace(gamma)
        dgamma, dbeta = xp.zeros_like(gamma), xp.zeros_like(gamma)

        def kernel(block: Block, dy: Array, x: Array, out: Array) -> Array:
            nonlocal dgamma, dbeta
            mu, sigma = map(self._of_channels, mean_and_scale(self._groups_of(block)))
            weight = _of_samples(gamma, block)
            wide_integers.refuse_rounded(x, 0, mu, sigma)
            sum_dy, sum_dy_xmu = 0.0, 0.0
            for dy_view, x_view in layout.views(0, dy, x):
                found = backend.backward_reduce(dy_view, x_view, mu)
                sum_dy, sum_dy_xmu = sum_dy + found[0], sum_dy_xmu + found[1]
            dgamma = _added(dgamma, block, _over_samples(sum_dy_xmu / sigma, block))
            dbeta = _added(dbeta, block, _over_samples(sum_dy, block))
            # With g = gamma * dy: dx = (g - mean(g) - xhat * mean(g * xhat)) / scale in a group.
            mean_g, mean_g_xmu = (
                self._of_channels(self._over_groups(weight * each)) / count
                for each in (sum_dy, sum_dy_xmu)
            )
            a, b, d = weight / sigma, mean_g / sigma, mean_g_xmu / sigma / (sigma * sigma)

            def gradient(dy: Array, x: Array, **planes: Array) -> Array:
                return backend.backward_elemt(dy, x, mu, a, b, d, **planes)

            return over_views.elementwise(gradient, 0, dy, x, out=out)

        with np.errstate(all="ignore"):  # what is not finite propagates
            dx = mapped(kernel, (upstream, self.x), target, self._axes, self.per_group)
        dx = backend.release(dx, dy) if out is None else out
        return dx, backend.release(dgamma, dy), backend.release(dbeta, dy)

    def _mean_and_scale(self, moments: Moments) -> Callable[[slice], tuple[Array, Array]]:
        """Return what gives the mean and the scale of some groups, beside the data."""
        if is_on_host(self.x):

            def of_groups(groups: slice) -> tuple[Array, Array]:
                part = self.beside_data(moments.select(groups))
                return part.mean, batch_scale(part, self.eps)

            return of_groups
        whole = self.beside_data(moments)
        mean, scale = whole.mean, batch_scale(whole, self.eps)
        return lambda groups: (mean[groups], scale[groups])

    def _groups_of(self, block: Block) -> slice:
        """Return which groups are in a block, counted over all samples."""
        samples, channels = block
        if block.num_samples == 1:
            first = samples.start * self.num_groups
            return slice(
                first + channels.start // self.per_group, first + channels.stop // self.per_group
            )
        return slice(samples.start * self.num_groups, samples.stop * self.num_groups)

    def _channels(self, value: Array, name: str, absent: float) -> Array:
        """Return gamma or beta as a vector over channels."""
        if value is None:
            return self.on_backend(np.full(self.num_channels, absent))
        return self.vector(value, name, (self.num_channels,), "channel")

    def _over_groups(self, vector: Array) -> Array:
        """Sum a vector over samples * C within groups."""
        xp = array_namespace(vector)
        return xp.sum(xp.reshape(vector, (-1, self.per_group)), axis=1)

    def _of_channels(self, vector: Array) -> Array:
        """Repeat a vector over groups for each of their channels."""
        xp = array_namespace(vector)
        shape = (vector.shape[0], self.per_group)
        return xp.reshape(xp.broadcast_to(vector[:, None], shape), (-1,))

    @property
    def _axes(self) -> tuple[int, int]:
        """The axes of samples and of channels."""
        return (1, 0) if self.axis == 0 else (0, self.axis)


def _of_samples(vector: Array, block: Block) -> Array:
    """Repeat a vector over channels for each sample of a block."""
    if block.channels.stop - block.channels.start < vector.shape[0]:
        vector = vector[block.channels]
    if block.num_samples == 1:
        return vector
    xp = array_namespace(vector)
    shape = (block.num_samples, vector.shape[0])
    return xp.reshape(xp.broadcast_to(vector[None, :], shape), (-1,))


def _over_samples(vector: Array, block: Block) -> Array:
    """Sum a vector over the channels of samples within channels."""
    xp = array_namespace(vector)
    return xp.sum(xp.reshape(vector, (block.num_samples, -1)), axis=0)


def _added(total: Array, block: Block, part: Array) -> Array:
    """Add to the channels of a block; in place only where they are not all."""
    if total.shape == part.shape:
        return total + part
    total[block.channels] += part
    return total


class _Collected:
    """The moments of groups, block by block; where they are many, in less memory than their own."""

    def __init__(self, num_values: int, num_groups: int) -> None:
        self._count, self._number = num_values / max(num_groups, 1), num_groups
        self._blocks: list[Moments] = []
        self._all: MomentsOfEqualCounts | None = None
        self._next = 0

    def add(self, moments: Moments) -> None:
        """Add those of the groups that come next."""
        if self._number > _MANY_GROUPS and isinstance(moments.parts, np.ndarray):
            if self._all is None:
                self._all = MomentsOfEqualCounts(self._count, self._number)
            self._all.put(self._next, moments)
            self._next += moments.num_channels
        else:
            self._blocks.append(moments)

    def side_by_side(self, x: Array) -> Moments:
        """Return those of all groups, of the library of ``x``."""
        if self._all is not None:
            return self._all
        xp = array_namespace(x)
        if len(self._blocks) < 2:
            return self._blocks[0] if self._blocks else Moments.empty(0, xp)
        xp = array_namespace(self._blocks[0].parts)
        return Moments(xp.concat([each.parts for each in self._blocks], axis=1))
