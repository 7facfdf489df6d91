"""The abstract array backend: what a library must supply to have every normalizer run on it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import ClassVar, Self

import numpy as np

from normcore.affine import Affine
from normcore.array_backend import rows
from normcore.array_backend.formulas import batch_scale, gradient_vectors
from normcore.array_backend.memory_kernels import MemoryKernels
from normcore.array_backend.status import BackendStatus
from normcore.array_backend.visible import rescale_visible
from normcore.array_backend.whole_calls import WholeCalls
from normcore.layout.infinite_input import InfiniteInput
from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import Brackets, Extrema, Moments, Quantiles, exact_quantiles
from normcore.statistics.statistic import StatisticT

__all__ = [
    "IN_ANY_ORDER",
    "Backend",
    "InfiniteInput",
    "batch_scale",
    "gradient_vectors",
    "is_relu",
]


#: The context of work in the order of the calling thread.
IN_ANY_ORDER: AbstractContextManager[None] = nullcontext()


class Backend(ABC):
    """Kernels over ``(N, C, S)`` views: samples, channels, inner positions.

    A subclass supplies the abstract methods and may override the others where its library has
    something faster; their defaults are written in terms of the required ones. ``x`` is always
    an array of the backend's own kind with any strides; a plane of weights or a mask has shape
    ``(N, S)``, and its strides may be 0. Vectors of length C are float64. Computation is in
    float64 whatever the dtype of ``x``, rounded once at the end.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> backend = nc.get_backend("cpu")
    >>> view = np.arange(6.0).reshape(3, 2, 1)  # (N, C, S)
    >>> backend.moments(view).mean
    array([2., 3.])
    """

    name: ClassVar[str]
    #: Namespace of the arrays of length C that kernels take and return.
    xp: ModuleType = np
    #: A shorter way for what other libraries hold in memory, if there is one.
    memory_kernels: MemoryKernels | None = None
    #: A shorter way from a caller's own arrays to results, if there is one.
    whole_calls: WholeCalls | None = None
    #: A capsule of the functions of ``normcore.h``, for callers in C, if there are any.
    c_functions: object = None

    @classmethod
    def probe(cls) -> BackendStatus:
        """Say whether the backend can run here; called on first use, never at import."""
        return BackendStatus(True)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return itself: kernels, streams and memory are shared by whatever names the backend."""
        return self

    @property
    def native(self) -> Backend | None:
        """A backend of the same arrays that computes in the dtype of the data; None without one.

        It may compute exactly wherever that is no slower, and must be its own ``native``.
        """
        return None

    @abstractmethod
    def adopt(self, array: Array) -> Array:
        """Return ``array`` as the backend's own kind, without a copy where possible.

        Parameters
        ----------
        array : array
            Of any library.

        Raises
        ------
        TypeError
            If its dtype (complex, text, objects) or its device is not the backend's.
        """

    @abstractmethod
    def release(self, array: Array, like: Array) -> Array:
        """Return the backend's ``array``, or NumPy's, as the kind of ``like``, on its device.

        Parameters
        ----------
        array, like : array
        """

    def in_order_with(self, array: Array) -> AbstractContextManager[None]:
        """Return the context of an array's stream and memory, to work in; as for :meth:`adopt`."""
        return IN_ANY_ORDER

    # -- required kernels ------------------------------------------------------------------

    @abstractmethod
    def moments(self, x: Array, *, weights: Array = None, skipna: bool = False) -> Moments:
        """Return the :class:`~normcore.Moments` of each channel.

        Parameters
        ----------
        x : (N, C, S) array
        weights : (N, S) array, optional
            Of float64, how much each position counts; or of bool, whether it does.
        skipna : bool
            Leave NaN out; otherwise NaN and infinity propagate.
        """

    @abstractmethod
    def extrema(self, x: Array, *, skipna: bool = False) -> Extrema:
        """Return the :class:`~normcore.Extrema` of each channel; as for :meth:`moments`."""

    @abstractmethod
    def brackets(
        self, x: Array, lower: Array, upper: Array, *, weights: Array = None, skipna: bool = False
    ) -> Brackets:
        """Count, for R ranks, what lies below, on and between two values of each channel.

        Parameters
        ----------
        x, weights, skipna
            As for :meth:`moments`.
        lower, upper : float64 array of shape (R, C)
            Ends of the brackets, ``lower <= upper``.
        """

    @abstractmethod
    def rescale(
        self,
        x: Array,
        affine: Affine,
        *,
        clip: tuple[float, float] | None = None,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
        refuse_infinite: bool = False,
    ) -> Array:
        """Return ``((x - center) / scale) * gamma + beta``, every operation rounded once.

        Parameters
        ----------
        x : (N, C, S) array
        affine : Affine
            Of scalars or of vectors of length C.
        clip : pair of floats, optional
            Bounds of the result; NaN stays NaN.
        activation : {None, "relu"}
            Applied after the map.
        mask : (N, S) array of bool, optional
            The result is 0 where it is False.
        out : (N, C, S) floating array, optional
            Its dtype decides the final rounding; may be ``x`` itself.
        refuse_infinite : bool
            Raise where an input is infinite; a backend on a device may propagate instead.

        Raises
        ------
        InfiniteInput
            The contents of ``out`` are then undefined.
        """

    @abstractmethod
    def backward_reduce(
        self,
        dy: Array,
        x: Array,
        mean: Array,
        *,
        relu_mask: Affine | None = None,
        mask: Array = None,
    ) -> tuple[Array, Array]:
        """Return ``sum(dy)`` and ``sum(dy * (x - mean))`` of each channel.

        Parameters
        ----------
        dy, x : (N, C, S) array
            The gradient with respect to the result, and the input.
        mean : float64 array of shape (C,)
            What is subtracted from ``x``.
        relu_mask : Affine, optional
            The forward map under a ReLU: ``dy`` counts as 0 where that of x is not positive.
        mask : (N, S) array of bool, optional
            Positions where it is False do not count.
        """

    @abstractmethod
    def backward_elemt(
        self,
        dy: Array,
        x: Array,
        mean: Array,
        a: Array,
        b: Array,
        d: Array,
        *,
        relu_mask: Affine | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> Array:
        """Return ``dx = a * dy - (b + d * (x - mean))``, and 0 where the mask is False.

        Other parameters are as for :meth:`backward_reduce`.

        Parameters
        ----------
        a, b, d : float64 array of shape (C,)
            What the core computes, so that training, frozen and synchronized backward are one.
        out : (N, C, S) array, optional
            May be ``dy`` or ``x`` itself.
        """

    # -- optional forms --------------------------------------------------------------------

    def quantiles(
        self, x: Array, q: Array, *, weights: Array = None, skipna: bool = False
    ) -> Quantiles:
        """Return the exact :class:`~normcore.Quantiles` of each channel; as for :meth:`moments`.

        Parameters
        ----------
        q : float64 array of shape (R,)
            In [0, 1].
        """
        return exact_quantiles.exact(self, x, q, weights=weights, skipna=skipna)

    def rescale_where(
        self,
        x: Array,
        affine: Affine,
        where: Array,
        *,
        clip: tuple[float, float] | None = None,
        out: Array = None,
        refuse_infinite: bool = False,
    ) -> Array:
        """Map floats as :meth:`rescale` does where a mask is True; all else stays, bit for bit.

        Other parameters are as for :meth:`rescale`.

        Parameters
        ----------
        where : (N, C, S) array of bool
            Of any strides, such as 0. Infinite elements where it is False are not refused.
        """
        return rescale_visible(
            self, x, affine, where, clip=clip, out=out, refuse_infinite=refuse_infinite
        )

    def observe_entries(
        self,
        statistic: type[StatisticT],
        values: np.ndarray,
        channels: np.ndarray,
        num_channels: int,
        *,
        weights: np.ndarray | None = None,
    ) -> tuple[StatisticT, np.ndarray] | None:
        """Return the statistic of each channel of a vector on the host, NaN left out.

        Such are the columns of a sparse matrix that is stored by rows.

        Parameters
        ----------
        statistic : type
        values : contiguous array of shape (n,)
            Of float32 or float64.
        channels : contiguous int32 or int64 array of shape (n,)
            The channel of each value.
        num_channels : int
        weights : contiguous float64 array of shape (n,), optional

        Returns
        -------
        Statistic and how many values each channel has, those that are NaN too; or None where there
        is no kernel for these
        """
        return None

    def observe_segments(
        self,
        statistic: type[StatisticT],
        values: np.ndarray,
        starts: np.ndarray,
        *,
        weights: np.ndarray | None = None,
    ) -> StatisticT | None:
        """Return the statistic of each segment of a vector on the host, NaN left out.

        Such are the columns of a sparse matrix: many, and short.

        Parameters
        ----------
        statistic : type
        values : contiguous array of shape (n,)
            Of float32 or float64.
        starts : contiguous int64 array of shape (C + 1,)
            Segment c is ``values[starts[c]:starts[c + 1]]``.
        weights : contiguous float64 array of shape (n,), optional

        Returns
        -------
        Statistic, or None where there is no kernel for these: views are observed then
        """
        return None

    def merge(self, statistic: StatisticT, other: StatisticT) -> StatisticT:
        """Return the statistic of both; one launch on a device instead of many.

        Parameters
        ----------
        statistic, other : Statistic
            Of the same kind and number of channels.
        """
        return statistic.merge(other)

    def normalize(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        *,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> tuple[Array, Moments]:
        """Normalize with the moments of ``x`` itself: batch norm's training forward.

        Other parameters are as for :meth:`rescale`.

        Parameters
        ----------
        gamma, beta : scalar or float64 array of shape (C,)
        eps : float
            Added to the variance.

        Returns
        -------
        y : (N, C, S) array
        moments : Moments
        """
        moments = self.moments(x, weights=mask)
        scale = batch_scale(moments, eps)
        affine = Affine(center=moments.mean, scale=scale, gamma=gamma, beta=beta)
        return self.rescale(x, affine, activation=activation, mask=mask, out=out), moments

    def normalize_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        beta: Array,
        eps: float,
        *,
        training: bool = True,
        activation: str | None = None,
        mask: Array = None,
        out: Array = None,
    ) -> tuple[Array, Array, Array]:
        """Return ``dx``, ``dgamma`` and ``dbeta`` of a forward pass with these moments.

        Other parameters are as for :meth:`normalize`, `dy` and `out` as for :meth:`backward_elemt`.

        Parameters
        ----------
        moments : Moments
        training : bool
            Whether they are those of ``x``, so that the gradient flows through them too.
        """
        mean, scale = moments.mean, batch_scale(moments, eps)
        relu_mask = None
        if activation is not None:
            relu_mask = Affine(center=mean, scale=scale, gamma=gamma, beta=beta)
        sum_dy, sum_dy_xmu = self.backward_reduce(dy, x, mean, relu_mask=relu_mask, mask=mask)
        count = moments.count if training else math.inf
        a, b, d = gradient_vectors(gamma, scale, sum_dy, sum_dy_xmu, count)
        dx = self.backward_elemt(dy, x, mean, a, b, d, relu_mask=relu_mask, mask=mask, out=out)
        return dx, sum_dy_xmu / scale, sum_dy

    def update_running(
        self,
        moments: Moments,
        mean: Array,
        var: Array,
        weight: float | None,
        *,
        ddof: float = 1,
        number: Array = None,
    ) -> None:
        """Move running averages in place: as :meth:`normcore.Moments.running`.

        Parameters
        ----------
        moments, ddof
            Those of the batch, and as for :meth:`normcore.Moments.running`.
        mean, var : array of shape (C,)
            Of any float dtype.
        weight : float or None
            Of this batch; None stands for the reciprocal of `number`.
        number : int64 array of one element, optional
        """
        xp = array_namespace(mean)
        wide = [xp.astype(each, xp.float64) for each in (mean, var)]
        of_batch = 1.0 / float(number) if weight is None else weight
        mean[...], var[...] = moments.running(wide[0], wide[1], of_batch, ddof)

    def moments_apart(self, x: Array) -> Moments:
        """Return the moments of each channel, whose bits do not depend on the other channels.

        As for :meth:`moments`, the default, in which small arrays may be summed in another way.
        """
        return self.moments(x)

    def moments_of(self, parts: Array) -> Moments:
        """Return the moments of a state in this backend's arrays; see :class:`normcore.Moments`."""
        return Moments(parts)

    def normalize_rows(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        *,
        centered: bool = True,
        out: Array = None,
    ) -> tuple[Array, Moments]:
        """Normalize each sample by its own statistics: layer norm, or RMS norm uncentered.

        Parameters
        ----------
        x : array of shape (N, D)
        gamma, beta : scalar or float64 array of shape (D,)
        eps : float
            Added to the variance, or to the mean square.
        centered : bool
            Subtract the mean (layer norm); otherwise divide by the root mean square alone.
        out : array of shape (N, D), optional
            As ``out`` of :meth:`rescale`.

        Returns
        -------
        y : array of shape (N, D)
        moments : Moments
            Of each sample.
        """
        return rows.normalize_rows(self, x, gamma, beta, eps, centered=centered, out=out)

    def normalize_rows_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        eps: float,
        *,
        centered: bool = True,
        out: Array = None,
    ) -> tuple[Array, Array, Array]:
        """Return ``dx``, and ``dgamma`` and ``dbeta`` of shape (D,), of :meth:`normalize_rows`.

        Other parameters are as for :meth:`normalize_rows`.

        Parameters
        ----------
        dy : array of shape (N, D)
        moments : Moments
            What that returned.
        """
        return rows.normalize_rows_backward(
            self, dy, x, moments, gamma, eps, centered=centered, out=out
        )


def is_relu(activation: str | None) -> bool:
    """Whether there is a ReLU.

    Raises
    ------
    ValueError
        If the activation is neither None nor "relu".
    """
    if activation not in (None, "relu"):
        raise ValueError(f"activation must be None or 'relu', not {activation!r}")
    return activation == "relu"
