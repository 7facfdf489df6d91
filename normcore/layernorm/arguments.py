"""The arguments of a normalization by samples, checked, on their backend."""

from __future__ import annotations

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import BatchInput, check_eps
from normcore.layout.namespace import Array, array_namespace
from normcore.statistics import Moments

__all__ = ["PerSampleBatch"]


class PerSampleBatch(BatchInput):
    """A batch of which each sample is normalized by itself."""

    __slots__ = ("beta", "eps", "gamma")

    gamma: Array
    beta: Array

    def __init__(
        self, x: Array, eps: float, backend: str | Backend | None, precision: str | None
    ) -> None:
        super().__init__(x, backend, precision)
        self.eps = check_eps(eps)

    def operands(self) -> dict[str, Array]:
        """Return the vectors."""
        return {"gamma": self.gamma, "beta": self.beta}

    def forward(self, out: Array) -> tuple[Array, Moments]:
        """Return y as the caller's kind of array, and the moments that normalized it."""
        raise NotImplementedError

    def vector(self, value: Array, name: str, shape: tuple[int, ...], of: str) -> Array:
        """Return gamma or beta as a float64 vector of the backend's own kind."""
        on_host = type(value) is type(self.x) is np.ndarray
        if on_host and value.dtype == np.float64 and value.shape == shape:
            return value.reshape(-1)
        value = self.parameter(value, name, shape, of)
        return self.backend.adopt(array_namespace(value).reshape(value, (-1,)))

    def on_backend(self, vector: Array) -> Array:
        """Return a vector as float64 of the backend's own kind, beside the data."""
        return self.backend.adopt(self.beside(vector))

    def check_moments(self, moments: object, number: int, what: str) -> Moments:
        """Return moments; refuse what are none, or of another number of samples or groups."""
        if not isinstance(moments, Moments):
            raise TypeError(f"moments must be Moments, not {type(moments).__name__}")
        if moments.num_channels != number:
            raise ValueError(
                f"moments are of {moments.num_channels} {what}, but x of shape "
                f"{tuple(self.x.shape)} has {number}"
            )
        return moments

    def beside_data(self, moments: Moments) -> Moments:
        """Return moments as the backend's, beside the data."""
        return self.backend.moments_of(self.on_backend(moments.parts))
