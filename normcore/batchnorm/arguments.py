"""A batch and what normalizes it: the arguments of batch norm, checked, on their backend."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from copy import copy
from typing import Self, SupportsIndex

import numpy as np

from normcore import layout
from normcore.affine import Affine
from normcore.array_backend import over_views, selection
from normcore.array_backend.abstract import Backend, batch_scale, is_relu
from normcore.array_backend.composite import CompositeKernels
from normcore.array_backend.precision import in_precision
from normcore.distributed.communicator import ProcessGroup
from normcore.layout import numpy_views, out_argument
from normcore.layout.bfloat16 import cast, is_real
from normcore.layout.namespace import Array, array_namespace, is_on_host, to_numpy
from normcore.layout.scalar_argument import as_float
from normcore.statistics import Moments, wide_integers

__all__ = ["Batch", "BatchInput", "check_eps", "check_integer"]

_FLOAT64 = np.dtype(np.float64)


class BatchInput:
    """An input, and checks of what stands beside it.

    Arrays are kept as the backend's own, and vectors in float64.
    """

    __slots__ = ("backend", "given", "process_group", "x")

    def __init__(
        self, x: Array, backend: str | Backend | None, precision: str | None = None
    ) -> None:
        self.given = layout.as_array(x)
        self.backend = in_precision(selection.select_backend(self.given, backend), precision)
        self.x = self.backend.adopt(self.given)
        #: What has the kernels of all ranks, where the batch is a part of theirs.
        self.process_group: ProcessGroup | None = None

    def backward(
        self, dy: Array, moments: object, training: bool, out: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta as the caller's kind of array."""
        raise NotImplementedError

    def parameter(
        self, value: Array, name: str, shape: tuple[int, ...], of: str, narrow: bool = False
    ) -> Array:
        """Return numbers, named in errors, of which each ``of`` has one, beside the batch."""
        value = layout.as_array(value, what=name)
        if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
            value = np.asarray(value)
            if not is_real(value.dtype):
                raise TypeError(f"{name} must be real numbers, got dtype {value.dtype}")
        elif isinstance(self.x, np.ndarray) and not is_on_host(value):
            value = to_numpy(value)
        else:
            value = self.backend.adopt(value)
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape}, one entry for each {of}, got {tuple(value.shape)}"
            )
        on_host = isinstance(value, np.ndarray) or isinstance(self.x, np.ndarray)
        narrow = narrow and not on_host and layout.is_strided(value)
        if narrow and value.dtype == array_namespace(value).float32:
            return value
        return self.beside(value)

    def beside(self, value: Array) -> Array:
        """Return a vector as float64 of the library and on the device of the batch."""
        xp = array_namespace(self.x)
        if xp is np:
            value = to_numpy(value)
            return value if value.dtype == _FLOAT64 else cast(value, _FLOAT64)
        if isinstance(value, np.ndarray):
            return self.backend.release(cast(value, _FLOAT64), self.x)
        if type(value) is not type(self.x):
            value = self.backend.adopt(value)
        return value if value.dtype == xp.float64 else xp.astype(value, xp.float64)

    def adopt_out(self, out: Array, like: Array, **vectors: Array) -> Array:
        """Return ``out`` as an array of the backend that shares its memory, of x's as a whole.

        `vectors` are those that the kernel reads beside the batch's own, by their names.
        """
        if out is None:
            return None
        if not hasattr(out, "dtype"):
            raise TypeError(f"out must be an array, not {type(out).__name__}")
        layout.as_array(out, what="out", beside=self.given)
        native = self.backend.adopt(out)
        inputs = (like,) if like is self.x else (like, self.x)
        if native is out and numpy_views.fits(out, inputs):
            out_argument.refuse_shared_memory(out, **self.operands(), **vectors)
            return out
        out_argument.check_out(native, like)
        if isinstance(out, np.ndarray) and out.size and not np.may_share_memory(native, out):
            raise TypeError(
                f"out has dtype {out.dtype}, which results cannot be written to directly"
            )
        out_argument.refuse_partial_overlap(native, *inputs)
        out_argument.refuse_shared_memory(native, **self.operands(), **vectors)
        return native

    def operands(self) -> dict[str, Array]:
        """Return what kernels read beside arrays of the shape of `x`, by their names."""
        return {}

    def adopt_gradient(self, dy: Array) -> Array:
        """Return the gradient of the output as an array of the backend."""
        native = self.backend.adopt(dy)
        if tuple(native.shape) != tuple(self.x.shape):
            raise ValueError(f"dy has shape {tuple(native.shape)}, but x has {tuple(self.x.shape)}")
        if out_argument.result_dtype(native) != out_argument.result_dtype(self.x):
            raise TypeError(
                f"dy has dtype {native.dtype}, but the output that it is the gradient of has "
                f"{out_argument.result_dtype(self.x)}"
            )
        return native

    def release(self, y: Array, out: Array) -> Array:
        """Return the caller's ``out``, or else the result as the caller's kind of array."""
        return self.backend.release(y, self.given) if out is None else out


