"""What layers that normalize each sample share: parameters, and the latest forward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from normcore import layout
from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.arguments import check_eps
from normcore.layout import out_argument
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import as_floats
from normcore.statistics import Moments

__all__ = ["Layer", "SavedForward"]


class SavedForward(NamedTuple):
    """What the backward pass needs of the latest forward pass."""

    x: Array
    moments: Moments
    gamma: Array
    training: bool = True


class Layer:
    """Parameters, the latest forward pass, and what both ask of their arguments."""

    _forward: SavedForward | None

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
        self._gamma: Array = np.ones(shape) if self.affine else None
        self._beta: Array = np.zeros(shape) if self.bias else None
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
        chosen = selection.select_backend(x, self.backend)
        self._check(tuple(x.shape))
        # Copies: an optimizer may change them in place between forward and backward.
        gamma, beta = (None if each is None else each.copy() for each in (self._gamma, self._beta))
        y, forward = self._normalize(x, gamma, beta, {"out": out, "backend": chosen})
        in_place = out is not None and out_argument.overlap(chosen.adopt(x), chosen.adopt(out))
        self._forward = forward._replace(x=None) if in_place else forward
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
            chosen = selection.select_backend(forward.x, self.backend)
            if out_argument.overlap(chosen.adopt(forward.x), chosen.adopt(out)):
                self._forward = forward._replace(x=None)
        present = zip(gradients, (self.affine, self.bias), strict=False)
        return dx, *(each if there else None for each, there in present)

    @property
    def gamma(self) -> Array:
        """Scale, or None; may be assigned or changed in place, as an optimizer does."""
        return self._gamma

    @gamma.setter
    def gamma(self, value: Any) -> None:
        self._gamma = self._parameter("gamma", value, self.affine)

    @property
    def beta(self) -> Array:
        """Shift, or None; may be assigned or changed in place, as an optimizer does."""
        return self._beta

    @beta.setter
    def beta(self, value: Any) -> None:
        self._beta = self._parameter("beta", value, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_forward": None}

    @property
    def _named_backend(self) -> str:
        return "" if self.backend is None else f", backend={self.backend!r}"

    def _parameter(self, name: str, value: Any, present: bool) -> np.ndarray:
        if not present:
            raise ValueError(f"this {type(self).__name__} was made without {name}")
        array = as_floats(name, value)
        if array.shape != self._shape:
            raise ValueError(f"{name} must have shape {self._shape}, got {array.shape}")
        return array

    def _check(self, shape: tuple[int, ...]) -> None:
        """Refuse an input of another shape than the layer's."""
        raise NotImplementedError

    def _normalize(
        self, x: Array, gamma: Array, beta: Array, options: dict[str, Any]
    ) -> tuple[Any, SavedForward]:
        """Return y, and what its backward pass needs."""
        raise NotImplementedError

    def _differentiate(
        self, dy: Array, forward: SavedForward, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Return dx and the gradients of all parameters that there may be."""
        raise NotImplementedError
