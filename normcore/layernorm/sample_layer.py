"""What layers that normalize each sample share: parameters, and the latest forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from normcore import layout
from normcore.array_backend.abstract import Backend
from normcore.array_backend.precision import check_precision
from normcore.array_backend.selection import in_order_with
from normcore.batchnorm.arguments import check_eps
from normcore.batchnorm.forward_backward import SavedForward
from normcore.batchnorm.inference import Inference
from normcore.layernorm.arguments import PerSampleBatch
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import as_floats
from normcore.registration.exporting import Exporting
from normcore.statistics import Moments

__all__ = ["SampleLayer"]


class SampleLayer(Exporting):
    """Parameters, the latest forward pass, and what both ask of their arguments."""

    _forward: SavedForward | Inference | None

    def __init__(
        self,
        shape: tuple[int, ...],
        eps: float,
        affine: bool,
        bias: bool,
        backend: str | Backend | None,
        precision: str | None,
    ) -> None:
        self._shape = shape
        self.eps = check_eps(eps)
        self.affine = bool(affine)
        self.bias = bool(affine and bias)
        self.backend = backend
        self.precision = check_precision(precision)
        self._gamma = np.ones(shape) if self.affine else None
        self._beta = np.zeros(shape) if self.bias else None
        self._forward = None

    def __call__(self, x: Array, out: Array = None) -> Array:
        """Return :meth:`forward` of the same arguments."""
        return self.forward(x, out)

    def forward(self, x: Array, out: Array = None) -> Array:
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
        self._check(tuple(x.shape))
        # Copies: an optimizer may change them in place between forward and backward.
        gamma, beta = (None if each is None else each.copy() for each in (self._gamma, self._beta))
        with in_order_with(x, self.backend):
            y, self._forward = self._normalize(x, gamma, beta, out)
        return y

    def backward(self, dy: Array, out: Array = None) -> tuple[Array, ...]:
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
            Of the kind of `dy`; None where there is no such parameter.

        Raises
        ------
        RuntimeError
            If there was no forward pass yet, or the latest one overwrote its input.
        TypeError, ValueError
            If `dy` or `out` have another dtype or shape than the output.
        """
        if self._forward is None:
            name = type(self).__name__
            raise RuntimeError(f"backward needs a forward pass of this {name} first")
        dx, dgamma, dbeta = self._forward.backward(dy, out)
        return dx, dgamma if self.affine else None, dbeta if self.bias else None

    @property
    def gamma(self) -> Array:
        """Scale, or None; may be assigned or changed in place, as an optimizer does."""
        return self._gamma

    @gamma.setter
    def gamma(self, value: ArrayLike) -> None:
        self._gamma = self._parameter("gamma", value, self.affine)

    @property
    def beta(self) -> Array:
        """Shift, or None; may be assigned or changed in place, as an optimizer does."""
        return self._beta

    @beta.setter
    def beta(self, value: ArrayLike) -> None:
        self._beta = self._parameter("beta", value, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_forward": None}

    @property
    def _named_options(self) -> str:
        """The options that are rarely given, as they end a representation."""
        given = {"backend": self.backend, "precision": self.precision}
        return "".join(f", {name}={each!r}" for name, each in given.items() if each is not None)

    def _parameter(self, name: str, value: ArrayLike, present: bool) -> np.ndarray:
        if not present:
            raise ValueError(f"this {type(self).__name__} was made without {name}")
        array = as_floats(name, value)
        if array.shape != self._shape:
            raise ValueError(f"{name} must have shape {self._shape}, got {array.shape}")
        return array

    def _check(self, shape: tuple[int, ...]) -> None:
        """Refuse an input of another shape than the layer's."""
        raise NotImplementedError

    def _batch(self, x: Array, gamma: Array, beta: Array) -> PerSampleBatch:
        """Return a batch with the options of the layer."""
        raise NotImplementedError

    def _observe(self, moments: Moments, backend: Backend) -> None:
        """Update what the layer keeps of the statistics of batches."""

    def _normalize(
        self, x: Array, gamma: Array, beta: Array, out: Array
    ) -> tuple[Array, SavedForward | Inference]:
        """Return y, and what its backward pass needs."""
        batch = self._batch(x, gamma, beta)
        y, moments = batch.forward(out)
        self._observe(moments, batch.backend)
        saved = SavedForward(batch, moments, training=True, update_stats=False)
        saved.note_out(out)
        return y, saved