class Batch(BatchInput):
    """The arguments that forward, inference and backward share.

    Parameters are those of :func:`normcore.functional.batch_norm`, which says what is raised;
    gamma and beta are float64 vectors or scalars.
    """

    __slots__ = (
        "activation", "axis", "beta", "eps", "gamma", "mask", "num_channels",
    )  # fmt: skip

    def __init__(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        *,
        axis: int,
        eps: float,
        activation: str | None,
        mask: Array,
        backend: str | Backend | None,
        precision: str | None = None,
        num_features: int | None = None,
    ) -> None:
        super().__init__(x, backend, precision)
        shape = self.x.shape
        if len(shape) < 2:
            raise ValueError(
                f"batch normalization needs at least 2 dimensions, but x has shape {tuple(shape)}"
            )
        self.axis = layout.positive_axis(axis, len(shape))
        self.num_channels = int(shape[self.axis])
        if num_features is not None and self.num_channels != num_features:
            raise ValueError(
                f"x has {self.num_channels} channels on axis {axis} (its shape is "
                f"{tuple(shape)}), but this BatchNorm has num_features={num_features}"
            )
        self.eps = check_eps(eps)
        self.activation = activation if is_relu(activation) else None
        self.gamma = 1.0 if gamma is None else self.vector(gamma, "gamma", narrow=True)
        self.beta = 0.0 if beta is None else self.vector(beta, "beta", narrow=True)
        self.mask: Array = None
        if mask is not None:
            mask = layout.as_array(mask, what="mask", beside=self.given)
            if not isinstance(mask, np.ndarray):
                mask = self.backend.adopt(mask)
            if not _is_bool(mask):
                raise TypeError(f"mask must be an array of bool, got dtype {mask.dtype}")
            self.mask = self.backend.adopt(mask)

    def operands(self) -> dict[str, Array]:
        """Return the mask and the vectors."""
        return {"mask": self.mask, "gamma": self.gamma, "beta": self.beta}

    def vector(self, value: Array, name: str, *, narrow: bool = False) -> Array:
        """Return one number for each channel, named in errors, as a vector beside the batch.

        One of float32 may stay so on a device where `narrow`; it is widened where it is used.
        """
        return self.parameter(value, name, (self.num_channels,), "channel", narrow)

    def join(self, process_group: ProcessGroup | None) -> None:
        """Have the batch normalized with those of other processes, if there are any."""
        if process_group is not None:
            self.process_group = process_group.bind(self.backend, self.axis)

    def is_empty(self) -> bool:
        """Whether there is no value at all, masked ones included; never where ranks may have."""
        return 0 in self.x.shape and self.process_group is None

    def count(self) -> int:
        """Return the number of values of a channel; of a mask on a device, as if it were True."""
        shape = self.x.shape
        positions = math.prod(shape[: self.axis]) * math.prod(shape[self.axis + 1 :])
        if self.mask is not None and self.num_channels > 0 and is_on_host(self.mask):
            mask = to_numpy(self.mask)
            layout.broadcast_plane(mask, np.broadcast_to(False, shape), self.axis, "mask")
            return int(np.count_nonzero(mask)) * (positions // max(mask.size, 1))
        return positions

    def refuse_single_values(self, single: str = "error") -> None:
        """Refuse batches without a variance, but not empty ones; never waits for a device.

        With ``single="skip"`` one value is enough.
        """
        count = self.count()
        if count < (2 if single == "error" else 1) and not self.is_empty():
            raise ValueError(
                "training needs at least 2 values in each channel to take a variance of, but x of "
                f"shape {tuple(self.x.shape)} has {count} on axis {self.axis}"
                + (" under the mask" if self.mask is not None else "")
            )

    @property
    def sample_axis(self) -> int:
        """The axis that counts the samples: the first one that is not the channels'."""
        return 1 if self.axis == 0 else 0

    def samples(self, chosen: slice) -> Self:
        """Return the batch of some of the samples, which are views of this one's."""
        part = copy(self)
        part.x = part.given = self.x[self.of_samples(chosen)]
        if self.mask is not None:
            part.mask = self.mask[chosen, ...]
        return part

    def of_samples(self, chosen: slice) -> tuple[Array, ...]:
        """Return what picks these samples out of an array of the shape of `x`."""
        return (slice(None),) * self.sample_axis + (chosen, ...)

    def rescale(self, mean: Array, var: Array, out: Array) -> Array:
        """Normalize with given statistics, vectors beside the batch."""
        scale = array_namespace(var).sqrt(var + self.eps)
        affine = Affine(center=mean, scale=scale, gamma=self.gamma, beta=self.beta)
        return over_views.rescale(
            self.backend, self.x, affine, self.axis,
            out=out, mask=self.mask, activation=self.activation,
        )  # fmt: skip

    def normalize(self, out: Array) -> tuple[Array, Moments]:
        """Normalize with the statistics of the batch; return y and the statistics."""
        given, activation = (self.gamma, self.beta, self.eps), self.activation
        composite, out = self._composite(self.x, out=out)
        if composite is not None:
            return composite.normalize(
                self.x, *given, activation=activation, mask=self.mask, out=out
            )

        def kernel(x: Array, **planes: Array) -> tuple[Array, ...]:
            return self.backend.normalize(x, *given, activation=activation, **planes)

        y, moments = self._in_one_go(kernel, self.x, out=out)
        self._refuse_rounded(moments)
        return y, moments

    def backward(
        self, dy: Array, moments: object, training: bool, out: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta as the caller's kind of array.

        See :func:`normcore.functional.batch_norm_backward`.
        """
        dy = layout.as_array(dy, what="dy", beside=self.given)
        upstream = self.adopt_gradient(dy)
        checked = self.check_moments(moments)
        target = self.adopt_out(out, upstream, moments=checked.parts)
        dx, dgamma, dbeta = self._gradients(upstream, checked, training, target)
        release = self.backend.release
        return release(dx, dy) if out is None else out, release(dgamma, dy), release(dbeta, dy)

    def check_moments(self, moments: object) -> Moments:
        """Return moments; refuse what are none, or of another number of channels."""
        if not isinstance(moments, Moments):
            raise TypeError(f"moments must be Moments, not {type(moments).__name__}")
        if moments.num_channels != self.num_channels:
            raise ValueError(
                f"moments are of {moments.num_channels} channels, but x has {self.num_channels} "
                f"on axis {self.axis}"
            )
        return moments

    def _gradients(
        self, dy: Array, moments: Moments, training: bool, out: Array
    ) -> tuple[Array, ...]:
        if self.is_empty():
            xp = array_namespace(self.x)
            zeros = self.beside(np.zeros((2, self.num_channels)))
            return xp.empty_like(dy) if out is None else out, zeros[0, ...], zeros[1, ...]
        moments = Moments(self.beside(moments.parts))
        self._refuse_rounded(moments)
        given, activation = (moments, self.gamma, self.beta, self.eps), self.activation
        composite, out = self._composite(dy, self.x, out=out)
        if composite is not None:
            return composite.normalize_backward(
                dy, self.x, *given, training=training, activation=activation, mask=self.mask,
                out=out,
            )  # fmt: skip

        def kernel(dy: Array, x: Array, **planes: Array) -> tuple[Array, ...]:
            return self.backend.normalize_backward(
                dy, x, *given, training=training, activation=activation, **planes
            )

        return self._in_one_go(kernel, dy, self.x, out=out)

    def _refuse_rounded(self, moments: Moments) -> None:
        """Refuse integers of which float64 would lose digits that matter."""
        if wide_integers.is_64_bit(self.x) and is_on_host(self.x):
            scale = batch_scale(moments, self.eps)
            wide_integers.refuse_rounded(self.x, self.axis, moments.mean, scale)

    def _composite(self, *arrays: Array, out: Array) -> tuple[CompositeKernels | None, Array]:
        """Return the kernels of arrays that are several views, or a part, or None for one view;
        and what they write to, if that is known.
        """
        if self.process_group is not None:
            return self.process_group, out
        out, is_single_view = layout.single_view_out(self.axis, *arrays, out=out, mask=self.mask)
        return None if is_single_view else CompositeKernels(self.backend, self.axis), out

    def _in_one_go(
        self, kernel: Callable[..., tuple[Array, ...]], *arrays: Array, out: Array
    ) -> tuple[Array, ...]:
        """Call a kernel that returns more than its result on arrays that are one view."""
        more: list[Array] = []

        def result(*views: Array, **planes: Array) -> Array:
            y, *more[:] = kernel(*views, **planes)
            return y

        axis, mask = self.axis, self.mask
        if out is None or isinstance(out, np.ndarray) or not layout.is_strided(out):
            return over_views.elementwise(result, axis, *arrays, mask=mask, out=out), *more
        # Adopted or fresh, so that it fits; to check it again would take longer than the kernel.
        x = arrays[0]
        planes = () if mask is None else (layout.broadcast_plane(mask, x, axis, "mask"),)
        return over_views.write(result, axis, arrays, planes, out), *more


def check_eps(eps: object) -> float:
    """Return ``eps``, after making sure that it is a finite number and not negative."""
    value = as_float("eps", eps)
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"eps must be positive or zero, and finite, got {eps!r}")
    return value


def check_integer(name: str, value: SupportsIndex) -> int:
    """Return an integer argument.

    Raises
    ------
    TypeError
        If it is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def _is_bool(mask: Array) -> bool:
    if isinstance(mask, np.ndarray):
        return mask.dtype.kind == "b"
    return bool(array_namespace(mask).isdtype(mask.dtype, "bool"))
