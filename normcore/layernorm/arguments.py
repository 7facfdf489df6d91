"""The arguments of a normalization by samples, checked, on their backend."""

from __future__ import annotations

import numpy as np

from normcore import layout
from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import Batch, check_eps
from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import Moments

__all__ = ["PerSampleBatch"]


class PerSampleBatch(Batch):
    """A batch of which each sample is normalized by itself.

    Arrays are kept as the backend's own, as :class:`~normcore.batchnorm.arguments.Batch` does,
    whose checks of `out` and of gradients hold here too.
    """

    __slots__ = ()

    def __init__(self, x: Array, eps: float, backend: str | Backend | None) -> None:
        self.given = layout.as_array(x)
        self.backend = selection.select_backend(self.given, backend)
        self.x = self.backend.adopt(self.given)
        self.eps = check_eps(eps)
        self.process_group = None

    def forward(self, out: Array) -> tuple[Array, Moments]:
        """Return y as the caller's kind of array, and the moments that normalized it."""
        raise NotImplementedError

    def backward(
        self, dy: Array, moments: object, training: bool, out: Array
    ) -> tuple[Array, Array, Array]:
        """Return dx, dgamma and dbeta as the caller's kind of array, in training."""
        raise NotImplementedError

    def parameter(self, value: Array, name: str, shape: tuple[int, ...], of: str) -> Array:
        """Return gamma or beta as a float64 vector beside the data; `of` says what has one each."""
        value = layout.as_array(value, what=name)
        if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
            value = np.asarray(value)
            if value.dtype == np.float64 and value.shape == shape and type(self.x) is np.ndarray:
                return value.reshape(-1)
            if value.dtype.kind not in "fiub":
                raise TypeError(f"{name} must be real numbers, got dtype {value.dtype}")
        else:
            value = self.backend.adopt(value)
        if tuple(value.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape}, one entry for each {of}, got {tuple(value.shape)}"
            )
        return self.on_backend(array_namespace(value).reshape(value, (-1,)))

    def on_backend(self, vector: Array) -> Array:
        """Return a vector as float64 of the backend's own kind, beside the data."""
        return self.backend.adopt(self.beside(vector))

    def target(self, out: Array, *inputs: Array) -> Array:
        """Return ``out`` as an array of the backend, after making sure that it can be written."""
        native = self.adopt_out(out, inputs[0])
        if native is not None and any(
            native is not each and not _is_same(native, each) and out_argument.overlap(native, each)
            for each in inputs
        ):
            raise ValueError("out overlaps the input in part; pass the input itself or another one")
        return native

    def statistics(self, moments: object, number: int, what: str) -> Moments:
        """Return the moments of a forward call beside the data."""
        if not isinstance(moments, Moments):
            raise TypeError(f"moments must be Moments, not {type(moments).__name__}")
        if moments.num_channels != number:
            raise ValueError(
                f"moments are of {moments.num_channels} {what}, but x of shape "
                f"{tuple(self.x.shape)} has {number}"
            )
        return Moments(self.on_backend(moments.parts))


def _is_same(a: Array, b: Array) -> bool:
    """Whether two NumPy arrays of one shape are the same memory, element by element."""
    return (
        isinstance(a, np.ndarray)
        and isinstance(b, np.ndarray)
        and a.ctypes.data == b.ctypes.data
        and a.strides == b.strides
        and a.itemsize == b.itemsize
    )
